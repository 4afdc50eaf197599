/** Sums, means, softmax and the loss, against loops in float64; the loss also where a naive one overflows. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Graph, type Value } from '../../../src/onnx/graph.js';
import { crossEntropy, mean, softmax, sum } from '../../../src/onnx/reduce.js';
import { type Dim, formatShape } from '../../../src/onnx/shape.js';
import type { DType } from '../../../src/tensor/dtype.js';
import { expectClose, f32, i64, integers, Numbers, run } from './numbers.js';

/** All indexes of a shape. */
const everywhere = (shape: readonly number[]): number[][] =>
  shape.reduce<number[][]>((all, size) => all.flatMap((index) => Array.from({ length: size }, (_, at) => [...index, at])), [[]]);

/** log Σ exp, exact to float64. */
function logSum(values: readonly number[]): number {
  const largest = Math.max(...values);
  return largest + Math.log(values.reduce((total, value) => total + Math.exp(value - largest), 0));
}

describe('sum and mean', () => {
  it('over any axes, kept or not (property)', async () => {
    const shapes = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 });
    const reduction = shapes.chain((shape) =>
      fc.tuple(fc.constant(shape), fc.subarray([...shape.keys()]), fc.boolean(), fc.boolean()),
    );
    await fc.assert(
      fc.asyncProperty(reduction, async ([shape, axes, keep, isMean]) => {
        const x = Numbers.random(shape);
        const build = (g: Graph, x: Value): Value => (isMean ? mean : sum)(g, x, axes, keep);
        const named = shape.map((size, axis) => (axis === 0 ? 'rows' : size));
        const [y] = await run({ x: f32(...named) }, (g, { x }) => build(g, x), { x: x.feed }, { rows: shape[0] as number });
        const kept = (index: readonly number[]): number[] =>
          keep ? index.map((at, axis) => (axes.includes(axis) ? 0 : at)) : index.filter((_, axis) => !axes.includes(axis));
        const count = axes.reduce((product, axis) => product * (shape[axis] as number), 1);
        const result = keep
          ? shape.map((size, axis) => (axes.includes(axis) ? 1 : size))
          : shape.filter((_, axis) => !axes.includes(axis));
        const expected = Numbers.of(result, (...place) => {
          const inside = everywhere(shape).filter((index) => kept(index).join() === place.join());
          expect(inside).toHaveLength(count);
          return inside.reduce((total, index) => total + x.at(...index), 0) / (isMean ? count : 1);
        });
        expectClose(y, expected);
      }),
      { numRuns: 30 },
    );
  });

  it('over no axes is x itself', () => {
    const g = new Graph();
    const x = g.input('x', 'float32', ['n', 2]);
    expect([sum(g, x, []), mean(g, x, [], true)]).toEqual([x, x]);
    expect(g.nodes).toEqual([]);
  });

  it('of no rows is zero', async () => {
    const [y] = await run({ x: f32('n', 3) }, (g, { x }) => sum(g, x, [0]), { x: new Numbers([0, 3], []).feed });
    expect(y).toEqual(new Numbers([3], [0, 0, 0]));
  });
});

describe('softmax', () => {
  it('over the last axis, also of large numbers and of places that are masked', async () => {
    const values = [1000, 999, -1000, 0, 0, 0, Number.NEGATIVE_INFINITY, 2, Number.NEGATIVE_INFINITY, -1e30, -1e30, -1e30];
    const x = new Numbers([2, 2, 3], values);
    const [y] = await run({ x: f32('rows', 2, 3) }, (g, { x }) => softmax(g, x), { x: x.feed }, { rows: 2 });
    const expected = Numbers.of([2, 2, 3], (a, b, at) => {
      const row = [0, 1, 2].map((each) => x.at(a, b, each));
      const shares = row.map((value) => Math.exp(value - Math.max(...row)));
      return (shares[at] as number) / shares.reduce((total, value) => total + value, 0);
    });
    expectClose(y, expected, 1e-6);
    expect(y?.data[6]).toBe(0);
  });
});

describe('crossEntropy', () => {
  it('is −log of the target’s share, row by row (property)', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 7 }),
        fc.constantFrom(1, 100, 3000),
        fc.nat(),
        async (rows, classes, spread, seed) => {
          const random = Numbers.random([rows, classes], seed + 1);
          const logits = new Numbers(
            [rows, classes],
            Array.from(random.data, (value) => Math.fround(value * spread)),
          );
          const targets = Array.from({ length: rows }, (_, row) => (seed + row * 3) % classes);
          const [losses] = await run(
            { logits: f32('n', classes), targets: i64('n') },
            (g, { logits, targets }) => crossEntropy(g, logits, targets),
            { logits: logits.feed, targets: integers([rows], targets) },
            { n: rows },
          );
          const row = (at: number): number[] => Array.from({ length: classes }, (_, each) => logits.at(at, each));
          expectClose(
            losses,
            Numbers.of([rows], (at) => logSum(row(at)) - logits.at(at, targets[at] as number)),
          );
        },
      ),
      { numRuns: 25 },
    );
  });

  it('has the log-probabilities as the node’s second result', async () => {
    const logits = Numbers.random([2, 4]);
    const [losses, logs] = await run(
      { logits: f32('n', 4), targets: i64('n') },
      (g, { logits, targets }) => {
        const losses = crossEntropy(g, logits, targets);
        return [losses, g.nodes.at(-1)?.outputs[1] as Value];
      },
      { logits: logits.feed, targets: integers([2], [3, 1]) },
      { n: 2 },
    );
    const row = (at: number): number[] => [0, 1, 2, 3].map((each) => logits.at(at, each));
    expectClose(
      logs,
      Numbers.of([2, 4], (at, each) => logits.at(at, each) - logSum(row(at))),
    );
    expectClose(losses, new Numbers([2], [-(logs?.at(0, 3) as number), -(logs?.at(1, 1) as number)]), 1e-6);
  });
});

describe('refusals', () => {
  type Case = readonly [
    op: string,
    operands: readonly (readonly [DType, ...Dim[]])[],
    build: (g: Graph, ...values: Value[]) => unknown,
  ];
  const over =
    (...axes: number[]) =>
    (g: Graph, x: Value): Value =>
      sum(g, x, axes);
  const loss = (g: Graph, logits: Value, targets: Value): Value => crossEntropy(g, logits, targets);
  it.each<Case>([
    ['ReduceSum', [['float32', 2, 3]], over(2)],
    ['ReduceSum', [['float32', 2, 3]], over(-1)],
    ['ReduceSum', [['float32', 2, 3]], over(1, 0)],
    ['ReduceSum', [['float32', 2, 3]], over(0, 0)],
    ['ReduceSum', [['float32', 2, 3]], over(0.5)],
    ['ReduceMean', [['float32']], (g, x) => mean(g, x, [0])],
    ['Softmax', [['float32']], (g, x) => softmax(g, x)],
    ['Softmax', [['int64', 3]], (g, x) => softmax(g, x)],
    [
      'SoftmaxCrossEntropyLoss',
      [
        ['float32', 2, 3],
        ['int32', 2],
      ],
      loss,
    ],
    [
      'SoftmaxCrossEntropyLoss',
      [
        ['float32', 2, 3],
        ['int64', 3],
      ],
      loss,
    ],
    [
      'SoftmaxCrossEntropyLoss',
      [
        ['float32', 2, 3],
        ['int64', 2, 1],
      ],
      loss,
    ],
    [
      'SoftmaxCrossEntropyLoss',
      [
        ['float32', 2, 3, 4],
        ['int64', 2],
      ],
      loss,
    ],
    [
      'SoftmaxCrossEntropyLoss',
      [
        ['float32', 'rows', 3],
        ['int64', 'n'],
      ],
      loss,
    ],
  ])('%s of %j', (op, operands, build) => {
    const g = new Graph();
    const values = operands.map(([dtype, ...shape], index) => g.input(`operand${index}`, dtype, shape));
    const bad = (): unknown => build(g, ...values);
    expect(bad).toThrow(TypeError);
    expect(bad).toThrow(new RegExp(`^${op}: expected .+ but received `));
    for (const { name, dtype, shape } of values) expect(bad).toThrow(`${dtype} ${formatShape(shape)} (${name})`);
    expect(g.nodes).toEqual([]);
    expect(g.initializers.size).toBe(0);
  });
});
