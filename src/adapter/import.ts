/**
 * An adapter's folder made of plain PEFT folders, one a context. Their files are taken as they are, byte for byte, so that nothing is
 * lost on the way in or out; what is new is the manifest, which ties them to the backbone that they were checked against. In place of a
 * folder there may be a file of llama.cpp's, which becomes one.
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
import { readGgufLora } from './gguf.js';
import { ALL_CONTEXTS, CONFIG_FILE, MANIFEST_FILE, PROJECTOR_FILE, TENSORS_FILE } from './manifest.js';
import { parsePeftConfig } from './peft.js';
import { backboneNotes, encodeManifest, type PeftFiles, publishFiles } from './write.js';

export interface ImportOptions {
  /** The PEFT folder or GGUF file of each context, or of `all` alone. */
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
    const read = (await isFile(source)) ? await readGguf(source, backbone, faults) : await readSource(source, faults);
    if (read === undefined) continue;
    // The first decides; another that differs is refused with the manifest.
    method ??= read.method;
    files.set(`${context}/${CONFIG_FILE}`, read.config);
    files.set(`${context}/${TENSORS_FILE}`, read.tensors);
  }
  faults.check('adapter_invalid', `adapter ${name}`);
  if (method === undefined) throw new RangeError('Expected a PEFT folder or a GGUF file at least but received none');

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
  const adapter = await checkAdapter(name, files, target).catch(async (error: unknown) => {
    throw await underSourceNames(error, name, options.sources);
  });
  await publishFiles(folder, files);
  return adapter;
}

type Source = PeftFiles & { readonly method: Method };

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false;
}

/** Undefined, always with a fault that names the file, where it is no LoRA of llama.cpp's for this backbone. */
async function readGguf(path: string, backbone: BackboneDescription, all: Faults): Promise<Source | undefined> {
  const faults = new FileFaults(path, all);
  const bytes = await readWhole(path, MAX_TENSOR_BYTES, faults);
  if (bytes === undefined && faults.count === 0) faults.add('Expected a file but received none');
  const files = bytes && readGgufLora(bytes, backbone, faults);
  return files && { method: 'lora', ...files };
}

/** A file's bytes; undefined where there is none, or, with a fault, where it cannot be read. */
async function readWhole(path: string, maxBytes: number, faults: Faults): Promise<Uint8Array | undefined> {
  try {
    return await readFile(path, maxBytes);
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    faults.add(error.message);
    return undefined;
  }
}

/** Undefined, always with a fault that names the folder, where it is no PEFT adapter that can be read. */
async function readSource(folder: string, all: Faults): Promise<Source | undefined> {
  const read = async (file: string, maxBytes: number): Promise<Uint8Array | undefined> => {
    const faults = new FileFaults(join(folder, file), all);
    const content = await readWhole(join(folder, file), maxBytes, faults);
    if (content === undefined && faults.count === 0) faults.add(`Expected a file but received none${await hint(folder, file)}`);
    return content;
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
async function underSourceNames(error: unknown, name: string, sources: ReadonlyMap<string, string>): Promise<unknown> {
  if (!(error instanceof AppError) || error.faults === undefined) return error;
  const single = new Set<string>();
  for (const source of sources.values()) if (await isFile(source)) single.add(source);
  const renamed = error.faults.map((fault) => {
    const [, context = '', file = '', rest = ''] = /^([^/:]+)\/([^:]+)(.*)$/s.exec(fault) ?? [];
    const source = sources.get(context);
    if (source === undefined) return fault;
    return `${single.has(source) ? source : join(source, file)}${rest}`;
  });
  return AppError.ofFaults(error.code, `adapter ${name}`, renamed, { cause: error });
}
