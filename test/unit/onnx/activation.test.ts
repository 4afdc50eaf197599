/** ReLU, the forms of GELU and the error function, as onnxruntime computes them, against tables and formulas. */
import { expect, it } from 'vitest';
import { erf, gelu, quickGelu, relu } from '../../../src/onnx/activation.js';
import type { Graph, Value } from '../../../src/onnx/graph.js';
import { expectClose, f32, Numbers, run } from './numbers.js';

/** Abramowitz & Stegun, table 7.1. */
const ERF = new Map([
  [0, 0],
  [0.1, 0.112462916],
  [0.5, 0.5204998778],
  [1, 0.8427007929],
  [1.5, 0.9661051465],
  [2, 0.995322265],
]);
const points = [...ERF].flatMap(([x, y]) => [
  [x, y],
  [-x, -y],
]) as [number, number][];

async function expectValues(build: (g: Graph, x: Value) => Value, of: readonly (readonly [number, number])[]): Promise<void> {
  const xs = new Numbers(
    [of.length],
    of.map(([x]) => x),
  );
  const [y] = await run({ x: f32('n') }, (g, { x }) => build(g, x), { x: xs.feed }, { n: of.length });
  expect(of.length).toBeGreaterThan(4);
  expectClose(
    y,
    new Numbers(
      [of.length],
      of.map(([, value]) => value),
    ),
    1e-6,
  );
}

it('relu', () =>
  expectValues(
    relu,
    [-4, -1e-3, 0, 1e-3, 4].map((x) => [x, Math.max(x, 0)]),
  ));

it('erf', () => expectValues(erf, points));

it('gelu is x · Φ(x) unless told', () =>
  expectValues(
    (g, x) => gelu(g, x),
    points.map(([x, y]) => [x * Math.SQRT2, 0.5 * x * Math.SQRT2 * (1 + y)]),
  ));

it('gelu in its tanh form, which differs', () => {
  const inner = (x: number): number => Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);
  return expectValues(
    (g, x) => gelu(g, x, 'tanh'),
    [-4, -2, -0.5, 0, 0.5, 2, 4].map((x) => [x, 0.5 * x * (1 + Math.tanh(inner(x)))]),
  );
});

it('quickGelu is x · sigmoid(1.702 x)', () =>
  expectValues(
    quickGelu,
    [-4, -2, -0.5, 0, 0.5, 2, 4].map((x) => [x, x / (1 + Math.exp(-1.702 * x))]),
  ));
