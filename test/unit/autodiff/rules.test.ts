/** Every backward rule, in every form that the operators of src/onnx write, against finite differences. */
import { describe, expect, it } from 'vitest';
import { rules } from '../../../src/autodiff/rules.js';
import { gelu, quickGelu, relu } from '../../../src/onnx/activation.js';
import { rotary } from '../../../src/onnx/attention.js';
import type { Graph, Value } from '../../../src/onnx/graph.js';
import { layerNorm } from '../../../src/onnx/norm.js';
import * as ops from '../../../src/onnx/ops.js';
import { crossEntropy, softmax, sum } from '../../../src/onnx/reduce.js';
import { formatShape } from '../../../src/onnx/shape.js';
import { interpret } from '../../support/interpreter.js';
import {
  type Build,
  bools,
  buildBackward,
  buildForward,
  checkGradients,
  ints,
  named,
  type Operand,
  type Operands,
  type Options,
  positive,
  real,
} from './differences.js';

interface Case {
  readonly title: string;
  readonly operands: Operands;
  readonly build: Build;
  readonly options: Options;
}

type Values = Record<'x' | 'y' | 'z' | 'at' | 'condition', Value>;

/** The operands are called x, y, z (floats), at (indices) and condition, which the lines below rely on. */
const of = (
  title: string,
  operands: Operands,
  build: (g: Graph, values: Values) => Value | readonly Value[],
  options: Options = {},
): Case => ({ title, operands, build: build as Build, options });

const only = (...wrt: string[]): Options => ({ wrt });

/** Pairs of shapes that broadcast, in both directions, with axes of one element and scalars. */
const PAIRS: readonly (readonly [readonly number[], readonly number[]])[] = [
  [
    [2, 3],
    [2, 3],
  ],
  [[2, 3], [3]],
  [[3], [2, 3]],
  [
    [2, 1, 3],
    [4, 1],
  ],
  [[1], [2, 2]],
  [
    [2, 2],
    [1, 1, 1],
  ],
  [[], [3]],
  [[2, 3], []],
  [[], []],
  [
    [1, 3],
    [2, 1],
  ],
];

const BINARY = { add: ops.add, sub: ops.sub, mul: ops.mul, div: ops.div };
const UNARY = { neg: ops.neg, exp: ops.exp, sigmoid: ops.sigmoid, silu: ops.silu };

const elementwise: readonly Case[] = [
  ...Object.entries(BINARY).flatMap(([name, op]) => [
    ...PAIRS.map(([a, b]) =>
      of(`${name} of ${formatShape(a)} and ${formatShape(b)}`, { x: real(1, ...a), y: positive(2, ...b) }, (g, { x, y }) =>
        op(g, x, y),
      ),
    ),
    of(`${name} of a value and itself`, { x: positive(1, 2, 3) }, (g, { x }) => op(g, x, x)),
    of(`${name} where only the first counts`, { x: real(1, 2, 3), y: positive(2, 3) }, (g, { x, y }) => op(g, x, y), only('x')),
    of(`${name} where only the second counts`, { x: real(1, 2, 3), y: positive(2, 3) }, (g, { x, y }) => op(g, x, y), only('y')),
    of(
      `${name} with named axes`,
      { x: named(real(1, 2, 3), 'rows', 3), y: named(positive(2, 4, 1, 3), 'groups', 1, 3) },
      (g, { x, y }) => op(g, x, y),
    ),
  ]),
  ...Object.entries(UNARY).flatMap(([name, op]) =>
    [[2, 3], [], [1]].map((shape) => of(`${name} of ${formatShape(shape)}`, { x: real(3, ...shape) }, (g, { x }) => op(g, x))),
  ),
  of('silu far from 0', { x: { dtype: 'float32', shape: [6], data: [-30, -8, -1, 1, 8, 30] } }, (g, { x }) => ops.silu(g, x)),
  of('sigmoid far from 0', { x: { dtype: 'float32', shape: [4], data: [-12, -6, 6, 12] } }, (g, { x }) => ops.sigmoid(g, x)),
  of('QuickGelu with another alpha', { x: real(3, 2, 3) }, (g, { x }) =>
    g.node('QuickGelu', [x], [x], { alpha: { float: 1.75 } }, 'com.microsoft'),
  ),
  of('quickGelu', { x: real(3, 2, 3) }, (g, { x }) => quickGelu(g, x)),
  ...(['exact', 'tanh'] as const).flatMap((form) => {
    // The rule writes the tanh form's constants in float32.
    const options: Options = form === 'tanh' ? { tolerance: 1e-7 } : {};
    const far: Operand = { dtype: 'float32', shape: [8], data: [-30, -8, -3, -1, 1, 3, 8, 30] };
    const operands = [real(3, 2, 3), real(3), real(3, 1), named(real(1, 2, 3), 'rows', 3), far];
    return operands.map((x) =>
      of(`gelu, ${form}, of ${formatShape(x.dims ?? x.shape)}`, { x }, (g, { x }) => gelu(g, x, form), options),
    );
  }),
  ...[[2, 3], [], [1]].map((shape) => of(`relu of ${formatShape(shape)}`, { x: real(3, ...shape) }, (g, { x }) => relu(g, x))),
  ...[-0.5, Number.NEGATIVE_INFINITY].map((low) =>
    of(`clip from ${low}`, { x: real(3, 3, 4) }, (g, { x }) =>
      ops.clip(g, x, ops.float32(g, null, [], [low]), ops.float32(g, null, [], [0.25])),
    ),
  ),
  of('where', { condition: bools([2, 3], 1, 0, 0, 1, 1, 0), x: real(1, 2, 3), y: real(2, 2, 3) }, (g, { condition, x, y }) =>
    ops.where(g, condition, x, y),
  ),
  of(
    'where with a condition that broadcasts',
    { condition: bools([2, 1, 1], 1, 0), x: real(1, 3), y: real(2, 2, 3) },
    (g, { condition, x, y }) => ops.where(g, condition, x, y),
  ),
  of(
    'where with branches that broadcast',
    { condition: bools([2, 3], 1, 0, 0, 1, 1, 0), x: real(1), y: real(2, 2, 1) },
    (g, { condition, x, y }) => ops.where(g, condition, x, y),
  ),
  of('where with one value in both branches', { condition: bools([3], 1, 0, 1), x: real(1, 3) }, (g, { condition, x }) =>
    ops.where(g, condition, x, x),
  ),
  of('where of a constant, which gets none', { condition: bools([3], 1, 0, 1), x: real(1, 2, 3) }, (g, { condition, x }) =>
    ops.where(g, condition, ops.float32(g, null, [], [-1e4]), x),
  ),
  of('identity', { x: real(1, 2, 3) }, (g, { x }) => g.node('Identity', [x], [x])),
];

const products: readonly Case[] = [
  ...(
    [
      [[], []],
      [[2], [2]],
      [[2], []],
      [[], [2]],
      [[2, 1], [3]],
      [
        [1, 2],
        [3, 1],
      ],
      [[1], [3]],
      [[2, 3], []],
      [[], [2, 3]],
      [[1, 2], []],
    ] as const
  ).flatMap(([outerA, outerB]) =>
    [false, true].flatMap((transA) =>
      [false, true].map((transB) =>
        of(
          `matmul, leading axes ${formatShape(outerA)} and ${formatShape(outerB)}${transA ? ', a transposed' : ''}${transB ? ', b transposed' : ''}`,
          {
            x: real(1, ...outerA, ...(transA ? [3, 2] : [2, 3])),
            y: real(2, ...outerB, ...(transB ? [4, 3] : [3, 4])),
          },
          (g, { x, y }) => ops.matmul(g, x, y, { transA, transB }),
        ),
      ),
    ),
  ),
  ...[false, true].map((transposed) =>
    of(`matmul with a factor${transposed ? ', both transposed' : ''}`, { x: real(1, 2, 3, 3), y: real(2, 3, 3) }, (g, { x, y }) =>
      ops.matmul(g, x, y, { transA: transposed, transB: transposed, alpha: 0.625 }),
    ),
  ),
  of('matmul of sizes of one', { x: real(1, 1, 1), y: real(2, 1, 1) }, (g, { x, y }) => ops.matmul(g, x, y)),
  of('matmul of a matrix and itself', { x: real(1, 3, 3) }, (g, { x }) => ops.matmul(g, x, x)),
  of('matmul of rows and themselves transposed', { x: real(1, 2, 2, 3) }, (g, { x }) => ops.matmul(g, x, x, { transB: true })),
  of('linear, with named axes', { x: named(real(1, 2, 3, 4), 'rows', 'tokens', 4), y: real(2, 5, 4) }, (g, { x, y }) =>
    ops.linear(g, x, y),
  ),
  of(
    'matmul, with named axes and a group of matrices a row',
    { x: named(real(1, 2, 3, 4), 'rows', 'tokens', 4), y: named(real(2, 2, 4, 2), 'rows', 4, 2) },
    (g, { x, y }) => ops.matmul(g, x, y),
  ),
  of('linear with a frozen matrix', { x: real(1, 2, 3, 4), y: real(2, 5, 4) }, (g, { x, y }) => ops.linear(g, x, y), only('x')),
];

const reductions: readonly Case[] = [
  ...[[0], [1], [2], [0, 2], [0, 1, 2]].flatMap((axes) =>
    [false, true].map((keep) =>
      of(`sum over ${formatShape(axes)}${keep ? ', kept' : ''}`, { x: real(1, 2, 3, 4) }, (g, { x }) => sum(g, x, axes, keep)),
    ),
  ),
  of('sum over an axis of one', { x: real(1, 2, 1, 3) }, (g, { x }) => sum(g, x, [1])),
  of('sum over named axes', { x: named(real(1, 2, 3, 4), 'rows', 'tokens', 4) }, (g, { x }) => sum(g, x, [0, 1])),
  of('sum over one of the named axes', { x: named(real(1, 2, 3, 4), 'rows', 'tokens', 4) }, (g, { x }) => sum(g, x, [1])),
  of('softmax', { x: real(1, 2, 3, 4) }, (g, { x }) => softmax(g, x)),
  of('softmax of a vector', { x: real(1, 5) }, (g, { x }) => softmax(g, x)),
  of('softmax over an axis of one', { x: real(1, 3, 1) }, (g, { x }) => softmax(g, x)),
  of('softmax with places that are masked', { x: real(1, 2, 3) }, (g, { x }) =>
    softmax(g, ops.add(g, x, ops.float32(g, null, [3], [0, -1e9, 0]))),
  ),
  ...[1e-6, 0.5].map((epsilon) =>
    of(`rmsNorm with epsilon ${epsilon}`, { x: real(1, 2, 3, 8), y: real(2, 8) }, (g, { x, y }) => ops.rmsNorm(g, x, y, epsilon)),
  ),
  of('rmsNorm of a vector', { x: real(1, 8), y: real(2, 8) }, (g, { x, y }) => ops.rmsNorm(g, x, y, 1e-5)),
  of('rmsNorm over an axis of one', { x: real(1, 3, 1), y: real(2, 1) }, (g, { x, y }) => ops.rmsNorm(g, x, y, 0.1)),
  of(
    'rmsNorm with a frozen weight and named axes',
    { x: named(real(1, 2, 3, 8), 'rows', 'tokens', 8), y: real(2, 8) },
    (g, { x, y }) => ops.rmsNorm(g, x, y, 1e-5),
    only('x'),
  ),
  of(
    'rmsNorm where only the weight counts',
    { x: named(real(1, 2, 3, 8), 'rows', 'tokens', 8), y: real(2, 8) },
    (g, { x, y }) => ops.rmsNorm(g, x, y, 1e-5),
    only('y'),
  ),
  ...[1e-12, 0.5].map((epsilon) =>
    of(`layerNorm with epsilon ${epsilon}`, { x: real(1, 2, 3, 8), y: real(2, 8), z: real(3, 8) }, (g, { x, y, z }) =>
      layerNorm(g, x, y, z, epsilon),
    ),
  ),
  of('layerNorm of a vector', { x: real(1, 8), y: real(2, 8), z: real(3, 8) }, (g, { x, y, z }) => layerNorm(g, x, y, z, 1e-5)),
  of('layerNorm over an axis of one', { x: real(1, 3, 1), y: real(2, 1), z: real(3, 1) }, (g, { x, y, z }) =>
    layerNorm(g, x, y, z, 0.1),
  ),
  ...['x', 'y', 'z'].map((name) =>
    of(
      `layerNorm where only ${name} counts, with named axes`,
      { x: named(real(1, 2, 3, 8), 'rows', 'tokens', 8), y: real(2, 8), z: real(3, 8) },
      (g, { x, y, z }) => layerNorm(g, x, y, z, 1e-5),
      only(name),
    ),
  ),
  of('crossEntropy, targets that repeat', { x: real(1, 4, 5), at: ints([4], 4, 0, 4, 2) }, (g, { x, at }) =>
    crossEntropy(g, x, at),
  ),
  of('crossEntropy of one row', { x: real(1, 1, 3), at: ints([1], 1) }, (g, { x, at }) => crossEntropy(g, x, at)),
  of('crossEntropy, named rows', { x: named(real(1, 4, 5), 'n', 5), at: named(ints([4], 3, 3, 3, 1), 'n') }, (g, { x, at }) =>
    crossEntropy(g, x, at),
  ),
];

const layouts: readonly Case[] = [
  ...[
    [0, 1, 2],
    [2, 0, 1],
    [1, 2, 0],
    [0, 2, 1],
  ].map((order) => of(`transpose to ${formatShape(order)}`, { x: real(1, 2, 3, 4) }, (g, { x }) => ops.transpose(g, x, order))),
  of('reshape', { x: real(1, 2, 3, 4) }, (g, { x }) => ops.reshape(g, x, [4, 6])),
  of('reshape to a scalar', { x: real(1, 1, 1) }, (g, { x }) => ops.reshape(g, x, [])),
  of('reshape of a scalar', { x: real(1) }, (g, { x }) => ops.reshape(g, x, [1, 1])),
  of('reshape, names at their places', { x: named(real(1, 2, 3, 4), 'rows', 'tokens', 4) }, (g, { x }) =>
    ops.reshape(g, x, ['rows', 'tokens', 2, 2]),
  ),
  of('reshape, two names become one', { x: named(real(1, 2, 3, 4), 'rows', 'tokens', 4) }, (g, { x }) =>
    ops.reshape(g, x, ['rows*tokens', 4]),
  ),
  of('reshape, a name moves', { x: named(real(1, 6, 4), 'n', 4) }, (g, { x }) => ops.reshape(g, x, [4, 'n'])),
  ...(
    [
      [[2, 2, 2], -1],
      [[1, 2, 3], -1],
      [[6], -1],
    ] as const
  ).map(([parts, axis]) =>
    of(`split into ${formatShape(parts)}`, { x: real(1, 2, 6) }, (g, { x }) => ops.split(g, x, parts, axis)),
  ),
  of('split of a first axis', { x: real(1, 6, 2) }, (g, { x }) => ops.split(g, x, [1, 5], 0)),
  of('split of a middle axis', { x: real(1, 2, 4, 3) }, (g, { x }) => ops.split(g, x, [2, 2], 1)),
  of('split where the first part does not count', { x: real(1, 2, 6) }, (g, { x }) => ops.split(g, x, [1, 2, 3]).slice(1)),
  of('split where only the middle part counts, twice', { x: real(1, 2, 6) }, (g, { x }) => {
    const middle = ops.split(g, x, [2, 2, 2])[1] as Value;
    return [middle, ops.exp(g, middle)];
  }),
  of('repeatRows', { x: real(1, 1, 2, 3), y: real(2, 4, 2) }, (g, { x, y }) => ops.repeatRows(g, x, y), only('x')),
  of(
    'repeatRows, named rows',
    { x: real(1, 1, 2, 3), y: named(real(2, 4, 2), 'rows', 2) },
    (g, { x, y }) => ops.repeatRows(g, x, y),
    only('x'),
  ),
  of('expandLike', { x: real(1, 2, 1), y: real(2, 3, 2, 4) }, (g, { x, y }) => ops.expandLike(g, x, y), only('x')),
  of('concat', { x: real(1, 2, 3), y: real(2, 2, 1) }, (g, { x, y }) => ops.concat(g, [x, y])),
  of('concat on a first axis', { x: real(1, 2, 3), y: real(2, 1, 3), z: real(3, 2, 3) }, (g, { x, y, z }) =>
    ops.concat(g, [x, y, z], 0),
  ),
  of(
    'concat on a middle axis, of named rows',
    { x: named(real(1, 2, 1, 3), 'rows', 1, 3), y: named(real(2, 2, 2, 3), 'rows', 2, 3) },
    (g, { x, y }) => ops.concat(g, [x, y], -2),
  ),
  of('concat of a value and itself', { x: real(1, 2, 3), y: real(2, 2, 2) }, (g, { x, y }) => ops.concat(g, [x, y, x])),
  of(
    'concat where only the last counts',
    { x: real(1, 2, 3), y: real(2, 2, 1) },
    (g, { x, y }) => ops.concat(g, [x, y]),
    only('y'),
  ),
  of(
    'gather, rows that repeat and rows that do not occur',
    { x: real(1, 5, 3), at: ints([2, 3], 4, 0, 0, 2, 0, 4) },
    (g, { x, at }) => ops.gather(g, x, at),
  ),
  of('gather counted from the end', { x: real(1, 5, 3), at: ints([3], -1, 4, -5) }, (g, { x, at }) => ops.gather(g, x, at)),
  of('gather of one place', { x: real(1, 5, 3), at: ints([], 2) }, (g, { x, at }) => ops.gather(g, x, at)),
  of('gather from a vector', { x: real(1, 5), at: ints([2, 2], 1, 1, 3, 0) }, (g, { x, at }) => ops.gather(g, x, at)),
  of('gather from a table of matrices', { x: real(1, 3, 2, 2), at: ints([4], 2, 2, 0, 2) }, (g, { x, at }) =>
    ops.gather(g, x, at),
  ),
  of('gather twice from one table', { x: real(1, 5, 3), at: ints([3], 4, 0, 4) }, (g, { x, at }) => [
    ops.gather(g, x, at),
    ops.exp(g, ops.gather(g, x, at)),
  ]),
  ...[
    [2, 0, 2],
    [2, 0, 1],
    [2, 0],
  ].map((rows) =>
    of(`gather of rows ${formatShape(rows)}, which the graph holds`, { x: real(1, 3, 2) }, (g, { x }) =>
      ops.gather(g, x, ops.int64(g, rows)),
    ),
  ),
  ...[0, 1, 2].map((axis) =>
    of(`reorder of axis ${axis}`, { x: real(1, 4, 4, 4) }, (g, { x }) => ops.reorder(g, x, [2, 0, 3, 1], axis)),
  ),
  of('reorder, named axes', { x: named(real(1, 2, 3, 4), 'rows', 3, 'd') }, (g, { x }) => ops.reorder(g, x, [1, 2, 0], 1)),
  of('gather, named axes', { x: real(1, 5, 3), at: named(ints([2, 2], 4, 0, 0, 2), 'rows', 'tokens') }, (g, { x, at }) =>
    ops.gather(g, x, at),
  ),
  of('scatterND', { x: real(1, 2, 3, 4), at: ints([2, 2], 1, 2, 0, 0), y: real(2, 2, 4) }, (g, { x, at, y }) =>
    ops.scatterND(g, x, at, y),
  ),
  of('scatterND of all places', { x: real(1, 1, 2, 2), at: ints([2, 2], 0, 1, 0, 0), y: real(2, 2, 2) }, (g, { x, at, y }) =>
    ops.scatterND(g, x, at, y),
  ),
  of(
    'scatterND of no place',
    { x: real(1, 2, 3, 4), at: named(ints([0, 2]), 'n', 2), y: named(real(2, 0, 4), 'n', 4) },
    (g, { x, at, y }) => ops.scatterND(g, x, at, y),
  ),
  of(
    'scatterND of numbers, named axes',
    { x: named(real(1, 2, 3), 'rows', 'tokens'), at: named(ints([3, 2], 1, 2, 0, 0, 1, 0), 'n', 2), y: named(real(2, 3), 'n') },
    (g, { x, at, y }) => ops.scatterND(g, x, at, y),
  ),
  of(
    'scatterND where only the updates count',
    { x: real(1, 2, 3, 4), at: ints([2, 2], 1, 2, 0, 0), y: real(2, 2, 4) },
    (g, { x, at, y }) => ops.scatterND(g, x, at, y),
    only('y'),
  ),
  of(
    'rotary',
    { x: real(1, 2, 3, 8), at: ints([2, 3], 0, 4, 2, 3, 3, 1), y: real(2, 5, 2), z: real(3, 5, 2) },
    (g, { x, at, y, z }) => rotary(g, x, at, y, z),
    only('x'),
  ),
  of('cast to halves and back', { x: real(1, 2, 3) }, (g, { x }) => ops.cast(g, ops.cast(g, x, 'float16'), 'float32'), {
    runtimeTolerance: 1e-3,
  }),
];

const groups = { elementwise, products, reductions, layouts };

describe.each(Object.entries(groups))('%s', (_, cases) => {
  it.each(cases.map((each) => [each.title, each] as const))('%s', async (_, { operands, build, options }) => {
    const { received } = await checkGradients(operands, build, options);
    expect(received.size).toBeGreaterThan(0);
  });
});

it('where a slope has no value, it is the one that PyTorch takes', () => {
  const x: Operand = { dtype: 'float32', shape: [3], data: [-0.5, 0, 0.25] };
  const slopes = (build: Build): number[] => {
    const { g, gradients, upstream } = buildBackward({ x }, build);
    const computed = interpret(g, { x, ...upstream }).get(gradients[0]?.name ?? '');
    return Array.from(computed?.data ?? [], (slope, at) => slope / Number(upstream['upstream.0']?.data[at]));
  };
  expect(slopes((g, { x }) => relu(g, x as Value))).toEqual([0, 0, 1]);
  const bounds = (g: Graph): [Value, Value] => [ops.float32(g, null, [], [-0.5]), ops.float32(g, null, [], [0.25])];
  expect(slopes((g, { x }) => ops.clip(g, x as Value, ...bounds(g)))).toEqual([1, 1, 1]);
});

it('a new order is undone by the opposite order, with nothing added up', () => {
  const { g, forward } = buildBackward({ x: real(1, 2, 3, 4) }, (g, { x }) => ops.reorder(g, x as Value, [1, 2, 0], 1));
  const added = g.nodes.slice(forward).map(({ op }) => op);
  expect(added.filter((op) => op === 'Gather')).toHaveLength(1);
  expect(added).not.toContain('ScatterElements');
});

it('places of a middle axis that are no new order have no gradient', () => {
  const build: Build = (g, { x }) => g.node('Gather', [x as Value, ops.int64(g, [0, 0, 1])], [x as Value], { axis: 1 });
  expect(() => buildBackward({ x: real(1, 2, 3) }, build)).toThrow(
    new TypeError('Expected rows to be gathered, or a new order of axis 1, to differentiate'),
  );
});

it('every operator that has a rule is among the cases', () => {
  const cases = Object.values(groups).flat();
  const seen = cases.flatMap(({ operands, build }) => buildForward(operands, build).g.nodes.map(({ op }) => op));
  expect([...new Set(seen)].filter((op) => rules.has(op)).sort()).toEqual([...rules.keys()].sort());
});
