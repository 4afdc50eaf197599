/**
 * An adapter's folder → an adapter in memory. Every file is read once, and what was read is what is hashed, checked and used: a folder
 * that changes under our hands can give an error but never a mixture. Nothing is used before all of it has been checked, and one error
 * lists the faults of all files.
 */
import { basename, join, resolve } from 'node:path';
import type { AdapterTarget } from '../backbone/module.js';
import { AppError } from '../errors.js';
import { Faults } from '../tensor/faults.js';
import { quote } from '../tensor/json.js';
import { decodeSafetensors } from '../tensor/safetensors.js';
import type { Tensor } from '../tensor/tensor.js';
import type { LoadedAdapter, Projector } from './adapter.js';
import { ContentHash } from './digest.js';
import { FileFaults } from './faults.js';
import { MAX_JSON_BYTES, MAX_TENSOR_BYTES, readFile } from './file.js';
import { encoderFingerprint } from './fingerprint.js';
import { type BuiltGroup, buildGroup, floats, type GroupFaults } from './group.js';
import {
  ALL_CONTEXTS,
  CONFIG_FILE,
  definingPaths,
  type GroupFiles,
  groupFiles,
  MANIFEST_FILE,
  type Manifest,
  NEITHER,
  needsProjector,
  PROJECTOR_FILE,
  parseManifest,
} from './manifest.js';
import { type PeftConfig, parsePeftConfig } from './peft.js';

/** The defining files of an adapter, by path relative to its folder. */
export type AdapterFiles = ReadonlyMap<string, Uint8Array>;

export interface AdapterContent {
  /** null: a plain PEFT folder. undefined: there is a manifest that cannot be read. */
  readonly manifest: Manifest | null | undefined;
  readonly files: AdapterFiles;
}

export interface GroupContent {
  readonly config: PeftConfig;
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly faults: GroupFaults;
}

/**
 * Reads and checks the adapter in a folder against a backbone. Throws AppError `adapter_changed` where its content is not that of
 * `expectedDigest`, `adapter_invalid` with the faults of all its files.
 */
export async function readAdapter(folder: string, target: AdapterTarget, expectedDigest?: string): Promise<LoadedAdapter> {
  const name = basename(resolve(folder));
  const faults = new Faults();
  const content = await readContent(folder, faults);
  const digest = digestOf(content.files);
  // First, because faults may be those of another version than the one that was asked for.
  if (expectedDigest !== undefined && digest !== expectedDigest) {
    throw new AppError('adapter_changed', `Expected adapter ${name} to be ${expectedDigest} but received ${digest}`);
  }
  return buildAdapter(name, content, digest, target, faults);
}

/** Checks an adapter whose files are yet to be written, as `readAdapter` will once they are. */
export async function checkAdapter(name: string, files: AdapterFiles, target: AdapterTarget): Promise<LoadedAdapter> {
  const faults = new Faults();
  const bytes = files.get(MANIFEST_FILE);
  const manifest = bytes === undefined ? null : parseManifest(bytes, new FileFaults(MANIFEST_FILE, faults));
  return buildAdapter(name, { manifest, files }, digestOf(files), target, faults);
}

async function buildAdapter(
  name: string,
  content: AdapterContent,
  digest: string,
  target: AdapterTarget,
  faults: Faults,
): Promise<LoadedAdapter> {
  const { files } = content;
  const manifest = requireManifest(name, content, faults);
  if (manifest !== null) await checkManifest(manifest, target, new FileFaults(MANIFEST_FILE, faults));
  const built = groupFiles(manifest).map((group) => readGroup(group, manifest, files, target, faults));
  const projector = manifest === null ? null : readProjector(manifest, files.get(PROJECTOR_FILE), target, faults);
  faults.check('adapter_invalid', `adapter ${name}`);

  const found = built.filter((one) => one !== undefined);
  const groups = found.map(({ group }) => group);
  return {
    name,
    digest,
    method: manifest?.method ?? found[0]?.method ?? 'none',
    groups,
    projector,
    matched: found.reduce((sum, { matched }) => sum + matched, 0),
    targeted: found.reduce((sum, { targeted }) => sum + targeted, 0),
    bytes: arraysOf({ groups, projector }).reduce((sum, { byteLength }) => sum + byteLength, 0),
  };
}

/** The manifest of an adapter, null of a plain PEFT folder. Throws AppError `adapter_invalid` where the files are neither's. */
export function requireManifest(name: string, { manifest, files }: AdapterContent, faults: Faults): Manifest | null {
  if (manifest === null && !files.has(CONFIG_FILE)) faults.add(NEITHER);
  if (manifest === undefined || (manifest === null && !files.has(CONFIG_FILE)))
    throw faults.error('adapter_invalid', `adapter ${name}`);
  return manifest;
}

/** Every array of an adapter, each with a buffer of its own: what is charged, and what moves between threads. */
export function arraysOf({ groups, projector }: Pick<LoadedAdapter, 'groups' | 'projector'>): Float32Array[] {
  const arrays = projector === null ? [] : [projector.weight, projector.bias];
  for (const { columns, scales } of groups) {
    for (const { a, b } of columns.values()) arrays.push(...(a === null ? [b] : [a, b]));
    for (const { delta } of scales.values()) arrays.push(delta);
  }
  return arrays;
}

/** All defining files that exist. Throws AppError `adapter_invalid` where one is too large or no file at all: it has no digest then. */
export async function readContent(folder: string, faults: Faults): Promise<AdapterContent> {
  const files = new Map<string, Uint8Array>();
  const read = async (path: string): Promise<Uint8Array | undefined> => {
    try {
      const content = await readFile(join(folder, path), path.endsWith('.json') ? MAX_JSON_BYTES : MAX_TENSOR_BYTES);
      if (content !== undefined) files.set(path, content);
      return content;
    } catch (error) {
      new FileFaults(path, faults).add(AppError.from(error).message);
      throw faults.error('adapter_invalid', `adapter ${basename(resolve(folder))}`);
    }
  };
  const bytes = await read(MANIFEST_FILE);
  const manifest = bytes === undefined ? null : parseManifest(bytes, new FileFaults(MANIFEST_FILE, faults));
  for (const path of definingPaths(manifest)) if (path !== MANIFEST_FILE) await read(path);
  return { manifest, files };
}

/** Of bytes in memory, what `digestFolder` is of files. */
export function digestOf(files: AdapterFiles): string {
  const hash = new ContentHash();
  for (const [path, content] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
    hash.file(path, content.byteLength);
    hash.update(content);
  }
  return hash.digest();
}

async function checkManifest(manifest: Manifest, target: AdapterTarget, faults: Faults): Promise<void> {
  for (const context of manifest.contexts) {
    if (context !== ALL_CONTEXTS && !target.contexts.includes(context)) {
      faults.add(`Expected contexts among ${[...target.contexts, ALL_CONTEXTS].join(', ')} but received ${quote(context)}`);
    }
  }
  await checkFingerprint('language', manifest.languageFingerprint, { folder: target.languageFolder }, faults);
  const vision = { folder: target.visionFolder, features: target.visionFeatures };
  await checkFingerprint('vision', manifest.visionFingerprint, vision, faults);
}

async function checkFingerprint(
  part: string,
  stated: string | undefined,
  { folder, features }: { readonly folder: string | null; readonly features?: string | undefined },
  faults: Faults,
): Promise<void> {
  if (stated === undefined) return;
  if (folder === null) {
    faults.add(`Expected a backbone with a ${part} model of fingerprint ${stated} but received one without`);
    return;
  }
  const actual = await encoderFingerprint(folder, features);
  const chosen = features === undefined ? '' : ` (features chosen: ${features})`;
  if (actual !== stated) faults.add(`Expected a ${part} model of fingerprint ${stated} but received ${actual}${chosen}`);
}

function readGroup(
  paths: GroupFiles,
  manifest: Manifest | null,
  files: AdapterFiles,
  target: AdapterTarget,
  all: Faults,
): BuiltGroup | undefined {
  const group = readGroupFiles(paths, manifest, files, all);
  return group && buildGroup(paths.context, group.config, target.modules, group.tensors, group.faults);
}

/** What a group's files say, before it is known whether they fit together; undefined, always with a fault, where they cannot be read. */
export function readGroupFiles(
  { config: configPath, tensors: tensorsPath }: GroupFiles,
  manifest: Manifest | null,
  files: AdapterFiles,
  all: Faults,
): GroupContent | undefined {
  const faults = { config: new FileFaults(configPath, all), tensors: new FileFaults(tensorsPath, all) };
  const bytes = files.get(configPath);
  if (bytes === undefined) faults.config.add('Expected a file but received none');
  const config = bytes && parsePeftConfig(bytes, manifest?.method ?? null, faults.config);
  const tensors = readTensors(files.get(tensorsPath), faults.tensors);
  if (config === undefined || tensors === undefined) return undefined;
  return { config, tensors, faults };
}

/** The tensors of a file in memory; undefined, always with a fault, where they cannot be read. */
export function readTensors(bytes: Uint8Array | undefined, faults: FileFaults): ReadonlyMap<string, Tensor> | undefined {
  if (bytes === undefined) {
    faults.add('Expected a file but received none (only safetensors is read, never pickle)');
    return undefined;
  }
  try {
    return decodeSafetensors(bytes, faults.file).tensors;
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    for (const fault of error.faults ?? [error.message]) faults.add(fault);
    return undefined;
  }
}

function readProjector(manifest: Manifest, bytes: Uint8Array | undefined, target: AdapterTarget, all: Faults): Projector | null {
  const faults = new FileFaults(PROJECTOR_FILE, all);
  const { hiddenSize, imageDim } = target;
  if (bytes === undefined) {
    if (needsProjector(manifest))
      faults.add('Expected a file but received none (an adapter without one says "projector": false)');
    return null;
  }
  if (manifest.projector === false) faults.add('Expected no file, because the manifest says so, but received one');
  if (imageDim === null) {
    faults.add('Expected no projector, because the backbone has no vision encoder, but received one');
    return null;
  }
  const tensors = readTensors(bytes, faults);
  if (tensors === undefined) return null;
  for (const name of tensors.keys()) {
    if (name !== 'weight' && name !== 'bias') faults.add(`Expected the tensors weight and bias but received ${quote(name)}`);
  }
  const take = (name: string, shape: readonly number[]): Float32Array | undefined => {
    const tensor = tensors.get(name);
    if (tensor !== undefined) return floats(tensor, name, shape, faults)?.slice();
    faults.add(`Expected a tensor ${name} but received none`);
    return undefined;
  };
  const weight = take('weight', [hiddenSize, imageDim]);
  const bias = take('bias', [hiddenSize]);
  return weight && bias ? { weight, bias } : null;
}
