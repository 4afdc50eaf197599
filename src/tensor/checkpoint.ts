/**
 * The tensors of a Hugging Face checkpoint folder, whether it is one `model.safetensors` or an index with shards.
 * Every header is checked when the folder is opened: a broken download is refused as a whole, before a graph is built on half of it.
 * Weights are found by file and byte offset: who only needs to point at them (ONNX external data) never reads them. Files may be links, as in
 * the cache of the Hugging Face hub: the runtime refuses a file that a link leads out of its folder, so weights are where the links lead.
 */
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { AppError } from '../errors.js';
import { Faults } from './faults.js';
import { members, parseJson, quote } from './json.js';
import { SafetensorsFile, type TensorEntry } from './safetensors.js';
import type { Tensor } from './tensor.js';

/** Where a tensor lies: its entry, and the file's path with links followed. */
export type StoredTensor = TensorEntry & { readonly path: string };

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
const MAX_INDEX_BYTES = 100_000_000;
/** Files whose content is a Python program in pickle's clothes. */
const PICKLED = /\.(bin|bin\.index\.json|pt|pth|ckpt|pkl)$/;

export class Checkpoint {
  readonly folder: string;
  /** The file that says which tensors there are: the only one, or the index of several. */
  readonly file: string;
  /** A folder that all files lie in, links followed. */
  readonly root: string;
  readonly #files: readonly SafetensorsFile[];
  readonly #stored = new Map<string, { readonly file: SafetensorsFile; readonly entry: StoredTensor }>();
  /** For each name of a tied weight, all names it goes by. */
  readonly #aliases = new Map<string, readonly string[]>();

  private constructor(file: string, files: readonly SafetensorsFile[], paths: readonly string[]) {
    const folder = dirname(file);
    this.folder = folder;
    this.file = file;
    this.root = commonFolder(paths.map(dirname)) ?? folder;
    this.#files = files;
    for (const [index, file] of files.entries()) {
      const path = paths[index] ?? file.path;
      for (const [name, entry] of file.header.entries) this.#stored.set(name, { file, entry: { ...entry, path } });
    }
  }

  /** Opens the folder's safetensors files. Throws AppError `invalid_file` that names every fault of index and shards. */
  static async open(folder: string): Promise<Checkpoint> {
    const names = new Set(await listFolder(folder));
    if (names.has(SINGLE)) return Checkpoint.#of(join(folder, SINGLE), [await SafetensorsFile.open(join(folder, SINGLE))]);
    if (!names.has(INDEX)) throw notCheckpoint(folder, names);

    const faults = new Faults();
    const weightMap = await readWeightMap(join(folder, INDEX), faults);
    const files = await openShards(folder, new Set(weightMap.values()), faults);
    checkWeightMap(weightMap, files, faults);
    if (faults.count > 0) {
      await Promise.all([...files.values()].map((file) => file.close()));
      throw faults.error('invalid_file', join(folder, INDEX));
    }
    return Checkpoint.#of(join(folder, INDEX), [...files.values()]);
  }

  static async #of(file: string, files: readonly SafetensorsFile[]): Promise<Checkpoint> {
    return new Checkpoint(file, files, await Promise.all(files.map(({ path }) => realpath(path))));
  }

  /**
   * Declares that these names are one weight (tied embeddings): a checkpoint stores it under any of them, and it is found under each.
   * A tensor that is stored under the name asked for always comes first.
   */
  alias(name: string, ...others: readonly string[]): void {
    const group = new Set([name, ...others].flatMap((member) => [member, ...(this.#aliases.get(member) ?? [])]));
    for (const member of group) this.#aliases.set(member, [...group]);
  }

  has(name: string): boolean {
    return this.#find(name) !== undefined;
  }

  /** The names in the files, without aliases. */
  names(): string[] {
    return [...this.#stored.keys()];
  }

  entry(name: string): StoredTensor | undefined {
    return this.#find(name)?.entry;
  }

  /** Reads one tensor into memory of its own. Throws AppError `invalid_file` where there is none of that name. */
  async read(name: string): Promise<Tensor> {
    const { file, entry } = this.#known(name);
    return file.read(entry.name);
  }

  /** Reads some rows of a tensor (its first axis), likewise: a large one need not be in memory as a whole. */
  async readRows(name: string, first: number, count: number): Promise<Tensor> {
    const { file, entry } = this.#known(name);
    const [rows = 1, ...rest] = entry.shape;
    const rowBytes = entry.bytes / rows;
    const data = await file.readBytes(entry.name, first * rowBytes, count * rowBytes);
    return { dtype: entry.dtype, shape: [count, ...rest], data };
  }

  async close(): Promise<void> {
    await Promise.all(this.#files.map((file) => file.close()));
  }

  #known(name: string): { readonly file: SafetensorsFile; readonly entry: StoredTensor } {
    const stored = this.#find(name);
    if (stored !== undefined) return stored;
    throw AppError.ofFaults('invalid_file', this.file, [`Expected a tensor ${quote(name)} but received none`]);
  }

  #find(name: string): { readonly file: SafetensorsFile; readonly entry: StoredTensor } | undefined {
    const names = [name, ...(this.#aliases.get(name) ?? [])];
    return names.map((each) => this.#stored.get(each)).find((stored) => stored !== undefined);
  }
}

/** The deepest folder that holds all of these, which are of one drive. */
export function commonFolder([first, ...others]: readonly string[]): string | undefined {
  let common = first;
  for (const other of others)
    while (common !== undefined && relative(common, other).startsWith('..') && dirname(common) !== common)
      common = dirname(common);
  return common;
}

async function listFolder(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (cause) {
    throw AppError.ofFaults('invalid_file', folder, [`Expected a checkpoint folder but received ${String(cause)}`], { cause });
  }
}

function notCheckpoint(folder: string, names: ReadonlySet<string>): AppError {
  const pickled = [...names].filter((name) => PICKLED.test(name)).sort();
  const fault =
    pickled.length > 0
      ? `Expected ${SINGLE} but received ${pickled[0]}: pickle can run any program and is never read, save the model as safetensors`
      : `Expected ${SINGLE} or ${INDEX} but received ${quote([...names].sort())}`;
  return AppError.ofFaults('invalid_file', folder, [fault]);
}

/** Tensor name to shard file name; what is not a plain safetensors name inside the folder becomes a fault and is left out. */
async function readWeightMap(path: string, faults: Faults): Promise<Map<string, string>> {
  const weightMap = new Map<string, string>();
  const info = await stat(path).catch(() => undefined);
  if (!info?.isFile()) {
    faults.add('Expected a file but received something else');
    return weightMap;
  }
  const { size } = info;
  if (size > MAX_INDEX_BYTES) {
    faults.add(`Expected an index of at most ${MAX_INDEX_BYTES} bytes but received ${size}`);
    return weightMap;
  }
  const before = faults.count;
  const root = members(parseJson(await readFile(path, 'utf8'), faults));
  const entries = members(root?.get('weight_map'));
  // Where the text was no JSON, that fault says enough.
  if (entries === undefined && faults.count === before) {
    faults.add(`Expected weight_map to be an object but received ${quote(root?.get('weight_map'))}`);
  }
  for (const [name, shard] of entries ?? []) {
    if (typeof shard === 'string' && isPlainName(shard)) weightMap.set(name, shard);
    else faults.add(`Expected weight_map's ${quote(name)} to be a safetensors file in the folder but received ${quote(shard)}`);
  }
  return weightMap;
}

function isPlainName(name: string): boolean {
  return /^[\w.-]+\.safetensors$/.test(name) && !name.startsWith('.');
}

/** By file name; a shard that cannot be opened adds its faults and is left out. */
async function openShards(folder: string, names: Iterable<string>, faults: Faults): Promise<Map<string, SafetensorsFile>> {
  const files = new Map<string, SafetensorsFile>();
  for (const name of names) {
    try {
      files.set(name, await SafetensorsFile.open(join(folder, name)));
    } catch (error) {
      for (const fault of AppError.from(error).faults ?? [String(error)]) faults.add(`${name}: ${fault}`);
    }
  }
  return files;
}

/** The index must say of each tensor exactly where it is. Shards that could not be opened already have their fault. */
function checkWeightMap(
  weightMap: ReadonlyMap<string, string>,
  files: ReadonlyMap<string, SafetensorsFile>,
  faults: Faults,
): void {
  for (const [name, shard] of weightMap) {
    const file = files.get(shard);
    if (file !== undefined && !file.header.entries.has(name))
      faults.add(`Expected tensor ${quote(name)} in ${shard} but received none`);
  }
  for (const [shard, file] of files) {
    for (const name of file.header.entries.keys()) {
      const mapped = weightMap.get(name);
      if (mapped === shard) continue;
      const where = mapped === undefined ? 'no entry for it in weight_map' : `${mapped} in weight_map`;
      faults.add(`Expected tensor ${quote(name)} of ${shard} to be mapped to it but received ${where}`);
    }
  }
}
