/** What a GGUF file may say, and what it may not: made by hand here; those that llama.cpp makes are read in test/unit/adapter/gguf.test.ts. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { decodeGguf } from '../../../src/tensor/gguf.js';
import { f32, LORA, type MadeGguf, makeGguf, text, textField, u32, u64 } from '../../support/gguf.js';

const A = { name: 'a', sizes: [3, 2], data: f32(1, 2, 3, 4, 5, 6) };
const B = { name: 'b', sizes: [2], type: 1, data: Buffer.from([0, 0x3c, 0, 0x40]) };

function faultsOf(bytes: Uint8Array): readonly string[] {
  try {
    decodeGguf(bytes, 'x.gguf');
  } catch (error) {
    if (error instanceof AppError && error.code === 'invalid_file') return error.faults ?? [];
    throw error;
  }
  throw new Error('Expected faults but received none');
}

describe('a file', () => {
  it.each([2, 3])('of version %i: fields of every type, and tensors with their sizes as everywhere', (version) => {
    const list = Buffer.concat([u32(8), u64(2), text('x'), text('y')]);
    const numbers = Buffer.concat([u32(5), u64(3), Buffer.alloc(12)]);
    const fields = [
      textField('text', 'h\u00e9'),
      ['u8', 0, Buffer.from([200])],
      ['i8', 1, Buffer.from([200])],
      ['u16', 2, Buffer.from([0, 200])],
      ['i16', 3, Buffer.from([0, 200])],
      ['u32', 4, u32(4_000_000_000)],
      ['i32', 5, u32(4_000_000_000)],
      ['f32', 6, f32(0.5)],
      ['yes', 7, Buffer.from([1])],
      ['list', 9, list],
      ['numbers', 9, numbers],
      ['u64', 10, u64(2n ** 63n)],
      ['i64', 11, u64(2n ** 63n)],
      ['f64', 12, Buffer.from(Float64Array.of(0.1).buffer)],
    ] as const;
    const { fields: found, tensors } = decodeGguf(makeGguf({ version, fields, tensors: [A, B] }), 'x.gguf');
    expect(Object.fromEntries(found)).toEqual({
      text: 'h\u00e9',
      u8: 200,
      i8: -56,
      u16: 51_200,
      i16: -14_336,
      u32: 4_000_000_000,
      i32: -294_967_296,
      f32: 0.5,
      yes: true,
      list: { length: 2 },
      numbers: { length: 3 },
      u64: 2n ** 63n,
      i64: -(2n ** 63n),
      f64: 0.1,
    });
    expect([...tensors]).toEqual([
      ['a', { dtype: 'float32', shape: [2, 3], data: new Uint8Array(A.data) }],
      ['b', { dtype: 'float16', shape: [2], data: new Uint8Array(B.data) }],
    ]);
  });

  it('may have an alignment of its own, and no padding after its last tensor', () => {
    const fields = [['general.alignment', 4, u32(8)]] as const;
    const bytes = makeGguf({ fields, alignment: 8, tensors: [A, B] });
    for (const end of [bytes.length, bytes.length - 4])
      expect(decodeGguf(bytes.subarray(0, end), 'x.gguf').tensors.get('b')?.data).toEqual(new Uint8Array(B.data));
  });
});

describe('refused is', () => {
  it.each<[string, MadeGguf, string[]]>([
    ['another file', { magic: 'GGML' }, ['Expected a file that begins with GGUF but received another']],
    ['another version', { version: 1 }, ['Expected version 2 or 3 but received 1']],
    [
      'another byte order',
      { version: 3 * 2 ** 24 },
      ['Expected version 2 or 3 but received one for machines of the other byte order'],
    ],
    [
      'a number of tensors that cannot be',
      { counts: [2n ** 62n, 0] },
      [`Expected the number of tensors of less than 2^53 but received ${2n ** 62n}`],
    ],
    ['too many fields', { counts: [0, 1e9] }, ['Expected at most 65536 fields but received 1000000000']],
    [
      'a text longer than the file',
      { fields: [['name', 8, u64(1e12)]] },
      [
        expect.stringMatching(
          /^Expected field "name" of 1000000000000 bytes but received the end of the file after \d+$/,
        ) as string,
      ],
    ],
    [
      'a list longer than the file',
      { fields: [['name', 9, Buffer.concat([u32(4), u64(2 ** 52)])]] },
      [expect.stringMatching(/^Expected field "name" of \d+ bytes but received the end of the file after \d+$/) as string],
    ],
    [
      'a list of lists',
      { fields: [['name', 9, Buffer.concat([u32(9), u64(1)])]] },
      ['Expected field "name" to be a list of texts or numbers but received type 9'],
    ],
    ['a type that is none', { fields: [['name', 13, u32(0)]] }, ['Expected field "name" to be of a known type but received 13']],
    [
      'too many dimensions',
      { tensors: [{ name: 'a', sizes: [1, 1, 1, 1, 1], data: f32(1) }] },
      ['Expected tensor "a" to have at most 4 dimensions but received 5'],
    ],
    [
      'sizes whose product is no number, also behind a zero',
      { tensors: [{ name: 'a', sizes: [0, 2 ** 40, 2 ** 40] }] },
      [
        expect.stringMatching(
          /^Expected tensor "a" to fit into the file's \d+ bytes but received sizes of \[1099511627776, /,
        ) as string,
      ],
    ],
    [
      'a tensor beyond the end',
      { tensors: [{ name: 'a', sizes: [16], data: f32(1) }] },
      [expect.stringMatching(/^Expected tensor "a" within the file's 256 bytes but received one that ends at 288$/) as string],
    ],
    [
      'bytes after the last tensor',
      { tensors: [A], trailing: 40 },
      ['Expected the file to end with the last tensor but received 40 trailing bytes'],
    ],
    [
      'everything that is wrong with one file, at once',
      {
        fields: [...LORA, textField('general.type', 'model'), ['general.alignment', 4, u32(12)]],
        tensors: [
          A,
          { ...A, offset: 16 },
          { name: 'q', sizes: [32], type: 8, data: Buffer.alloc(34) },
          { name: 'r', sizes: [1], type: 99 },
        ],
      },
      [
        'Expected each field once but received "general.type" again',
        'Expected each tensor once but received "a" again',
        'Expected tensor "q" to be F32, F16 or BF16 but received Q8_0 (quantized weights are not read)',
        'Expected tensor "r" to be F32, F16 or BF16 but received type 99 (quantized weights are not read)',
        'Expected general.alignment to be a power of two up to 65536 but received 12',
        'Expected tensor "a" at 0 but received 16',
      ],
    ],
  ])('%s', (_, made, faults) => {
    expect(faultsOf(makeGguf(made))).toEqual(faults);
  });

  it('a file that ends anywhere', () => {
    const bytes = makeGguf({ tensors: [A, B] });
    for (let length = 0; length < bytes.length - 28; length++)
      expect(faultsOf(bytes.subarray(0, length)), String(length)).not.toEqual([]);
  });

  it('nothing but what is wrong: any byte may be any other, and no reading throws something else', () => {
    const bytes = makeGguf({ tensors: [A, B] });
    const change = fc.tuple(fc.nat(bytes.length - 1), fc.nat(255));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
        const changed = Uint8Array.from(bytes);
        for (const [at, value] of changes) changed[at] = value;
        try {
          decodeGguf(changed, 'x.gguf');
        } catch (error) {
          expect(error).toBeInstanceOf(AppError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
