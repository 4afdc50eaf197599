import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { toFloat32 } from '../../../src/tensor/convert.js';
import { DTYPE_BYTES, DTYPES } from '../../../src/tensor/dtype.js';
import {
  decodeSafetensors,
  encodeSafetensors,
  headerBytes,
  parseHeader,
  SafetensorsFile,
  streamSafetensors,
  writeSafetensors,
} from '../../../src/tensor/safetensors.js';
import { elements, type Tensor } from '../../../src/tensor/tensor.js';

const reference = fileURLToPath(new URL('../../fixtures/tensor/dtypes.safetensors', import.meta.url));
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'graft-safetensors-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** A file of this header and so many bytes of data. A string is taken as it is. */
function file(header: unknown, dataBytes: number): Uint8Array {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

function entry(shape: unknown, begin: unknown, end: unknown, dtype: unknown = 'F32'): object {
  return { dtype, shape, data_offsets: [begin, end] };
}

function faultsOf(bytes: Uint8Array): readonly string[] {
  try {
    decodeSafetensors(bytes, 'file');
  } catch (error) {
    expect(error).toBeInstanceOf(AppError);
    expect(error).toMatchObject({ code: 'invalid_file', message: expect.stringMatching(/^file: /) });
    return (error as AppError).faults ?? [];
  }
  return [];
}

function tensorOf(tensors: ReadonlyMap<string, Tensor>, name: string): Tensor {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new RangeError(`Expected a tensor ${name}`);
  return tensor;
}

describe('a file of the reference implementation', () => {
  it('has every dtype, shape, value and the metadata', async () => {
    const { header, tensors } = decodeSafetensors(await readFile(reference), reference);
    expect(header.metadata).toEqual(
      new Map([
        ['format', 'pt'],
        ['greeting', 'grüß dich'],
      ]),
    );
    const dtypes = Object.fromEntries([...header.entries].map(([name, { dtype }]) => [name, dtype]));
    expect(dtypes).toEqual({
      f64: 'float64',
      f32: 'float32',
      f16: 'float16',
      bf16: 'bfloat16',
      i64: 'int64',
      i32: 'int32',
      i16: 'int16',
      i8: 'int8',
      u64: 'uint64',
      u32: 'uint32',
      u16: 'uint16',
      u8: 'uint8',
      bool: 'bool',
      scalar: 'float32',
      empty: 'float32',
      ['__proto__']: 'float32',
    });
    const signed = [0, -1, 2, -3, 4, -5];
    for (const name of ['f32', 'f16', 'bf16']) {
      expect(tensorOf(tensors, name).shape).toEqual([2, 3]);
      expect([...toFloat32(tensorOf(tensors, name))], name).toEqual(signed.map((value) => value / 4));
    }
    const bytesOf = (name: string): ArrayBuffer => new Uint8Array(tensorOf(tensors, name).data).buffer;
    expect([...new Float64Array(bytesOf('f64'))]).toEqual(signed.map((value) => value / 4));
    expect([...new BigInt64Array(bytesOf('i64'))]).toEqual(signed.map(BigInt));
    expect([...new Int16Array(bytesOf('i16'))]).toEqual(signed);
    expect([...new BigUint64Array(bytesOf('u64'))]).toEqual([0n, 1n, 2n, 3n, 4n, 5n]);
    expect([...tensorOf(tensors, 'bool').data]).toEqual([0, 1, 0, 1, 0, 1]);
    expect(tensors.get('scalar')).toMatchObject({ shape: [] });
    expect([...toFloat32(tensorOf(tensors, 'scalar'))]).toEqual([0.5]);
    expect(tensors.get('empty')).toMatchObject({ shape: [3, 0], data: { byteLength: 0 } });
    expect([...toFloat32(tensorOf(tensors, '__proto__'))]).toEqual([7]);
  });

  it('reads the same tensor by tensor from disk, at the offsets of the header', async () => {
    const bytes = new Uint8Array(await readFile(reference));
    const { tensors } = decodeSafetensors(bytes, reference);
    const opened = await SafetensorsFile.open(reference);
    expect(opened.path).toBe(reference);
    expect([...opened.header.entries.keys()].sort()).toEqual([...tensors.keys()].sort());
    for (const [name, { offset, bytes: length }] of opened.header.entries) {
      const { dtype, shape, data } = await opened.read(name);
      expect({ dtype, shape, data }).toEqual({ ...tensorOf(tensors, name), data: bytes.slice(offset, offset + length) });
    }
    await expect(opened.read('absent')).rejects.toThrow('Expected a tensor "absent" but received none');
    await opened.close();
  });

  it('comes as views', () => {
    const bytes = encodeSafetensors([['a', { dtype: 'uint8', shape: [2], data: Uint8Array.of(1, 2) }]]);
    expect(tensorOf(decodeSafetensors(bytes, 'file').tensors, 'a').data.buffer).toBe(bytes.buffer);
  });
});

describe('a hostile file', () => {
  const good = { a: entry([2], 0, 8), b: entry([1], 8, 12) };
  const cases: [name: string, bytes: Uint8Array, faults: string[]][] = [
    ['empty', new Uint8Array(0), ['Expected at least 8 bytes but received 0']],
    ['shorter than the length', new Uint8Array(7), ['Expected at least 8 bytes but received 7']],
    [
      'header of 2^64 - 1 bytes',
      new Uint8Array(8).fill(0xff),
      [
        'Expected a header of at most 100000000 bytes but received a length of 18446744073709551615',
        "Expected a header within the file's 8 bytes but received a length of 18446744073709551615",
      ],
    ],
    [
      'header beyond the file',
      file(good, 12).subarray(0, 20),
      ["Expected a header within the file's 20 bytes but received a length of"],
    ],
    ['header of zero bytes', file('', 0), ['Expected a header that begins with { but received ""']],
    ['not UTF-8', Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0xff), ['Expected a header in UTF-8 but received other bytes']],
    ['not JSON', file('{"a": }', 0), ['Expected JSON but received something else']],
    ['JSON after white space', file(' {}', 0), ['Expected a header that begins with {']],
    ['not an object', file('[]', 0), ['Expected a header that begins with { but received "[]"']],
    ['deep', file(`{"a":${'['.repeat(9)}`, 0), ['Expected JSON of at most 8 levels but received more']],
    [
      'a name twice',
      file(`{"a":${JSON.stringify(good.a)},"\\u0061":${JSON.stringify(good.a)}}`, 8),
      ['Expected each key once but received "a" again'],
    ],
    ['an entry that is no object', file({ a: 1 }, 0), ['Expected tensor "a" to be an object but received 1']],
    ['unknown dtype', file({ a: entry([8], 0, 8, 'F8_E4M3') }, 8), ['received unknown dtype "F8_E4M3"']],
    ["dtype of an object's prototype", file({ a: entry([8], 0, 8, 'toString') }, 8), ['received unknown dtype "toString"']],
    ['no dtype', file({ a: { shape: [8], data_offsets: [0, 8] } }, 8), ['received unknown dtype nothing']],
    ['negative size', file({ a: entry([-2], 0, 8) }, 8), ['non-negative integers but received [-2]']],
    ['fractional size', file({ a: entry([1.5], 0, 6) }, 6), ['non-negative integers but received [1.5]']],
    [
      'size beyond 2^53',
      file('{"a":{"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,8]}}', 8),
      ['non-negative integers but received'],
    ],
    ['shape that is no list', file({ a: entry('2', 0, 8) }, 8), ['non-negative integers but received "2"']],
    [
      'too many dimensions',
      file(
        {
          a: entry(
            Array.from({ length: 33 }, () => 1),
            0,
            4,
          ),
        },
        4,
      ),
      ['up to 32 non-negative integers'],
    ],
    [
      'overflowing product',
      file({ a: entry([2 ** 31, 2 ** 31], 0, 8) }, 8),
      ['at most 2^50 elements but received [2147483648,2147483648]'],
    ],
    ['product that overflows behind a zero', file({ a: entry([0, 2 ** 52, 2 ** 52], 0, 0) }, 0), ['at most 2^50 elements']],
    [
      'shape that disagrees with the bytes',
      file({ a: entry([3], 0, 8) }, 8),
      ['Expected tensor "a", float32 [3], to have 12 bytes but received 8'],
    ],
    ['offsets the wrong way round', file({ a: entry([2], 8, 0) }, 8), ['to have data_offsets [begin, end] but received [8,0]']],
    [
      'one offset',
      file({ a: { dtype: 'F32', shape: [2], data_offsets: [8] } }, 8),
      ['data_offsets [begin, end] but received [8]'],
    ],
    ['negative offset', file({ a: entry([2], -8, 0) }, 0), ['data_offsets [begin, end] but received [-8,0]']],
    [
      'gap',
      file({ a: good.a, b: entry([1], 12, 16) }, 16),
      ['Expected no gap but received tensor "b" at [12, 16], 4 bytes after the one before'],
    ],
    ['gap at the start', file({ a: entry([2], 4, 12) }, 12), ['Expected no gap but received tensor "a" at [4, 12], 4 bytes']],
    [
      'overlap',
      file({ a: good.a, b: entry([2], 4, 12) }, 12),
      ['Expected no overlap but received tensor "b" at [4, 12], 4 bytes into another'],
    ],
    [
      'two tensors on the same bytes',
      file({ a: good.a, b: good.a }, 8),
      ['Expected no overlap but received tensor "b" at [0, 8], 8 bytes into another'],
    ],
    ['trailing bytes', file(good, 15), ['Expected the file to end with the last tensor but received 3 trailing bytes']],
    [
      'truncated',
      file(good, 11),
      ['Expected all tensors within the 11 bytes after the header but received tensor "b" at [8, 12]'],
    ],
    [
      'offsets far outside',
      file({ a: entry([2 ** 40], 0, 2 ** 42) }, 8),
      ['within the 8 bytes after the header but received tensor "a"'],
    ],
    ['metadata that is no object', file({ __metadata__: [] }, 0), ['Expected __metadata__ to be an object but received []']],
    [
      'metadata that is not text',
      file({ __metadata__: { a: 'x', b: 1, c: {} } }, 0),
      [
        'Expected __metadata__\'s "b" to be a string but received 1',
        'Expected __metadata__\'s "c" to be a string but received {}',
      ],
    ],
    [
      'many faults at once',
      file(
        {
          __metadata__: { k: null },
          a: entry([2], 0, 8, 'C64'),
          b: entry([-1], 8, 12),
          c: entry([1], 10, 14),
          d: entry([9], 14, 20),
        },
        24,
      ),
      [
        'Expected __metadata__\'s "k"',
        'tensor "a" to be one of F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, BOOL but received unknown dtype "C64"',
        'tensor "b"\'s shape',
        'tensor "d", float32 [9], to have 36 bytes but received 6',
        'Expected no overlap but received tensor "c"',
        '4 trailing bytes',
      ],
    ],
  ];

  it.each(cases)('is refused: %s', (_, bytes, expected) => {
    const faults = faultsOf(bytes);
    expect(faults).toHaveLength(expected.length);
    for (const [i, fault] of expected.entries()) expect(faults[i]).toContain(fault);
  });

  it('gives a short message, however many faults and however long a name', () => {
    const header = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`${i}${'x'.repeat(1000)}`, null]));
    const faults = faultsOf(file(header, 0));
    expect(faults).toHaveLength(101);
    expect(faults.join('').length).toBeLessThan(40_000);
    expect(faults.at(-1)).toBe('and 4900 more faults');
  });

  it('never makes the reader throw anything but AppError, whatever bytes are changed', async () => {
    const original = new Uint8Array(await readFile(reference));
    const change = fc.record({ position: fc.nat(original.length - 1), value: fc.nat(255) });
    let refused = 0;
    fc.assert(
      fc.property(
        fc.array(change, { minLength: 1, maxLength: 8 }),
        fc.nat(original.length),
        fc.boolean(),
        (changes, length, cut) => {
          const bytes = original.slice(0, cut ? length : undefined);
          for (const { position, value } of changes) bytes[position] = value; // beyond the end: ignored
          try {
            for (const [, { dtype, shape, data }] of decodeSafetensors(bytes, 'file').tensors) {
              expect(data.byteLength).toBe(elements(shape) * DTYPE_BYTES[dtype]);
            }
          } catch (error) {
            if (!(error instanceof AppError)) throw error;
            refused++;
          }
        },
      ),
      { numRuns: 2000 },
    );
    expect(refused).toBeGreaterThan(500);
  });
});

describe('parseHeader', () => {
  it('needs only the first bytes', () => {
    const bytes = file({ a: entry([2], 0, 8) }, 8);
    const length = headerBytes(bytes.subarray(0, 8), bytes.length, 'file');
    expect(length).toBe(bytes.length - 8);
    const header = parseHeader(bytes.subarray(0, length), bytes.length, 'file');
    expect(header).toMatchObject({ dataOffset: length });
    expect(header.entries.get('a')).toEqual({ name: 'a', dtype: 'float32', shape: [2], offset: length, bytes: 8 });
    expect(() => parseHeader(bytes.subarray(0, length - 1), bytes.length, 'file')).toThrow(RangeError);
  });
});

const tensor: fc.Arbitrary<Tensor> = fc
  .record({ dtype: fc.constantFrom(...DTYPES), shape: fc.array(fc.nat(4), { maxLength: 4 }) })
  .chain(({ dtype, shape }) => {
    const length = elements(shape) * DTYPE_BYTES[dtype];
    return fc.record({
      dtype: fc.constant(dtype),
      shape: fc.constant(shape),
      data: fc.uint8Array({ minLength: length, maxLength: length }),
    });
  });
const name = fc.oneof(fc.constantFrom('__proto__', 'constructor', '', 'ä', '1', '0'), fc.string({ unit: 'binary' }));
const tensors = fc.uniqueArray(
  fc.tuple(
    name.filter((text) => text !== '__metadata__'),
    tensor,
  ),
  { selector: ([text]) => text, maxLength: 8 },
);
const metadata = fc.uniqueArray(fc.tuple(name, fc.string()), { selector: ([key]) => key, maxLength: 4 });

describe('encodeSafetensors', () => {
  it('is read back as it was, with every tensor on a multiple of its element size', () => {
    fc.assert(
      fc.property(tensors, metadata, (written, texts) => {
        const { header, tensors: read } = decodeSafetensors(encodeSafetensors(written, texts), 'file');
        expect(read).toEqual(new Map(written));
        expect(header.metadata).toEqual(new Map(texts));
        for (const { offset, dtype } of header.entries.values()) expect(offset % DTYPE_BYTES[dtype]).toBe(0);
      }),
    );
  });

  it('gives the same bytes for the same tensors in any order', () => {
    fc.assert(
      fc.property(tensors, (written) => {
        expect(encodeSafetensors(written.toReversed())).toEqual(encodeSafetensors(written));
      }),
    );
  });

  it('refuses what no reader would take', () => {
    const one: Tensor = { dtype: 'uint8', shape: [1], data: Uint8Array.of(1) };
    expect(() =>
      encodeSafetensors([
        ['a', one],
        ['a', one],
      ]),
    ).toThrow(RangeError);
    expect(() => encodeSafetensors([['__metadata__', one]])).toThrow(RangeError);
    expect(() => encodeSafetensors([['a', { ...one, shape: [2] }]])).toThrow('Expected 2 bytes for tensor "a" but received 1');
  });
});

describe('writeSafetensors', () => {
  const old: [string, Tensor][] = [['old', { dtype: 'uint8', shape: [1], data: Uint8Array.of(1) }]];

  it('replaces a file and leaves no other behind', async () => {
    const path = join(folder, 'replaced.safetensors');
    const fresh: [string, Tensor][] = [['new', { dtype: 'float32', shape: [2], data: new Uint8Array(8).fill(3) }]];
    await writeSafetensors(path, old);
    await writeSafetensors(path, fresh, [['by', 'test']]);
    expect(new Uint8Array(await readFile(path))).toEqual(encodeSafetensors(fresh, [['by', 'test']]));
    expect((await readdir(folder)).filter((file) => file.includes('replaced'))).toEqual(['replaced.safetensors']);
  });

  it('leaves nothing behind where it fails', async () => {
    const inner = await mkdtemp(join(folder, 'failing-'));
    // A folder of that name: the rename fails after everything is written.
    const path = await mkdtemp(join(inner, 'taken-'));
    await expect(writeSafetensors(path, old)).rejects.toThrow();
    expect(await readdir(inner)).toHaveLength(1);
  });
});

describe('streamSafetensors', () => {
  const tensors = new Map<string, Tensor>([
    ['b', { dtype: 'uint8', shape: [3], data: Uint8Array.of(1, 2, 3) }],
    ['c', { dtype: 'float32', shape: [1], data: Uint8Array.of(4, 5, 6, 7) }],
    ['a', { dtype: 'uint8', shape: [], data: Uint8Array.of(8) }],
  ]);

  it('writes the same file, asking for each tensor once and in the order of the file', async () => {
    const path = join(folder, 'streamed.safetensors');
    const asked: string[] = [];
    const make = async (name: string): Promise<Uint8Array> => {
      asked.push(name);
      return tensorOf(tensors, name).data;
    };
    await streamSafetensors(path, tensors, make, [['by', 'test']]);
    expect(new Uint8Array(await readFile(path))).toEqual(encodeSafetensors(tensors, [['by', 'test']]));
    expect(asked).toEqual(['c', 'a', 'b']);
  });

  it('leaves nothing behind where a tensor is not what was announced', async () => {
    const inner = await mkdtemp(join(folder, 'streaming-'));
    const streamed = streamSafetensors(join(inner, 'a.safetensors'), tensors, async () => new Uint8Array(4));
    await expect(streamed).rejects.toThrow('Expected 1 bytes for tensor "a" but received 4');
    expect(await readdir(inner)).toEqual([]);
  });
});

describe('SafetensorsFile', () => {
  it('refuses what is no file, no safetensors file, or not there', async () => {
    const path = join(folder, 'broken.safetensors');
    await writeFile(path, file({ a: entry([2], 0, 8) }, 7));
    await expect(SafetensorsFile.open(path)).rejects.toMatchObject({
      code: 'invalid_file',
      faults: [expect.stringContaining('within the 7 bytes')],
    });
    await expect(SafetensorsFile.open(folder)).rejects.toMatchObject({ code: 'invalid_file' });
    await expect(SafetensorsFile.open(join(folder, 'absent'))).rejects.toMatchObject({
      code: 'invalid_file',
      faults: [expect.stringContaining('ENOENT')],
    });
  });

  it('notices a file that shrinks while it is open', async () => {
    const path = join(folder, 'shrinking.safetensors');
    await writeFile(path, file({ a: entry([2], 0, 8) }, 8));
    const opened = await SafetensorsFile.open(path);
    await truncate(path, opened.header.dataOffset + 3);
    await expect(opened.read('a')).rejects.toMatchObject({
      code: 'invalid_file',
      faults: [expect.stringContaining('but received 3: the file became shorter')],
    });
    await opened.close();
  });
});
