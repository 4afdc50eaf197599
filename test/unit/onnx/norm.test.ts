/** Layer normalisation, as onnxruntime computes it, against the formula; also far from zero, where E[x²] − E[x]² would lose all digits. */
import { describe, expect, it } from 'vitest';
import { layerNorm } from '../../../src/onnx/norm.js';
import { expectClose, f32, Numbers, run, sum } from './numbers.js';

const [rows, width, epsilon] = [3, 24, 0.01];
const weight = Numbers.random([width], 2);
const bias = Numbers.random([width], 3);

async function normalise(x: Numbers, epsilon: number): Promise<Numbers | undefined> {
  const [y] = await run(
    { x: f32('rows', 1, width), weight: f32(width), bias: f32(width) },
    (g, { x, weight, bias }) => layerNorm(g, x, weight, bias, epsilon),
    { x: x.feed, weight: weight.feed, bias: bias.feed },
    { rows },
  );
  return y;
}

describe('layerNorm', () => {
  it.each([0, 50])('is (x − mean) / √(variance + ε) · weight + bias, around %i', async (center) => {
    const noise = Numbers.random([rows, 1, width]);
    // As float32 holds it.
    const x = Numbers.of(noise.shape, (...at) => Math.fround(center + noise.at(...at)));
    const expected = Numbers.of(x.shape, (row, token, at) => {
      const average = (of: (each: number) => number): number => sum(width, of) / width;
      const mean = average((each) => x.at(row, token, each));
      const variance = average((each) => (x.at(row, token, each) - mean) ** 2);
      return ((x.at(row, token, at) - mean) / Math.sqrt(variance + epsilon)) * weight.at(at) + bias.at(at);
    });
    expectClose(await normalise(x, epsilon), expected, center === 0 ? 1e-5 : 1e-4);
  });

  it('of equal numbers is the bias', async () => {
    const y = await normalise(
      Numbers.of([rows, 1, width], (row) => row + 0.1),
      epsilon,
    );
    expect(y?.data.length).toBe(rows * width);
    expectClose(
      y,
      Numbers.of([rows, 1, width], (_, __, at) => bias.at(at)),
    );
  });
});
