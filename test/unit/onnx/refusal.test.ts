/** What the operators refuse: a TypeError that names the operator and every operand, and a graph that is as before. */
import { describe, expect, it } from 'vitest';
import * as activation from '../../../src/onnx/activation.js';
import * as attention from '../../../src/onnx/attention.js';
import { Graph, type Value } from '../../../src/onnx/graph.js';
import { layerNorm } from '../../../src/onnx/norm.js';
import * as ops from '../../../src/onnx/ops.js';
import { type Dim, formatShape } from '../../../src/onnx/shape.js';
import type { DType } from '../../../src/tensor/dtype.js';

/** A dtype and the axes of a shape: `float32 rows 4`. */
type Operand = string;
type Case = readonly [op: string, operands: readonly Operand[], build: (g: Graph, ...values: Value[]) => unknown];

function declare(g: Graph, name: string, operand: Operand): Value {
  const [dtype, ...axes] = operand.split(' ');
  return g.input(
    name,
    dtype as DType,
    axes.map((axis) => (/^[0-9]+$/.test(axis) ? Number(axis) : axis)),
  );
}

const described = ({ name, dtype, shape }: Value): string => `${dtype} ${formatShape(shape)} (${name})`;

const elementwise = { Add: ops.add, Sub: ops.sub, Mul: ops.mul, Div: ops.div };
const binary = Object.entries(elementwise).flatMap(([op, build]): Case[] => [
  [op, ['float32 2', 'float32 3'], build],
  [op, ['float32 rows', 'float32 tokens'], build],
  [op, ['float32 2', 'int64 2'], build],
]);

const matmul = (g: Graph, a: Value, b: Value): Value => ops.matmul(g, a, b);
const product = Object.entries({ MatMul: matmul, FusedMatMul: ops.linear }).flatMap(([op, build]): Case[] => [
  [op, ['float32 rows 2 3', 'float32 4 5'], build],
  [op, ['float32 3', 'float32 3 3'], build],
  [op, ['float32 rows 2 3', 'float32 3'], build],
  [op, ['float32 rows 2 3', 'float16 3 3'], build],
  [op, ['float32 rows 2 3', 'float32 2 3 3'], build],
  [op, ['float32 2 rank', 'float32 3 3'], build],
]);

const conv =
  (options: ops.ConvOptions = {}) =>
  (g: Graph, x: Value, w: Value): Value =>
    ops.conv2d(g, x, w, null, options);
const pixels: Operand = 'float32 1 4 8 8';
const bounds = (g: Graph, x: Value, low: Value, high: Value): Value => ops.clip(g, x, low, high);
const norm = (g: Graph, x: Value, weight: Value): Value => ops.rmsNorm(g, x, weight, 1e-6);
const centered = (g: Graph, x: Value, weight: Value, bias: Value): Value => layerNorm(g, x, weight, bias, 1e-6);
const split =
  (...parts: Dim[]) =>
  (g: Graph, x: Value): Value[] =>
    ops.split(g, x, parts);
const reshape =
  (...shape: Dim[]) =>
  (g: Graph, x: Value): Value =>
    ops.reshape(g, x, shape);
const transpose =
  (...order: number[]) =>
  (g: Graph, x: Value): Value =>
    ops.transpose(g, x, order);
const gather = (g: Graph, x: Value, ids: Value): Value => ops.gather(g, x, ids);
const reorder =
  (axis: number, ...order: number[]) =>
  (g: Graph, x: Value): Value =>
    ops.reorder(g, x, order, axis);
const gatherND = (g: Graph, x: Value, ids: Value): Value => ops.gatherND(g, x, ids);
const scatterND = (g: Graph, x: Value, ids: Value, y: Value): Value => ops.scatterND(g, x, ids, y);

const scatterAdd = (g: Graph, x: Value, ids: Value, y: Value): Value => ops.scatterAdd(g, x, ids, y);
const scatterColumn = (g: Graph, x: Value, ids: Value, y: Value): Value => ops.scatterColumn(g, x, ids, y);
const expandLike = (g: Graph, x: Value, like: Value): Value => ops.expandLike(g, x, like);
const repeatRows = (g: Graph, x: Value, like: Value): Value => ops.repeatRows(g, x, like);
const reshapeLike = (g: Graph, x: Value, like: Value): Value => ops.reshapeLike(g, x, like);
const swapped =
  (options: ops.ProductOptions) =>
  (g: Graph, a: Value, b: Value): Value =>
    ops.matmul(g, a, b, options);
const splitAlong =
  (axis: number, ...parts: Dim[]) =>
  (g: Graph, x: Value): Value[] =>
    ops.split(g, x, parts, axis);
const concatAlong =
  (axis: number) =>
  (g: Graph, ...values: Value[]): Value =>
    ops.concat(g, values, axis);

const where = (g: Graph, condition: Value, x: Value, y: Value): Value => ops.where(g, condition, x, y);
const concat = (g: Graph, ...values: Value[]): Value => ops.concat(g, values);
const rotary = (g: Graph, x: Value, positions: Value, cos: Value, sin: Value): Value =>
  attention.rotary(g, x, positions, cos, sin);

const table: Case[] = [
  ...binary,
  ...product,
  ['FusedMatMul', ['float32 2 3', 'float32 3 4'], swapped({ transA: true })],
  ['FusedMatMul', ['float32 2 3', 'float32 3 4'], swapped({ transB: true })],
  ['FusedMatMul', ['float32 2 3', 'float32 3 4'], swapped({ transA: true, transB: true, alpha: 2 })],
  ['FusedMatMul', ['float32 2 3', 'float32 2 3'], swapped({ alpha: 0.5 })],
  ['FusedMatMul', ['float32 3', 'float32 3 3'], swapped({ transA: true })],
  ['QuickGelu', ['int64 2'], (g, x) => ops.silu(g, x)],
  ['Neg', ['int64 2'], (g, x) => ops.neg(g, x)],
  ['Exp', ['int64 2'], (g, x) => ops.exp(g, x)],
  ['Sign', ['int64 2'], (g, x) => ops.sign(g, x)],
  ['Sigmoid', ['bool 2'], (g, x) => ops.sigmoid(g, x)],
  ['Clip', ['float32 2', 'float32 1', 'float32'], bounds],
  ['Clip', ['float32 2', 'float32', 'float64'], bounds],
  ['Clip', ['int32 2', 'int32', 'int32'], bounds],
  ['SimplifiedLayerNormalization', ['float32 2 3', 'float32 2'], norm],
  ['SimplifiedLayerNormalization', ['float32 2 3', 'float32 1 3'], norm],
  ['SimplifiedLayerNormalization', ['float32 2 3', 'float16 3'], norm],
  ['SimplifiedLayerNormalization', ['float32', 'float32'], norm],
  ['LayerNormalization', ['float32 2 3', 'float32 2', 'float32 3'], centered],
  ['LayerNormalization', ['float32 2 3', 'float32 3', 'float32 1 3'], centered],
  ['LayerNormalization', ['float32 2 3', 'float32 3', 'float16 3'], centered],
  ['LayerNormalization', ['float32', 'float32', 'float32'], centered],
  ['Relu', ['float64 2'], (g, x) => activation.relu(g, x)],
  ['Gelu', ['float16 2'], (g, x) => activation.gelu(g, x)],
  ['QuickGelu', ['int64 2'], (g, x) => activation.quickGelu(g, x)],
  ['Erf', ['float64 2'], (g, x) => activation.erf(g, x)],
  ['Where', ['float32 2', 'float32 2', 'float32 2'], where],
  ['Where', ['bool 2', 'float32 2', 'int32 2'], where],
  ['Where', ['bool 2', 'float32 3', 'float32 4'], where],
  ['Where', ['bool 2', 'float32 3', 'float32 3'], where],
  ['Conv', [pixels, 'float32 6 3 3 3'], conv()],
  ['Conv', [pixels, 'float32 6 4 3 3'], conv({ groups: 4 })],
  ['Conv', [pixels, 'float32 6 1 3 3'], conv({ groups: 4 })],
  ['Conv', [pixels, 'float16 6 4 3 3'], conv()],
  ['Conv', ['float32 4 8 8', 'float32 6 4 3 3'], conv()],
  ['Conv', ['float32 1 4 h 8', 'float32 6 4 3 3'], conv()],
  ['Conv', [pixels, 'float32 6 4 3'], conv()],
  ['Conv', [pixels, 'float32 6 4 9 9'], conv()],
  ['Conv', [pixels, 'float32 6 4 5 3'], conv({ dilations: [2, 1] })],
  ['Conv', [pixels, 'float32 6 4 k 3'], conv()],
  ['Transpose', ['float32 2 3'], transpose(0)],
  ['Transpose', ['float32 2 3'], transpose(0, 0)],
  ['Transpose', ['float32 2 3'], transpose(0, 2)],
  ['Reshape', ['float32 2 3'], reshape(7)],
  ['Reshape', ['float32 2 3'], reshape('n', 4)],
  ['Reshape', ['float32 rows 4'], reshape('rows', 5)],
  ['Reshape', ['float32 a b 4'], reshape('b', 'a', 4)],
  ['Reshape', ['float32 4 0'], reshape(0, 4)],
  ['Split', ['float32 2 6'], split(3, 2)],
  ['Split', ['float32 2 4'], split(3, 2)],
  ['Split', ['float32 2 6'], split(5)],
  ['Split', ['float32 2 6'], split()],
  ['Split', ['float32 2 rank*2'], split('rank', 'rank', 'rank')],
  ['Split', ['float32 2 rank'], split(3, 3)],
  ['Split', ['float32 2 6'], split('rank', 'rank')],
  ['Split', ['float32 6 2'], splitAlong(0, 3, 2)],
  ['Split', ['float32 6 2'], splitAlong(2, 3, 3)],
  ['Split', ['float32 6 2'], splitAlong(-3, 2)],
  ['Split', ['float32 6 2'], splitAlong(0, 'rows', 3)],
  ['Gather', ['float32 5 3', 'int32 2'], gather],
  ['Gather', ['float32', 'int64 2'], gather],
  ['Gather', ['float32 2 3'], reorder(0, 2, 0, 1)],
  ['Gather', ['float32 2 3'], reorder(1, 1, 0)],
  ['Gather', ['float32 2 3'], reorder(1, 1, 0, 1)],
  ['Gather', ['float32 2 3'], reorder(1, 1, 2, 3)],
  ['Gather', ['float32 2 3'], reorder(1, 1, 0.5, 0)],
  ['Gather', ['float32 2 3'], reorder(2)],
  ['Gather', ['float32 rows 3'], reorder(0, 1, 0)],
  ['GatherND', ['float32 2 3 4', 'int32 n 2'], gatherND],
  ['GatherND', ['float32 2 3 4', 'int64 n 3'], gatherND],
  ['GatherND', ['float32 2 3 4', 'int64 2'], gatherND],
  ['GatherND', ['float32 2', 'int64 n 2'], gatherND],
  ['ScatterND', ['float32 2 3 4', 'int64 n 3'], (g, x, ids) => ops.scatterND(g, x, ids, x)],
  ['ScatterND', ['float32 2 3 4', 'int64 n 2', 'float32 m 4'], scatterND],
  ['ScatterND', ['float32 2 3 4', 'int64 n 2', 'float32 n 3'], scatterND],
  ['ScatterND', ['float32 2 3 4', 'int64 n 2', 'float16 n 4'], scatterND],
  ['Concat', ['float32 2 3', 'float32 3 3'], concat],
  ['Concat', ['float32 2 3', 'float16 2 3'], concat],
  ['Concat', ['float32 2 3', 'float32 3'], concat],
  ['Concat', ['float32 2 3', 'float32 2 rank'], concat],
  ['Concat', ['float32', 'float32'], concat],
  ['Concat', ['float32 2 3', 'float32 2 4'], concatAlong(0)],
  ['Concat', ['float32 2 3', 'float32 rows 3'], concatAlong(0)],
  ['Concat', ['float32 2 3', 'float32 2 3'], concatAlong(2)],
  ['Concat', ['float32 2 3', 'float32 2 3'], concatAlong(-3)],
  ['ScatterElements', ['float32 5 3', 'int32 m', 'float32 m 3'], scatterAdd],
  ['ScatterElements', ['float32 5 3', 'int64 m 1', 'float32 m 3'], scatterAdd],
  ['ScatterElements', ['float32 5 3', 'int64 m', 'float32 n 3'], scatterAdd],
  ['ScatterElements', ['float32 5 3', 'int64 m', 'float32 m 4'], scatterAdd],
  ['ScatterElements', ['float32 5 3', 'int64 m', 'float64 m 3'], scatterAdd],
  ['ScatterElements', ['float32', 'int64 m', 'float32 n'], scatterAdd],
  ['ScatterElements', ['float32 n 3', 'int32 n', 'float32 n'], scatterColumn],
  ['ScatterElements', ['float32 n 3', 'int64 m', 'float32 n'], scatterColumn],
  ['ScatterElements', ['float32 n 3', 'int64 n', 'float32 n 1'], scatterColumn],
  ['ScatterElements', ['float32 n 3', 'int64 n', 'float64 n'], scatterColumn],
  ['ScatterElements', ['float32 n 3 1', 'int64 n', 'float32 n'], scatterColumn],
  ['Expand', ['float32 2', 'float32 rows 3'], expandLike],
  ['Expand', ['float32 rows 3', 'float32 3'], expandLike],
  ['Expand', ['float32 rows 3', 'float32 1 3'], expandLike],
  ['Expand', ['float32 2 3', 'float32 rows 3'], repeatRows],
  ['Expand', ['float32 1 3', 'float32'], repeatRows],
  ['Expand', ['float32', 'float32 rows'], repeatRows],
  ['Reshape', ['float32 rows 3', 'float32 3 rows'], reshapeLike],
  ['Reshape', ['float32 2 3', 'float32 6'], reshapeLike],
  ['RotaryEmbedding', ['float32 rows tokens 32', 'int64 rows tokens', 'float32 9 7', 'float32 9 7'], rotary],
  ['RotaryEmbedding', ['float32 rows tokens 32', 'int64 rows tokens', 'float32 9 8', 'float32 9 4'], rotary],
  ['RotaryEmbedding', ['float32 rows tokens 32', 'int64 rows 1', 'float32 9 8', 'float32 9 8'], rotary],
  ['RotaryEmbedding', ['float32 rows tokens 32', 'int32 rows tokens', 'float32 9 8', 'float32 9 8'], rotary],
  ['RotaryEmbedding', ['float32 rows 32', 'int64 rows', 'float32 9 8', 'float32 9 8'], rotary],
  ['RotaryEmbedding', ['float32 rows tokens 32', 'int64 rows tokens', 'float32 8', 'float32 8'], rotary],
  ['RotaryEmbedding', ['float16 rows tokens 32', 'int64 rows tokens', 'float16 9 8', 'float16 9 8'], rotary],
  ['Cast', ['float32 2'], (g, x) => ops.cast(g, x, 'uint8')],
  ['Cast', ['float32 2'], (g, x) => ops.cast(g, x, 'bool')],
];

it.each(table)('%s of %j', (op, operands, build) => {
  const g = new Graph();
  const values = operands.map((operand, index) => declare(g, `operand${index}`, operand));
  let error: unknown;
  try {
    build(g, ...values);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(TypeError);
  const { message } = error as TypeError;
  expect(message).toMatch(new RegExp(`^${op}: expected .+ but received `));
  for (const value of values) expect(message).toContain(described(value));
  expect(g.nodes).toEqual([]);
  expect(g.initializers.size).toBe(0);
});

it.each(['float32 5', 'float16 6', 'float32 1 6'])('Conv with a bias of %s', (operand) => {
  const g = new Graph();
  const x = g.input('x', 'float32', [1, 4, 8, 8]);
  const w = g.input('w', 'float32', [6, 4, 3, 3]);
  const b = declare(g, 'b', operand);
  expect(() => ops.conv2d(g, x, w, b)).toThrow(new TypeError(`Conv: expected a float32 bias [6] but received ${described(b)}`));
});

it('Concat of nothing', () => {
  expect(() => ops.concat(new Graph(), [])).toThrow(TypeError);
});

describe('GroupQueryAttention', () => {
  const good: Record<keyof attention.GroupQueryAttentionInputs, Operand> = {
    q: 'float32 rows tokens 64',
    k: 'float32 rows tokens 32',
    v: 'float32 rows tokens 32',
    pastK: 'float32 rows 2 capacity 16',
    pastV: 'float32 rows 2 capacity 16',
    lengths: 'int32 rows',
    total: 'int32 1',
  };
  const build = (operands: typeof good, heads = 4, kvHeads = 2): unknown => {
    const g = new Graph();
    const values = {} as Record<keyof typeof good, Value>;
    for (const name of Object.keys(operands) as (keyof typeof good)[]) values[name] = declare(g, name, operands[name]);
    return attention.groupQueryAttention(g, values, heads, kvHeads);
  };

  it.each<[keyof typeof good, Operand]>([
    ['q', 'float32 rows tokens 48'],
    ['q', 'float32 rows 64'],
    ['q', 'float16 rows tokens 64'],
    ['k', 'float32 rows tokens 64'],
    ['k', 'float32 others tokens 32'],
    ['v', 'float32 rows tokens 16'],
    ['v', 'float32 rows 1 32'],
    ['pastK', 'float32 rows 4 capacity 16'],
    ['pastK', 'float32 others 2 capacity 16'],
    ['pastK', 'float32 rows capacity 32'],
    ['pastV', 'float32 rows 2 9 16'],
    ['lengths', 'int64 rows'],
    ['lengths', 'int32 others'],
    ['total', 'int32'],
  ])('refuses %s of %j', (name, operand) => {
    expect(() => build(good)).not.toThrow();
    const bad = () => build({ ...good, [name]: operand });
    expect(bad).toThrow(TypeError);
    expect(bad).toThrow(/^GroupQueryAttention: expected .* but received /);
    expect(bad).toThrow(described(declare(new Graph(), name, operand)));
  });

  it('refuses heads of a size that the runtime has no kernel for', () => {
    const operands: typeof good = {
      ...good,
      q: 'float32 rows tokens 40',
      k: 'float32 rows tokens 20',
      v: 'float32 rows tokens 20',
      pastK: 'float32 rows 2 capacity 10',
      pastV: 'float32 rows 2 capacity 10',
    };
    expect(() => build(operands)).toThrow(/^GroupQueryAttention: expected heads of a multiple of 8 dimensions but received /);
  });

  it('refuses heads that cannot share keys', () => {
    const operands: typeof good = { ...good, q: 'float32 rows tokens 48' };
    expect(() => build(operands, 3, 2)).toThrow(/^GroupQueryAttention: /);
  });
});
