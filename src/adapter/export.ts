/**
 * Plain PEFT folders made of an adapter, one a context, for whoever runs transformers. Configuration and tensors are copied byte for
 * byte: importing them again gives the same ones. What PEFT has no place for, the manifest and the projector, stays behind.
 */
import { resolve } from 'node:path';
import type { AdapterTarget } from '../backbone/module.js';
import { AppError } from '../errors.js';
import type { Method } from './adapter.js';
import { readAlone } from './alone.js';
import { checkAdapter } from './format.js';
import { CONFIG_FILE, TENSORS_FILE } from './manifest.js';
import { publishFiles } from './write.js';

export interface Exported {
  readonly name: string;
  readonly method: Method;
  /** Each context's folder, relative to the one that was written: `.` where there is one context only. */
  readonly folders: ReadonlyMap<string, string>;
  /** There is a projector, which stayed behind. */
  readonly hasProjector: boolean;
}

/**
 * Writes the folder of an adapter that was checked by itself, and against a backbone where there is one.
 * Throws AppError `adapter_invalid` with every fault, and where the adapter has no group.
 */
export async function exportAdapter(folder: string, out: string, target?: AdapterTarget): Promise<Exported> {
  const { name, method, files, groups, projector } = await readAlone(resolve(folder));
  if (target !== undefined) await checkAdapter(name, files, target);
  if (groups.length === 0) {
    const fault = `Expected an adapter with parameters for a context but received one of method ${method}, which has a projector only`;
    throw AppError.ofFaults('adapter_invalid', `adapter ${name}`, [fault]);
  }
  const folders = new Map(groups.map(({ paths: { context } }) => [context, groups.length === 1 ? '.' : context]));
  const written = new Map<string, Uint8Array>();
  for (const { paths } of groups) {
    const prefix = groups.length === 1 ? '' : `${paths.context}/`;
    for (const [from, to] of [
      [paths.config, CONFIG_FILE],
      [paths.tensors, TENSORS_FILE],
    ] as const) {
      const content = files.get(from);
      if (content !== undefined) written.set(`${prefix}${to}`, content);
    }
  }
  await publishFiles(out, written);
  return { name, method, folders, hasProjector: projector !== null };
}
