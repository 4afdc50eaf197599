/**
 * The backward rules, by operator: all that a llama decoder, the blocks of a vision transformer, the projector and the loss are made of.
 * Convolution has none, since no patch embedding is trained; GatherND has none, since its transpose would add in parallel and race (`scatterAdd` in onnx/ops.ts).
 */
import { erf } from '../onnx/activation.js';
import { rotary } from '../onnx/attention.js';
import type { Graph, Value } from '../onnx/graph.js';
import {
  add,
  cast,
  concat,
  div,
  exp,
  expandLike,
  flatten,
  gatherND,
  matmul,
  mul,
  neg,
  opposite,
  reorder,
  reshape,
  reshapeTo,
  scalar,
  scatterAdd,
  scatterColumn,
  scatterND,
  sigmoid,
  sign,
  split,
  sub,
  transpose,
  where,
  zerosLike,
} from '../onnx/ops.js';
import { mean, sum } from '../onnx/reduce.js';
import type { Dim } from '../onnx/shape.js';
import { numberOf, type Rule, sumTo } from './rule.js';

const elementwise: Readonly<Record<string, Rule>> = {
  Add: ({ g, dy, shape }) => [() => sumTo(g, dy, shape(0)), () => sumTo(g, dy, shape(1))],
  Sub: ({ g, dy, shape }) => [() => sumTo(g, dy, shape(0)), () => sumTo(g, neg(g, dy), shape(1))],
  Mul: ({ g, dy, input, shape }) => [
    () => sumTo(g, mul(g, dy, input(1)), shape(0)),
    () => sumTo(g, mul(g, dy, input(0)), shape(1)),
  ],
  Div: ({ g, dy, input, output, shape }) => [
    () => sumTo(g, div(g, dy, input(1)), shape(0)),
    () => sumTo(g, neg(g, mul(g, dy, div(g, output(0), input(1)))), shape(1)),
  ],
  Neg: ({ g, dy }) => [() => neg(g, dy)],
  // At 0, where there is no slope, PyTorch's: 0 here, 1 at the ends of Clip.
  Relu: ({ g, dy, output }) => [() => mul(g, dy, sign(g, output(0)))],
  Clip: ({ g, dy, input, output }) => [
    () => {
      const cut = sign(g, sub(g, input(0), output(0)));
      return sub(g, dy, mul(g, dy, mul(g, cut, cut)));
    },
    null,
    null,
  ],
  Exp: ({ g, dy, output }) => [() => mul(g, dy, output(0))],
  // s' = s − s²
  Sigmoid: ({ g, dy, output }) => [() => mul(g, dy, sub(g, output(0), mul(g, output(0), output(0))))],
  // y = x · s with s = σ(αx), so y' = s + α(y − y · s)
  QuickGelu: ({ g, dy, node, input, output }) => [
    () => {
      const alpha = numberOf(node, 'alpha', 1);
      const scaled = (x: Value): Value => (alpha === 1 ? x : mul(g, x, scalar(g, x.dtype, alpha)));
      const s = sigmoid(g, scaled(input(0)));
      const y = output(0);
      // (1 − s) · αy + s, in the order that leaves one value to add.
      return mul(g, dy, sub(g, scaled(y), mul(g, s, sub(g, scaled(y), scalar(g, y.dtype, 1)))));
    },
  ],
  Gelu: ({ g, dy, node, input, output }) => [
    () => mul(g, dy, node.attributes['approximate'] === 'tanh' ? tanhGeluSlope(g, input(0), output(0)) : geluSlope(g, input(0))),
  ],
  Where: ({ g, dy, input, shape }) => [
    null,
    () => sumTo(g, where(g, input(0), dy, scalar(g, dy.dtype, 0)), shape(1)),
    () => sumTo(g, where(g, input(0), scalar(g, dy.dtype, 0), dy), shape(2)),
  ],
  Cast: ({ g, dy, node }) => [() => cast(g, dy, node.inputs[0]?.dtype ?? dy.dtype)],
  Identity: ({ dy }) => [() => dy],
};

/** Φ(x) + x · φ(x) */
function geluSlope(g: Graph, x: Value): Value {
  const times = (value: Value, factor: number): Value => mul(g, value, scalar(g, x.dtype, factor));
  const density = times(exp(g, times(mul(g, x, x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
  const cumulative = add(g, times(erf(g, times(x, Math.SQRT1_2)), 0.5), scalar(g, x.dtype, 0.5));
  return add(g, cumulative, mul(g, x, density));
}

/** (1 + tanh(u)) / 2 = σ(2u), so y = x · s with s = σ(x · (a + b · x²)), and y' = s + (y − y · s) · (a + 3b · x²). */
function tanhGeluSlope(g: Graph, x: Value, y: Value): Value {
  const a = 2 * Math.sqrt(2 / Math.PI);
  const b = 0.044715 * a;
  const square = mul(g, x, x);
  const plus = (factor: number): Value => add(g, mul(g, square, scalar(g, x.dtype, factor)), scalar(g, x.dtype, a));
  const s = sigmoid(g, mul(g, x, plus(b)));
  return add(g, s, mul(g, sub(g, y, mul(g, y, s)), plus(3 * b)));
}

const reductions: Readonly<Record<string, Rule>> = {
  ReduceSum: ({ g, dy, node, input, shape }) => [
    () => {
      const axes = constantOf(g, node.inputs[1]);
      const kept = shape(0).map((size, axis) => (axes.includes(axis) ? 1 : size));
      return expandLike(g, reshape(g, dy, kept), input(0));
    },
    null,
  ],
  // dx = y ⊙ (dy − Σ dy ⊙ y)
  Softmax: ({ g, dy, output, shape }) => [
    () => {
      const y = output(0);
      return mul(g, y, sub(g, dy, sum(g, mul(g, dy, y), [shape(0).length - 1], true)));
    },
  ],
  // With n = x / rms(x) and w = dy ⊙ weight: dx = (w − n · mean(w ⊙ n)) / rms(x).
  SimplifiedLayerNormalization: ({ g, dy, input, output, shape }) => {
    const normalised = (): Value => mul(g, input(0), output(1));
    return [
      () => {
        const n = normalised();
        const w = mul(g, dy, input(1));
        return mul(g, sub(g, w, mul(g, n, mean(g, mul(g, w, n), [shape(0).length - 1], true))), output(1));
      },
      () => sumTo(g, mul(g, dy, normalised()), shape(1)),
    ];
  },
  // With n = (x − mean) / deviation and w = dy ⊙ weight: dx = (w − mean(w) − n · mean(w ⊙ n)) / deviation.
  LayerNormalization: ({ g, dy, input, output, shape }) => {
    const normalised = (): Value => mul(g, sub(g, input(0), output(1)), output(2));
    return [
      () => {
        const n = normalised();
        const w = mul(g, dy, input(1));
        const average = (value: Value): Value => mean(g, value, [shape(0).length - 1], true);
        return mul(g, sub(g, sub(g, w, average(w)), mul(g, n, average(mul(g, w, n)))), output(2));
      },
      () => sumTo(g, mul(g, dy, normalised()), shape(1)),
      () => sumTo(g, dy, shape(2)),
    ];
  },
  // softmax(logits) − onehot(target), each row times its own gradient
  SoftmaxCrossEntropyLoss: ({ g, dy, input, output }) => [
    () => {
      const minusOnehot = expandLike(g, scalar(g, dy.dtype, -1), dy);
      return mul(g, scatterColumn(g, exp(g, output(1)), input(1), minusOnehot), reshape(g, dy, [...dy.shape, 1]));
    },
    null,
  ],
};

const layouts: Readonly<Record<string, Rule>> = {
  Transpose: ({ g, dy, node }) => [() => transpose(g, dy, opposite(node.attributes['perm'] as readonly number[]))],
  Reshape: ({ g, dy, input, shape }) => [() => reshapeTo(g, dy, shape(0), () => input(0)), null],
  Expand: ({ g, dy, shape }) => [() => sumTo(g, dy, shape(0)), null],
  Split: ({ g, dys, node, output }) => [
    () =>
      concat(
        g,
        node.outputs.map((_, part) => dys[part] ?? zerosLike(g, output(part))),
        numberOf(node, 'axis', 0),
      ),
    null,
  ],
  Concat: ({ g, dy, node, shape }) => {
    const axis = numberOf(node, 'axis', 0);
    let parts: readonly Value[] | undefined;
    const cut = (): readonly Value[] => {
      parts ??= split(
        g,
        dy,
        node.inputs.map((_, part) => shape(part)[axis] as Dim),
        axis,
      );
      return parts;
    };
    return node.inputs.map((_, part) => () => cut()[part] as Value);
  },
  Gather: ({ g, dy, node, input, shape }) => [
    () => {
      const axis = numberOf(node, 'axis', 0);
      const order = orderOf(g, node.inputs[1], shape(0)[axis]);
      if (order) return reorder(g, dy, opposite(order), axis);
      if (axis !== 0) throw new TypeError(`Expected rows to be gathered, or a new order of axis ${axis}, to differentiate`);
      // Every place that read a row of the table adds to that row.
      return scatterAdd(g, zerosLike(g, input(0)), flatten(g, input(1), 0), flatten(g, dy, shape(0).length - 1));
    },
    null,
  ],
  ScatterND: ({ g, dy, input }) => [
    () => scatterND(g, dy, input(1), zerosLike(g, input(2))),
    null,
    () => gatherND(g, dy, input(1)),
  ],
  // The transpose of a rotation turns the other way.
  RotaryEmbedding: ({ g, dy, input }) => [() => rotary(g, dy, input(1), input(2), neg(g, input(3))), null, null, null],
};

/** y = α · op(a) · op(b), op a transpose or nothing: each gradient is again one product, in the operands' own layout. */
const product: Rule = ({ g, dy, node, input, shape }) => {
  const transA = numberOf(node, 'transA', 0) === 1;
  const transB = numberOf(node, 'transB', 0) === 1;
  const alpha = numberOf(node, 'alpha', 1);
  return [
    () => {
      const b = input(1);
      const da = transA
        ? matmul(g, b, dy, { transA: transB, transB: true, alpha })
        : matmul(g, dy, b, { transB: !transB, alpha });
      return sumTo(g, da, shape(0));
    },
    () => {
      const a = input(0);
      // One matrix for all rows: their sum is one long product, not a product a row and a sum.
      const isShared = shape(1).length === 2 && !transA;
      const x = isShared ? flatten(g, a, 1) : a;
      const d = isShared ? flatten(g, dy, 1) : dy;
      const db = transB ? matmul(g, d, x, { transA: true, transB: transA, alpha }) : matmul(g, x, d, { transA: !transA, alpha });
      return sumTo(g, db, shape(1));
    },
  ];
};

/** By operator name. */
export const rules: ReadonlyMap<string, Rule> = new Map(
  Object.entries({ ...elementwise, MatMul: product, FusedMatMul: product, ...reductions, ...layouts }),
);

/** The integers of a vector that the graph holds. */
function constantOf(g: Graph, value: Value | null | undefined): number[] {
  const data = value ? g.initializers.get(value.name)?.data : undefined;
  if (!(data instanceof Uint8Array)) throw new TypeError(`Expected ${value?.name} to be held in the graph`);
  return Array.from(new BigInt64Array(data.slice().buffer), Number);
}

/** The indices where the graph holds them and they name each of `size` places once. */
function orderOf(g: Graph, indices: Value | null | undefined, size: Dim | undefined): number[] | null {
  if (indices?.shape.length !== 1 || indices.shape[0] !== size || !g.initializers.has(indices.name)) return null;
  const order = constantOf(g, indices);
  return new Set(order).size === size && order.every((place) => place >= 0) ? order : null;
}
