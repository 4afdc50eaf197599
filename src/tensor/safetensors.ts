/**
 * The safetensors format: eight bytes of header length, a JSON header, then the tensors' bytes without gaps.
 * (https://huggingface.co/docs/safetensors; the limits and rules are those of the reference implementation.)
 * Our own, because npm has no kept reader, and because a header is hostile until proved otherwise: everything is checked before
 * anything is allocated, and every fault is named at once. Reading a tensor's offset without its bytes is a first-class use:
 * the graph's initializers point into the file.
 */
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { AppError } from '../errors.js';
import { DTYPE_BYTES, type DType } from './dtype.js';
import { Faults } from './faults.js';
import { syncFolder } from './folder.js';
import { members, parseJson, quote } from './json.js';
import { elements, type Tensor } from './tensor.js';

export interface TensorEntry {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Absolute byte offset in the file. */
  readonly offset: number;
  readonly bytes: number;
}

export interface SafetensorsHeader {
  /** By name, in the order of the bytes. */
  readonly entries: ReadonlyMap<string, TensorEntry>;
  readonly metadata: ReadonlyMap<string, string>;
  /** Where the first tensor begins: bytes of the length field and the header. */
  readonly dataOffset: number;
}

const LENGTH_BYTES = 8;
const MAX_HEADER_BYTES = 100_000_000;
const MAX_RANK = 32;
const METADATA = '__metadata__';

const DTYPE_OF_CODE: ReadonlyMap<string, DType> = new Map([
  ['F64', 'float64'],
  ['F32', 'float32'],
  ['F16', 'float16'],
  ['BF16', 'bfloat16'],
  ['I64', 'int64'],
  ['I32', 'int32'],
  ['I16', 'int16'],
  ['I8', 'int8'],
  ['U64', 'uint64'],
  ['U32', 'uint32'],
  ['U16', 'uint16'],
  ['U8', 'uint8'],
  ['BOOL', 'bool'],
]);
const CODE_OF_DTYPE: ReadonlyMap<DType, string> = new Map([...DTYPE_OF_CODE].map(([code, dtype]) => [dtype, code]));

/**
 * Bytes of length field and header together, from the first eight bytes: what to read and hand to `parseHeader`.
 * `label` opens the error message. Throws AppError `invalid_file` where the file is too short or the header too long.
 */
export function headerBytes(first8: Uint8Array, fileBytes: number, label: string): number {
  if (fileBytes < LENGTH_BYTES || first8.byteLength < LENGTH_BYTES) {
    throw refusal(label, `Expected at least ${LENGTH_BYTES} bytes but received ${Math.min(fileBytes, first8.byteLength)}`);
  }
  const length = new DataView(first8.buffer, first8.byteOffset, LENGTH_BYTES).getBigUint64(0, true);
  const faults = new Faults();
  if (length > MAX_HEADER_BYTES)
    faults.add(`Expected a header of at most ${MAX_HEADER_BYTES} bytes but received a length of ${length}`);
  if (length > fileBytes - LENGTH_BYTES) {
    faults.add(`Expected a header within the file's ${fileBytes} bytes but received a length of ${length}`);
  }
  faults.check('invalid_file', label);
  return LENGTH_BYTES + Number(length);
}

/**
 * Checks and reads the header. `head` holds at least the file's first `headerBytes(...)` bytes; `fileBytes` is the whole file's size.
 * Throws AppError `invalid_file` with every fault.
 */
export function parseHeader(head: Uint8Array, fileBytes: number, label: string): SafetensorsHeader {
  const dataOffset = headerBytes(head, fileBytes, label);
  if (head.byteLength < dataOffset)
    throw new RangeError(`Expected the first ${dataOffset} bytes but received ${head.byteLength}`);
  const faults = new Faults();
  const root = parseRoot(head.subarray(LENGTH_BYTES, dataOffset), faults);
  if (root === undefined) throw faults.error('invalid_file', label);

  const metadata = parseMetadata(root.get(METADATA), faults);
  root.delete(METADATA);
  const found: TensorEntry[] = [];
  let placed = true;
  for (const [name, value] of root) {
    const entry = parseEntry(name, value, dataOffset, faults);
    if (entry === undefined) placed = false;
    else found.push(entry);
  }
  found.sort((a, b) => a.offset - b.offset || a.bytes - b.bytes);
  // An entry without a place would only echo as a gap.
  if (placed) checkTiling(found, dataOffset, fileBytes, faults);
  faults.check('invalid_file', label);
  return { entries: new Map(found.map((entry) => [entry.name, entry])), metadata, dataOffset };
}

/** A whole file in memory; the tensors are views into `bytes`. Throws AppError `invalid_file` with every fault. */
export function decodeSafetensors(bytes: Uint8Array, label: string): { header: SafetensorsHeader; tensors: Map<string, Tensor> } {
  const header = parseHeader(bytes, bytes.byteLength, label);
  const tensors = new Map<string, Tensor>();
  for (const { name, dtype, shape, offset, bytes: length } of header.entries.values()) {
    tensors.set(name, { dtype, shape, data: bytes.subarray(offset, offset + length) });
  }
  return { header, tensors };
}

/** A file on disk whose header has been checked; tensors are read when they are asked for. */
export class SafetensorsFile {
  readonly path: string;
  readonly header: SafetensorsHeader;
  readonly #handle: FileHandle;

  private constructor(path: string, header: SafetensorsHeader, handle: FileHandle) {
    this.path = path;
    this.header = header;
    this.#handle = handle;
  }

  /** Throws AppError `invalid_file` where there is no such file, or with every fault of its header. */
  static async open(path: string): Promise<SafetensorsFile> {
    // Not blocking: opening a pipe would wait for a writer. Windows has no such flag, and no such pipes.
    const handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)).catch((error: unknown) => {
      throw refusal(path, `Expected a readable file but received ${String(error)}`, error);
    });
    try {
      const stat = await handle.stat();
      if (!stat.isFile()) throw refusal(path, 'Expected a file but received something else');
      const first8 = await readAt(handle, 0, Math.min(stat.size, LENGTH_BYTES), path);
      const head = await readAt(handle, 0, headerBytes(first8, stat.size, path), path);
      return new SafetensorsFile(path, parseHeader(head, stat.size, path), handle);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** Reads one tensor into memory of its own. Throws AppError `invalid_file` where the file has none of that name. */
  async read(name: string): Promise<Tensor> {
    const { dtype, shape, offset, bytes } = this.#entry(name);
    return { dtype, shape, data: await readAt(this.#handle, offset, bytes, this.path) };
  }

  /** Some bytes of one tensor, likewise. Throws RangeError where it has not so many. */
  async readBytes(name: string, from: number, bytes: number): Promise<Uint8Array> {
    const entry = this.#entry(name);
    if (!(from >= 0 && bytes >= 0 && from + bytes <= entry.bytes))
      throw new RangeError(`Expected bytes of ${quote(name)}, which has ${entry.bytes}, but received ${from} to ${from + bytes}`);
    return readAt(this.#handle, entry.offset + from, bytes, this.path);
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  #entry(name: string): TensorEntry {
    const entry = this.header.entries.get(name);
    if (entry === undefined) throw refusal(this.path, `Expected a tensor ${quote(name)} but received none`);
    return entry;
  }
}

/**
 * The bytes of a safetensors file. Tensors are laid out widest type first, then by name: each lies on a multiple of its element size.
 * Throws RangeError for a repeated or reserved name, and where shape, dtype and bytes disagree.
 */
export function encodeSafetensors(
  tensors: Iterable<readonly [string, Tensor]>,
  metadata: Iterable<readonly [string, string]> = [],
): Uint8Array {
  const parts = encodeParts(tensors, metadata);
  const file = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let position = 0;
  for (const part of parts) {
    file.set(part, position);
    position += part.byteLength;
  }
  return file;
}

/** Writes a file that is whole or not there: under a temporary name in its folder, synced, renamed, and the folder synced. */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<readonly [string, Tensor]>,
  metadata: Iterable<readonly [string, string]> = [],
): Promise<void> {
  await writeParts(path, encodeParts(tensors, metadata));
}

/**
 * The same of tensors that are made one at a time, each asked for by its name when the file has come to it: only one is in memory.
 * Throws RangeError as `encodeSafetensors` does.
 */
export async function streamSafetensors(
  path: string,
  tensors: Iterable<readonly [string, Omit<Tensor, 'data'>]>,
  make: (name: string) => Promise<Uint8Array>,
  metadata: Iterable<readonly [string, string]> = [],
): Promise<void> {
  const { head, ordered } = layOut(widestFirst(tensors), metadata);
  const parts = async function* (): AsyncGenerator<Uint8Array> {
    yield head;
    for (const [name, { bytes }] of ordered) {
      const data = await make(name);
      checkBytes(name, bytes, data);
      yield data;
    }
  };
  await writeParts(path, parts());
}

/** Writes what becomes the file when all of it is there. Rejects with what `parts` or the system rejects with. */
export async function writeParts(path: string, parts: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<void> {
  const folder = dirname(path);
  const temporary = join(folder, `.${basename(path)}.${randomUUID()}.tmp`);
  try {
    const file = await open(temporary, 'wx');
    try {
      for await (const part of parts) await file.writeFile(part);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(folder);
}

function refusal(label: string, fault: string, cause?: unknown): AppError {
  return AppError.ofFaults('invalid_file', label, [fault], { cause });
}

function parseRoot(json: Uint8Array, faults: Faults): Map<string, unknown> | undefined {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json);
  } catch {
    faults.add('Expected a header in UTF-8 but received other bytes');
    return undefined;
  }
  // The format says so; a reader that trusts it would see another header than one that skips white space.
  if (!text.startsWith('{')) {
    faults.add(`Expected a header that begins with { but received ${quote(text.slice(0, 16))}`);
    return undefined;
  }
  return members(parseJson(text, faults, 8));
}

function parseMetadata(value: unknown, faults: Faults): Map<string, string> {
  const metadata = new Map<string, string>();
  if (value === undefined) return metadata;
  const found = members(value);
  if (found === undefined) faults.add(`Expected ${METADATA} to be an object but received ${quote(value)}`);
  for (const [key, text] of found ?? []) {
    if (typeof text === 'string') metadata.set(key, text);
    else faults.add(`Expected ${METADATA}'s ${quote(key)} to be a string but received ${quote(text)}`);
  }
  return metadata;
}

/** One tensor's entry; undefined where its bytes have no place. That its offsets lie within the file is the tiling's matter. */
function parseEntry(name: string, value: unknown, dataOffset: number, faults: Faults): TensorEntry | undefined {
  const fields = members(value);
  if (fields === undefined) {
    faults.add(`Expected tensor ${quote(name)} to be an object but received ${quote(value)}`);
    return undefined;
  }
  const code = fields.get('dtype');
  const dtype = typeof code === 'string' ? DTYPE_OF_CODE.get(code) : undefined;
  if (dtype === undefined) {
    const codes = [...DTYPE_OF_CODE.keys()].join(', ');
    faults.add(`Expected tensor ${quote(name)} to be one of ${codes} but received unknown dtype ${quote(code)}`);
  }
  const shape = parseShape(name, fields.get('shape'), faults);
  const offsets = fields.get('data_offsets');
  const [begin, end, ...others] = isSizes(offsets) ? offsets : [];
  if (begin === undefined || end === undefined || begin > end || others.length > 0) {
    faults.add(`Expected tensor ${quote(name)} to have data_offsets [begin, end] but received ${quote(offsets)}`);
    return undefined;
  }
  const bytes = end - begin;
  if (dtype !== undefined && shape !== undefined && elements(shape) * DTYPE_BYTES[dtype] !== bytes) {
    const expected = elements(shape) * DTYPE_BYTES[dtype];
    faults.add(`Expected tensor ${quote(name)}, ${dtype} [${shape.join(', ')}], to have ${expected} bytes but received ${bytes}`);
  }
  // With a fault of dtype or shape the entry still shows where its bytes lie; parseHeader throws before anyone else sees it.
  return { name, dtype: dtype ?? 'uint8', shape: shape ?? [], offset: dataOffset + begin, bytes };
}

function parseShape(name: string, shape: unknown, faults: Faults): readonly number[] | undefined {
  if (!isSizes(shape) || shape.length > MAX_RANK) {
    faults.add(
      `Expected tensor ${quote(name)}'s shape to be up to ${MAX_RANK} non-negative integers but received ${quote(shape)}`,
    );
    return undefined;
  }
  // A size of zero must not hide an overflow of the others.
  if (!Number.isSafeInteger(shape.reduce((product, size) => product * Math.max(size, 1), 1) * 8)) {
    faults.add(`Expected tensor ${quote(name)}'s shape to hold at most 2^50 elements but received ${quote(shape)}`);
    return undefined;
  }
  return shape;
}

function isSizes(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

/** The tensors, sorted by offset, must cover the bytes after the header once and without gaps. */
function checkTiling(entries: readonly TensorEntry[], dataOffset: number, fileBytes: number, faults: Faults): void {
  let position = dataOffset;
  for (const { name, offset, bytes } of entries) {
    const what = `tensor ${quote(name)} at [${offset - dataOffset}, ${offset - dataOffset + bytes}]`;
    if (offset > position) faults.add(`Expected no gap but received ${what}, ${offset - position} bytes after the one before`);
    if (offset < position) faults.add(`Expected no overlap but received ${what}, ${position - offset} bytes into another`);
    if (offset + bytes > fileBytes) {
      faults.add(`Expected all tensors within the ${fileBytes - dataOffset} bytes after the header but received ${what}`);
    }
    position = Math.max(position, offset + bytes);
  }
  const trailing = fileBytes - position;
  if (trailing > 0) faults.add(`Expected the file to end with the last tensor but received ${trailing} trailing bytes`);
}

/** Header and tensors' bytes, in the file's order. */
function encodeParts(tensors: Iterable<readonly [string, Tensor]>, metadata: Iterable<readonly [string, string]>): Uint8Array[] {
  const { head, ordered } = layOut(widestFirst(tensors), metadata);
  for (const [name, { tensor, bytes }] of ordered) checkBytes(name, bytes, tensor.data);
  return [head, ...ordered.map(([, { tensor }]) => tensor.data)];
}

interface Layout<T> {
  readonly head: Uint8Array;
  readonly ordered: readonly (readonly [string, { readonly tensor: T; readonly bytes: number }])[];
}

/** The order in which each tensor lies on a multiple of its element size. */
function widestFirst<T extends Omit<Tensor, 'data'>>(tensors: Iterable<readonly [string, T]>): (readonly [string, T])[] {
  return [...tensors].sort(([nameA, a], [nameB, b]) => DTYPE_BYTES[b.dtype] - DTYPE_BYTES[a.dtype] || (nameA < nameB ? -1 : 1));
}

/** The header of a file, and its tensors in the file's order, which is the one given. */
export function layOut<T extends Omit<Tensor, 'data'>>(
  tensors: readonly (readonly [string, T])[],
  metadata: Iterable<readonly [string, string]>,
): Layout<T> {
  const entries = new Map<string, unknown>();
  const texts = new Map(metadata);
  if (texts.size > 0) entries.set(METADATA, Object.fromEntries(texts));
  let position = 0;
  const ordered = tensors.map(([name, tensor]) => {
    const { dtype, shape } = tensor;
    if (name === METADATA || entries.has(name)) {
      throw new RangeError(`Expected unique tensor names other than ${METADATA} but received ${quote(name)}`);
    }
    const bytes = elements(shape) * DTYPE_BYTES[dtype];
    entries.set(name, { dtype: CODE_OF_DTYPE.get(dtype), shape, data_offsets: [position, position + bytes] });
    position += bytes;
    return [name, { tensor, bytes }] as const;
  });
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const head = new Uint8Array(LENGTH_BYTES + Math.ceil(json.byteLength / 8) * 8).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(head.byteLength - LENGTH_BYTES), true);
  head.set(json, LENGTH_BYTES);
  return { head, ordered };
}

function checkBytes(name: string, bytes: number, { byteLength }: Uint8Array): void {
  if (bytes !== byteLength) throw new RangeError(`Expected ${bytes} bytes for tensor ${quote(name)} but received ${byteLength}`);
}

/** Exactly `bytes` bytes from `offset`; the kernel may return fewer a call, and Node takes at most 2^31 - 1. */
async function readAt(handle: FileHandle, offset: number, bytes: number, path: string): Promise<Uint8Array> {
  const data = new Uint8Array(bytes);
  let done = 0;
  while (done < bytes) {
    const { bytesRead } = await handle.read(data, done, Math.min(bytes - done, 2 ** 30), offset + done);
    if (bytesRead === 0)
      throw refusal(path, `Expected ${bytes} bytes at ${offset} but received ${done}: the file became shorter`);
    done += bytesRead;
  }
  return data;
}
