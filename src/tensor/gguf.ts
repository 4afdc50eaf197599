/**
 * The GGUF format, as llama.cpp's files have it: fields of text and numbers, a table of tensors, then their bytes, each padded to an alignment.
 * (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; the limits and rules are those of ggml's own reader, gguf.cpp.)
 * Every length is checked before anything is allocated. What stands at a place that cannot be found any more ends the reading; all that is
 * wrong besides is told at once. Weights in blocks of few bits are refused: what they were before is lost.
 */
import { DTYPE_BYTES, type DType } from './dtype.js';
import { Faults } from './faults.js';
import { quote } from './json.js';
import type { Tensor } from './tensor.js';

/** A list is only known by its length: nothing that is read here is one. */
export type GgufValue = string | number | bigint | boolean | { readonly length: number };

export interface Gguf {
  readonly fields: ReadonlyMap<string, GgufValue>;
  /** By name, with shapes as everywhere: the last size is that of what lies together in memory. */
  readonly tensors: ReadonlyMap<string, Tensor>;
}

const MAGIC = 'GGUF';
const VERSIONS: readonly number[] = [2, 3];
const MAX_ENTRIES = 65_536;
const MAX_NAME_BYTES = 65_535;
const MAX_RANK = 4;
const DEFAULT_ALIGNMENT = 32;
const MAX_ALIGNMENT = 65_536;

const FLOAT32 = 6;
const STRING = 8;
const LIST = 9;
/** Bytes of each kind of number, in the order of its codes. */
const NUMBER_BYTES: ReadonlyMap<number, number> = new Map([
  [0, 1],
  [1, 1],
  [2, 2],
  [3, 2],
  [4, 4],
  [5, 4],
  [6, 4],
  [7, 1],
  [10, 8],
  [11, 8],
  [12, 8],
]);

const FLOATS: ReadonlyMap<number, DType> = new Map([
  [0, 'float32'],
  [1, 'float16'],
  [30, 'bfloat16'],
]);
/** Of the other types those that people meet, for the sentence that refuses them. */
const OTHER_TYPES: ReadonlyMap<number, string> = new Map([
  [2, 'Q4_0'],
  [3, 'Q4_1'],
  [6, 'Q5_0'],
  [7, 'Q5_1'],
  [8, 'Q8_0'],
  [10, 'Q2_K'],
  [11, 'Q3_K'],
  [12, 'Q4_K'],
  [13, 'Q5_K'],
  [14, 'Q6_K'],
  [28, 'F64'],
]);

/** Whether a file says of itself that it is one. */
function isGguf(bytes: Uint8Array): boolean {
  return new TextDecoder('latin1').decode(bytes.subarray(0, MAGIC.length)) === MAGIC;
}

/** A whole file in memory; the tensors are views into `bytes`. Throws AppError `invalid_file`, which `label` opens, with every fault. */
export function decodeGguf(bytes: Uint8Array, label: string): Gguf {
  const faults = new Faults();
  const cursor = new Cursor(bytes, faults, label);
  if (!isGguf(bytes)) throw cursor.stop(`Expected a file that begins with ${MAGIC} but received another`);
  cursor.skip(MAGIC.length, 'the mark');
  const version = cursor.u32('the version');
  if (!VERSIONS.includes(version)) {
    const isSwapped = VERSIONS.includes(version / 2 ** 24);
    throw cursor.stop(
      `Expected version ${VERSIONS.join(' or ')} but received ${isSwapped ? 'one for machines of the other byte order' : version}`,
    );
  }
  const tensorCount = cursor.count('tensors');
  const fieldCount = cursor.count('fields');
  const fields = readFields(cursor, fieldCount, faults);
  const infos = readInfos(cursor, tensorCount, faults);
  const alignment = alignmentOf(fields.get('general.alignment'), faults);
  const tensors = place(bytes, infos, { start: padded(cursor.position, alignment), alignment }, faults);
  faults.check('invalid_file', label);
  return { fields, tensors };
}

/** Where reading has come to. Whatever it takes is known to be there. */
class Cursor {
  position = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #faults: Faults;
  readonly #label: string;

  constructor(bytes: Uint8Array, faults: Faults, label: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#faults = faults;
    this.#label = label;
  }

  /** The error for what leaves no way to go on. */
  stop(fault: string): Error {
    this.#faults.add(fault);
    return this.#faults.error('invalid_file', this.#label);
  }

  /** Where `length` bytes begin, which are passed over. */
  skip(length: number, what: string): number {
    const left = this.#view.byteLength - this.position;
    if (length > left) throw this.stop(`Expected ${what} of ${length} bytes but received the end of the file after ${left}`);
    const at = this.position;
    this.position += length;
    return at;
  }

  u32(what: string): number {
    return this.#view.getUint32(this.skip(4, what), true);
  }

  /** 64 bits, of which no true file has more than 53. */
  size(what: string): number {
    const value = this.#view.getBigUint64(this.skip(8, what), true);
    if (value > Number.MAX_SAFE_INTEGER) throw this.stop(`Expected ${what} of less than 2^53 but received ${value}`);
    return Number(value);
  }

  count(what: string): number {
    const value = this.size(`the number of ${what}`);
    if (value > MAX_ENTRIES) throw this.stop(`Expected at most ${MAX_ENTRIES} ${what} but received ${value}`);
    return value;
  }

  text(what: string, maxBytes = Number.MAX_SAFE_INTEGER): string {
    const length = this.size(`the length of ${what}`);
    if (length > maxBytes) throw this.stop(`Expected ${what} of at most ${maxBytes} bytes but received ${length}`);
    const at = this.skip(length, what);
    // What is no UTF-8 becomes a name that nothing is called.
    return new TextDecoder().decode(this.#bytes.subarray(at, at + length));
  }

  number(kind: number, what: string): number | bigint | boolean {
    const at = this.skip(NUMBER_BYTES.get(kind) ?? 0, what);
    const view = this.#view;
    switch (kind) {
      case 0:
        return view.getUint8(at);
      case 1:
        return view.getInt8(at);
      case 2:
        return view.getUint16(at, true);
      case 3:
        return view.getInt16(at, true);
      case 4:
        return view.getUint32(at, true);
      case 5:
        return view.getInt32(at, true);
      case 6:
        return view.getFloat32(at, true);
      case 7:
        return view.getUint8(at) !== 0;
      case 10:
        return view.getBigUint64(at, true);
      case 11:
        return view.getBigInt64(at, true);
      default:
        return view.getFloat64(at, true);
    }
  }
}

function readFields(cursor: Cursor, count: number, faults: Faults): Map<string, GgufValue> {
  const fields = new Map<string, GgufValue>();
  for (let index = 0; index < count; index++) {
    const name = cursor.text(`the name of field ${index}`, MAX_NAME_BYTES);
    if (fields.has(name)) faults.add(`Expected each field once but received ${quote(name)} again`);
    fields.set(name, readValue(cursor, `field ${quote(name)}`));
  }
  return fields;
}

function readValue(cursor: Cursor, what: string): GgufValue {
  const kind = cursor.u32(`the type of ${what}`);
  if (kind === STRING) return cursor.text(what);
  if (NUMBER_BYTES.has(kind)) return cursor.number(kind, what);
  if (kind !== LIST) throw cursor.stop(`Expected ${what} to be of a known type but received ${kind}`);
  const inner = cursor.u32(`the type of ${what}`);
  const length = cursor.size(`the length of ${what}`);
  const each = NUMBER_BYTES.get(inner);
  // A length that is not true ends at the end of the file, whatever it says.
  if (each !== undefined) cursor.skip(length * each, what);
  else if (inner === STRING) for (let index = 0; index < length; index++) cursor.skip(cursor.size(what), what);
  else throw cursor.stop(`Expected ${what} to be a list of texts or numbers but received type ${inner}`);
  return { length };
}

interface Info {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: DType | undefined;
  readonly offset: number;
}

function readInfos(cursor: Cursor, count: number, faults: Faults): Info[] {
  const infos = new Map<string, Info>();
  for (let index = 0; index < count; index++) {
    const name = cursor.text(`the name of tensor ${index}`, MAX_NAME_BYTES);
    const what = `tensor ${quote(name)}`;
    const rank = cursor.u32(`the dimensions of ${what}`);
    if (rank > MAX_RANK) throw cursor.stop(`Expected ${what} to have at most ${MAX_RANK} dimensions but received ${rank}`);
    const sizes = Array.from({ length: rank }, () => cursor.size(`a size of ${what}`));
    const type = cursor.u32(`the type of ${what}`);
    const dtype = FLOATS.get(type);
    const offset = cursor.size(`the place of ${what}`);
    if (infos.has(name)) faults.add(`Expected each tensor once but received ${quote(name)} again`);
    if (dtype === undefined)
      faults.add(
        `Expected ${what} to be F32, F16 or BF16 but received ${OTHER_TYPES.get(type) ?? `type ${type}`} (quantized weights are not read)`,
      );
    // The file begins with the size of what lies together.
    infos.set(name, { name, shape: sizes.reverse(), dtype, offset });
  }
  return [...infos.values()];
}

function alignmentOf(value: GgufValue | undefined, faults: Faults): number {
  if (value === undefined) return DEFAULT_ALIGNMENT;
  const isPower = typeof value === 'number' && Number.isInteger(Math.log2(value)) && value >= 1 && value <= MAX_ALIGNMENT;
  if (isPower) return value;
  faults.add(`Expected general.alignment to be a power of two up to ${MAX_ALIGNMENT} but received ${told(value)}`);
  return DEFAULT_ALIGNMENT;
}

interface Data {
  /** Where the tensors begin in the file. */
  readonly start: number;
  readonly alignment: number;
}

/** Tensors follow one another in the order of the table, each padded, to the end of the file. */
function place(bytes: Uint8Array, infos: readonly Info[], { start, alignment }: Data, faults: Faults): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  let expected = 0;
  for (const { name, shape, dtype, offset } of infos) {
    const what = `tensor ${quote(name)}`;
    // How many bytes it has is not known, nor then where the others should be; its fault is told already.
    if (dtype === undefined) return tensors;
    const length = shape.reduce((product, size) => product * size, DTYPE_BYTES[dtype]);
    // Without sizes of zero, which would hide an overflow of the others.
    const largest = shape.reduce((product, size) => product * Math.max(size, 1), DTYPE_BYTES[dtype]);
    if (!Number.isSafeInteger(largest) || length > bytes.byteLength) {
      faults.add(`Expected ${what} to fit into the file's ${bytes.byteLength} bytes but received sizes of [${shape.join(', ')}]`);
      return tensors;
    }
    if (offset !== expected) faults.add(`Expected ${what} at ${expected} but received ${offset}`);
    const at = start + expected;
    if (at + length > bytes.byteLength)
      faults.add(`Expected ${what} within the file's ${bytes.byteLength} bytes but received one that ends at ${at + length}`);
    tensors.set(name, { dtype, shape, data: bytes.subarray(at, at + length) });
    expected = padded(expected + length, alignment);
  }
  const trailing = bytes.byteLength - (start + expected);
  if (trailing > 0) faults.add(`Expected the file to end with the last tensor but received ${trailing} trailing bytes`);
  return tensors;
}

function padded(position: number, alignment: number): number {
  return Math.ceil(position / alignment) * alignment;
}

/** The bytes of a file of these fields (numbers become float32) and tensors. Throws RangeError for a type that is not read here either. */
export function encodeGguf(fields: ReadonlyMap<string, string | number>, tensors: ReadonlyMap<string, Tensor>): Uint8Array {
  const head = [bytesOf(MAGIC), u32(3), u64(tensors.size), u64(fields.size)];
  for (const [name, value] of fields) {
    if (typeof value === 'string') head.push(text(name), u32(STRING), text(value));
    else head.push(text(name), u32(FLOAT32), new Uint8Array(Float32Array.of(value).buffer));
  }
  const types = new Map([...FLOATS].map(([type, dtype]) => [dtype, type]));
  const data: Uint8Array[] = [];
  let position = 0;
  for (const [name, { dtype, shape, data: bytes }] of tensors) {
    const type = types.get(dtype);
    if (type === undefined) throw new RangeError(`Expected float32, float16 or bfloat16 but received ${dtype}`);
    head.push(text(name), u32(shape.length), ...shape.toReversed().map(u64), u32(type), u64(position));
    const filled = padded(bytes.byteLength, DEFAULT_ALIGNMENT);
    data.push(bytes, new Uint8Array(filled - bytes.byteLength));
    position += filled;
  }
  const length = head.reduce((sum, part) => sum + part.byteLength, 0);
  return concat([...head, new Uint8Array(padded(length, DEFAULT_ALIGNMENT) - length), ...data]);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let position = 0;
  for (const part of parts) {
    whole.set(part, position);
    position += part.byteLength;
  }
  return whole;
}

const bytesOf = (value: string): Uint8Array => new TextEncoder().encode(value);
const text = (value: string): Uint8Array => concat([u64(bytesOf(value).byteLength), bytesOf(value)]);
const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const u64 = (value: number): Uint8Array => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);

/** A field's value as it may stand in a sentence. */
export function told(value: GgufValue | undefined): string {
  if (typeof value === 'object') return `a list of ${value.length}`;
  return typeof value === 'bigint' ? String(value) : quote(value);
}
