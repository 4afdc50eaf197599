/**
 * An adapter's folder made of plain PEFT folders, one a context. Their files are taken as they are, byte for byte, so that nothing is
 * lost on the way in or out; what is new is the manifest, which ties them to the backbone that they were checked against.
 */
import { stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type { BackboneDescription } from '../backbone/backbone.js';
import { AppError } from '../errors.js';
import { Faults } from '../tensor/faults.js';
import type { LoadedAdapter, Method } from './adapter.js';
import { FileFaults } from './faults.js';
import { MAX_JSON_BYTES, MAX_TENSOR_BYTES, readFile } from './file.js';
import { checkAdapter, readAdapter } from './format.js';
import { ALL_CONTEXTS, CONFIG_FILE, MANIFEST_FILE, PROJECTOR_FILE, TENSORS_FILE } from './manifest.js';
import { parsePeftConfig } from './peft.js';
import { backboneNotes, encodeManifest, publishFiles } from './write.js';

export interface ImportOptions {
  /** The PEFT folder of each context, or of `all` alone. */
  readonly sources: ReadonlyMap<string, string>;
  /** An adapter of the same backbone whose projector is taken; without it the new one has none. */
  readonly projectorFrom?: string | undefined;
  readonly task?: string | undefined;
  readonly prompt?: string | undefined;
}

/**
 * Makes the adapter, checks it in full, and only then writes it. Throws AppError `adapter_invalid` with every fault, under the names
 * of the files that it read.
 */
export async function importAdapter(
  folder: string,
  backbone: BackboneDescription,
  options: ImportOptions,
): Promise<LoadedAdapter> {
  const name = basename(resolve(folder));
  const { target } = backbone;
  const faults = new Faults();
  const order = [...target.contexts, ALL_CONTEXTS];
  const sources = [...options.sources].sort(([a], [b]) => order.indexOf(a) - order.indexOf(b));
  const files = new Map<string, Uint8Array>();
  let method: Method | undefined;
  for (const [context, source] of sources) {
    const read = await readSource(source, faults);
    if (read === undefined) continue;
    // The first decides; another that differs is refused with the manifest.
    method ??= read.method;
    files.set(`${context}/${CONFIG_FILE}`, read.config);
    files.set(`${context}/${TENSORS_FILE}`, read.tensors);
  }
  faults.check('adapter_invalid', `adapter ${name}`);
  if (method === undefined) throw new RangeError('Expected a PEFT folder at least but received none');

  const projector = options.projectorFrom === undefined ? undefined : await readProjector(options.projectorFrom, backbone);
  if (projector !== undefined) files.set(PROJECTOR_FILE, projector);
  const hasProjector = projector !== undefined;
  const manifest = encodeManifest(name, {
    ...(await backboneNotes(backbone, hasProjector)),
    ...(options.task === undefined ? {} : { task: options.task }),
    prompt: options.prompt ?? '',
    method,
    contexts: sources.map(([context]) => context),
    hasProjector,
  });
  files.set(MANIFEST_FILE, manifest);
  const adapter = await checkAdapter(name, files, target).catch((error: unknown) => {
    throw underSourceNames(error, name, options.sources);
  });
  await publishFiles(folder, files);
  return adapter;
}

interface Source {
  readonly method: Method;
  readonly config: Uint8Array;
  readonly tensors: Uint8Array;
}

/** Undefined, always with a fault that names the folder, where it is no PEFT adapter that can be read. */
async function readSource(folder: string, all: Faults): Promise<Source | undefined> {
  const read = async (file: string, maxBytes: number): Promise<Uint8Array | undefined> => {
    const faults = new FileFaults(join(folder, file), all);
    try {
      const content = await readFile(join(folder, file), maxBytes);
      if (content === undefined) faults.add(`Expected a file but received none${await hint(folder, file)}`);
      return content;
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      faults.add(error.message);
      return undefined;
    }
  };
  const config = await read(CONFIG_FILE, MAX_JSON_BYTES);
  const tensors = await read(TENSORS_FILE, MAX_TENSOR_BYTES);
  const parsed = config && parsePeftConfig(config, null, new FileFaults(join(folder, CONFIG_FILE), all));
  return parsed && config && tensors && { method: parsed.method, config, tensors };
}

/** What else is there that explains why a file is not. */
async function hint(folder: string, file: string): Promise<string> {
  const has = async (other: string) => (await stat(join(folder, other)).catch(() => undefined)) !== undefined;
  if (file === TENSORS_FILE && (await has('adapter_model.bin')))
    return ' (adapter_model.bin is pickle, which can run any program and is never read: save it as safetensors)';
  if (file === CONFIG_FILE && (await has(MANIFEST_FILE)))
    return ` (${MANIFEST_FILE} makes it an adapter of ours: PEFT folders are those inside it, one a context)`;
  return '';
}

/** The bytes of an adapter's projector, once all of that adapter is known to fit the backbone. */
async function readProjector(folder: string, { target }: BackboneDescription): Promise<Uint8Array> {
  const { projector } = await readAdapter(resolve(folder), target);
  const bytes = projector && (await readFile(join(folder, PROJECTOR_FILE), MAX_TENSOR_BYTES));
  if (bytes) return bytes;
  throw AppError.ofFaults('adapter_invalid', folder, [`Expected an adapter with ${PROJECTOR_FILE} but received one without`]);
}

/** Faults of files that are not written yet, under the names of those that they come from. */
function underSourceNames(error: unknown, name: string, sources: ReadonlyMap<string, string>): unknown {
  if (!(error instanceof AppError) || error.faults === undefined) return error;
  const renamed = error.faults.map((fault) => {
    const [, context = '', rest = ''] = /^([^/:]+)\/(.*)$/s.exec(fault) ?? [];
    const source = sources.get(context);
    return source === undefined ? fault : join(source, rest);
  });
  return AppError.ofFaults(error.code, `adapter ${name}`, renamed, { cause: error });
}
