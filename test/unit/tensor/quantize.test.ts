/** Weights in blocks: what they stand for, byte by byte. */
import { describe, expect, it } from 'vitest';
import { blockSizes, emptyBlocks, quantize, type Scheme } from '../../../src/tensor/quantize.js';
import { dequantize } from '../../support/blocks.js';
import { Gaussian } from '../../support/tiny.js';

const SCHEMES: readonly Scheme[] = ([8, 4] as const).flatMap((bits) =>
  [16, 32, 64].flatMap((block) => [true, false].map((zeroPoints) => ({ bits, block, zeroPoints }))),
);

function blocksOf(values: Float32Array, rows: number, columns: number, scheme: Scheme) {
  const blocks = emptyBlocks(rows, columns, scheme);
  expect(quantize(values, rows, columns, scheme, blocks)).toBeUndefined();
  return blocks;
}

describe.each(SCHEMES)('%j', (scheme) => {
  const [rows, columns] = [5, 100];

  it('stands for every number within half a step, and for zero exactly', () => {
    const values = new Gaussian(1).array(rows * columns, 0.02, 0.005);
    values[3] = 0;
    values[columns + 70] = 1; // An outlier costs its own block only.
    const blocks = blocksOf(values, rows, columns, scheme);
    const read = dequantize(blocks, rows, columns, scheme);
    const count = blockSizes(rows, columns, scheme).blocks;
    for (const [at, value] of values.entries()) {
      const scale = blocks.scales[Math.floor(at / columns) * count + Math.floor((at % columns) / scheme.block)] as number;
      expect(Math.abs((read[at] as number) - value)).toBeLessThanOrEqual((scale / 2) * 1.0001);
    }
    expect(read[3]).toBe(0);
  });

  it('takes blocks of all zeros, and of one sign', () => {
    const signed = [0, -1, 1].flatMap((sign) => Array.from({ length: columns }, (_, at) => sign * (1 + (at % 2))));
    const values = Float32Array.from(signed);
    const read = dequantize(blocksOf(values, 3, columns, scheme), 3, columns, scheme);
    for (const [at, value] of values.entries())
      expect(Math.abs((read[at] as number) - value)).toBeLessThanOrEqual(2 / 7 / 2 + 1e-6);
    expect([...read.subarray(0, columns)]).toEqual(Array(columns).fill(0));
  });

  it('is the same where a row comes in parts', () => {
    const values = new Gaussian(2).array(rows * columns, 1);
    const whole = blocksOf(values, rows, columns, scheme);
    const parts = emptyBlocks(rows, columns, scheme);
    const columnsOf = (from: number, to: number): Float32Array =>
      Float32Array.from(
        Array.from({ length: rows }, (_, row) => [...values.subarray(row * columns + from, row * columns + to)]).flat(),
      );
    const { block } = scheme;
    expect(quantize(columnsOf(0, block), rows, columns, scheme, parts)).toBeUndefined();
    expect(quantize(columnsOf(block, columns), rows, columns, scheme, parts, 1)).toBeUndefined();
    expect(parts).toEqual(whole);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])('gives %d back', (wrong) => {
    const values = new Gaussian(3).array(rows * columns, 1);
    values[columns * 2 + 99] = wrong;
    expect(quantize(values, rows, columns, scheme, emptyBlocks(rows, columns, scheme))).toBe(wrong);
  });
});

describe('bytes', () => {
  const ramp = Float32Array.from({ length: 32 }, (_, at) => (at < 16 ? at : at - 31)); // 0 ... 15, -15 ... 0

  it('has the lower nibble first, of numbers and of zero points', () => {
    const { data, scales, zeroPoints } = blocksOf(ramp, 1, 32, { bits: 4, block: 16, zeroPoints: true });
    const rising = [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe];
    expect([...data]).toEqual([...rising, ...rising]);
    expect([...scales]).toEqual([1, 1]);
    expect([...zeroPoints]).toEqual([0xf0]);
  });

  it('has the middle of the range for zero, also in what fills the last block up', () => {
    const values = Float32Array.of(127, -127, 0, 1.4, -1.6);
    const { data, scales } = blocksOf(values, 1, 5, { bits: 8, block: 16, zeroPoints: false });
    expect([...data]).toEqual([255, 1, 128, 129, 126, ...Array<number>(11).fill(128)]);
    expect([...scales]).toEqual([1]);
  });
});
