/**
 * Plain PEFT folders made of an adapter, one a context, for whoever runs transformers. Configuration and tensors are copied byte for
 * byte: importing them again gives the same ones. What PEFT has no place for, the manifest and the projector, stays behind. Or one context's LoRA
 * as llama.cpp's file, in the same numbers.
 */
import { resolve } from 'node:path';
import type { BackboneDescription } from '../backbone/backbone.js';
import type { AdapterTarget, LinearModule } from '../backbone/module.js';
import { AppError } from '../errors.js';
import { Faults } from '../tensor/faults.js';
import { replaceFile } from '../tensor/folder.js';
import type { Tensor } from '../tensor/tensor.js';
import type { Method } from './adapter.js';
import { readAlone } from './alone.js';
import { checkAdapter } from './format.js';
import { encodeGgufLora, type ScaledLora } from './gguf.js';
import { partOf } from './group.js';
import { ALL_CONTEXTS, CONFIG_FILE, TENSORS_FILE } from './manifest.js';
import type { LoraConfig } from './peft.js';
import { matchPattern } from './targets.js';
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

export interface ExportedFile {
  readonly name: string;
  /** The group that was written: the context's own, or the one of all. */
  readonly context: string;
  readonly modules: number;
  /** What else the adapter has. */
  readonly left: readonly string[];
}

/** Writes one context's LoRA as a GGUF file. Throws AppError `adapter_invalid` with every fault, and where it is none that the file can hold. */
export async function exportGguf(
  folder: string,
  context: string,
  backbone: BackboneDescription,
  out: string,
): Promise<ExportedFile> {
  const { name, method, files, groups, projector } = await readAlone(resolve(folder));
  await checkAdapter(name, files, backbone.target);
  const subject = `adapter ${name}`;
  const group = groups.find(({ paths }) => paths.context === context || paths.context === ALL_CONTEXTS);
  const has = groups.map(({ paths }) => paths.context).join(' and ') || 'none';
  if (group === undefined || group.config.method !== 'lora')
    throw AppError.ofFaults('adapter_invalid', subject, [`Expected a LoRA for ${context} but received ${method} for ${has}`]);
  const lora = scaledLora(group.config, group.tensors, backbone.target.modules);
  await replaceFile(resolve(out), encodeGgufLora(name, lora, backbone));
  const left = [
    ...groups.filter((each) => each !== group).map((each) => `the parameters for ${each.paths.context}`),
    ...(projector ? ['the projector'] : []),
  ];
  return { name, context: group.paths.context, modules: lora.size, left };
}

/** Of a group whose files are known to be in order. */
function scaledLora(config: LoraConfig, tensors: ReadonlyMap<string, Tensor>, modules: readonly LinearModule[]): ScaledLora {
  const alphaOf = matchPattern(config.alphaPattern, config.alpha, modules, 'alpha_pattern', new Faults());
  const parts = new Map([...tensors].map(([name, tensor]) => [Object.values(partOf('lora', name) ?? {}).join(' '), tensor]));
  const found = new Map<string, { a: Tensor; b: Tensor; alpha: number }>();
  for (const module of modules) {
    const [a, b] = [parts.get(`${module.name} lora_A`), parts.get(`${module.name} lora_B`)];
    const alpha = alphaOf(module) * (config.rankStabilized ? Math.sqrt(a?.shape[0] ?? 1) : 1);
    if (a && b) found.set(module.name, { a, b, alpha });
  }
  return found;
}
