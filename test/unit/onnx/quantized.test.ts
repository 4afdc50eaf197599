/** Products with weights in blocks, as onnxruntime computes them, against the numbers that the blocks stand for. */
import { describe, expect, it } from 'vitest';
import { Graph } from '../../../src/onnx/graph.js';
import { type QuantizedMatrix, quantizedLinear } from '../../../src/onnx/quantized.js';
import { blockSizes, emptyBlocks, quantize, type Scheme } from '../../../src/tensor/quantize.js';
import { dequantize } from '../../support/blocks.js';
import { Gaussian } from '../../support/tiny.js';
import { expectClose, f32, Numbers, run, sum } from './numbers.js';

/** Of all that is used, and widths that are no multiple of a block, or less than one. */
const CASES = ([8, 4] as const).flatMap((bits) =>
  [32, 64].flatMap((block) =>
    [true, false].flatMap((zeroPoints) => [256, 100, 24].map((columns) => [{ bits, block, zeroPoints }, columns] as const)),
  ),
);
const OUT = 37;

/** Blocks of a random matrix, and what they stand for. */
function matrixOf(scheme: Scheme, columns: number) {
  const blocks = emptyBlocks(OUT, columns, scheme);
  quantize(new Gaussian(columns).array(OUT * columns, 1), OUT, columns, scheme, blocks);
  return { blocks, w: new Numbers([OUT, columns], dequantize(blocks, OUT, columns, scheme)) };
}

async function multiply(scheme: Scheme, columns: number, x: Numbers): Promise<Numbers> {
  const { blocks } = matrixOf(scheme, columns);
  const sizes = blockSizes(OUT, columns, scheme);
  const bytes = new Uint8Array(blocks.scales.buffer);
  const [y] = await run(
    { x: f32('rows', 'tokens', columns) },
    (g, values) =>
      quantizedLinear(g, values.x, columns, {
        ...scheme,
        data: g.constant('data', 'uint8', sizes.data, blocks.data),
        scales: g.constant('scales', 'float32', sizes.scales, bytes),
        zeroPoints: sizes.zeroPoints && g.constant('zeros', 'uint8', sizes.zeroPoints, blocks.zeroPoints),
      }),
    { x: x.feed },
    { rows: x.shape[0] as number, tokens: x.shape[1] as number },
  );
  return y as Numbers;
}

const product = (x: Numbers, w: Numbers): Numbers => {
  const [rows = 0, tokens = 0, columns = 0] = x.shape;
  return Numbers.of([rows, tokens, OUT], (row, token, out) =>
    sum(columns, (column) => x.at(row, token, column) * w.at(out, column)),
  );
};

describe.each(CASES)('%j, %d columns', (scheme, columns) => {
  const { w } = matrixOf(scheme, columns);

  it('is the product with what the blocks stand for', async () => {
    // One number a row is rounded to itself, whatever the width of the integers that the runtime computes with.
    const x = Numbers.of([columns, 1, columns], (row, _, column) => (row === column ? 2 - (row % 3) * 0.75 : 0));
    expectClose(await multiply(scheme, columns, x), product(x, w), 1e-6);
  });

  it.each([1, 3, 17])('rounds x to 8 bits a block at most, %d tokens', async (tokens) => {
    const x = Numbers.random([1, tokens, columns], tokens);
    const { block } = scheme;
    const rounded = Numbers.of(x.shape, (row, token, column) => {
      const start = column - (column % block);
      const peak = Math.max(
        ...Array.from({ length: Math.min(block, columns - start) }, (_, at) => Math.abs(x.at(row, token, start + at))),
      );
      return Math.round((x.at(row, token, column) * 127) / peak) * (peak / 127);
    });
    const y = await multiply(scheme, columns, x);
    const errors = [rounded, x].map((each) => {
      const expected = product(each, w);
      return Math.max(...Array.from(y.data, (value, at) => Math.abs(value - (expected.data[at] as number))));
    });
    // A processor without such integers computes with x as it is. Numbers of y are about √columns.
    expect(Math.min(...errors)).toBeLessThan(2e-4);
    expect(errors[1]).toBeLessThan(0.04 * Math.sqrt(columns));
  });

  it('gives a row the same numbers whatever the others are', async () => {
    const rows = [1, 1e6, 0, 1e-6, Number.NaN, 3].map((factor, seed) =>
      Numbers.of([1, 1, columns], (_, __, column) => factor * Math.sin(column * (seed + 1) + seed)),
    );
    const together = new Numbers(
      [rows.length, 1, columns],
      rows.flatMap(({ data }) => Array.from(data)),
    );
    const y = await multiply(scheme, columns, together);
    for (const [row, alone] of rows.entries()) {
      const expected = Array.from((await multiply(scheme, columns, alone)).data);
      const scale = Math.max(...expected.map(Math.abs));
      if (Number.isNaN(scale)) continue;
      expected.forEach((value, out) => {
        expect(Math.abs(y.at(row, 0, out) - value)).toBeLessThanOrEqual(1e-6 * scale);
      });
    }
  });
});

describe('refusals', () => {
  const build = (x: readonly number[], data: readonly number[], scales: readonly number[]): void => {
    const g = new Graph();
    const matrix: QuantizedMatrix = {
      bits: 8,
      block: 32,
      data: g.input('data', 'uint8', data),
      scales: g.input('scales', 'float32', scales),
      zeroPoints: null,
    };
    quantizedLinear(g, g.input('x', 'float32', x), 64, matrix);
  };

  it('names the operator, and every operand', () => {
    expect(() => build([1, 64], [5, 2, 32], [5, 2])).not.toThrow();
    for (const [x, data, scales] of [
      [
        [1, 63],
        [5, 2, 32],
        [5, 2],
      ],
      [[64], [5, 2, 32], [5, 2]],
      [
        [1, 64],
        [5, 2, 16],
        [5, 2],
      ],
      [
        [1, 64],
        [5, 3, 32],
        [5, 2],
      ],
      [
        [1, 64],
        [5, 2, 32],
        [4, 2],
      ],
      [[1, 64], [5, 2, 32], [10]],
    ] as const)
      expect(() => build(x, data, scales)).toThrow(
        `MatMulNBits: expected float32 [..., 64], uint8 [out, 2, 32] and float32 [out, 2] but received float32 [${x.join(', ')}] (x)`,
      );
  });
});
