/**
 * Operators: one function each, which checks its operands, infers dtype and shape of the result and appends one node.
 * A refusal is a TypeError that names the operator and the shapes: building a graph wrongly is a programmer's mistake.
 */
import type { DType } from '../tensor/dtype.js';
import type { Graph, Value } from './graph.js';
import { broadcast, type Dim, formatShape, sameShape } from './shape.js';

const MICROSOFT = 'com.microsoft';

function refuse(op: string, expected: string, ...received: readonly Value[]): never {
  throw new TypeError(
    `${op}: expected ${expected} but received ${received.map((value) => `${value.dtype} ${formatShape(value.shape)} (${value.name})`).join(' and ')}`,
  );
}

function one(values: Value[]): Value {
  return values[0] as Value;
}

function dim(value: Value, axis: number): Dim {
  const size = value.shape.at(axis);
  if (size === undefined)
    throw new TypeError(`Expected ${value.name} to have axis ${axis} but its shape is ${formatShape(value.shape)}`);
  return size;
}

function elementwise(op: string, g: Graph, a: Value, b: Value): Value {
  if (a.dtype !== b.dtype) refuse(op, 'operands of one dtype', a, b);
  const shape = broadcast(a.shape, b.shape) ?? refuse(op, 'shapes that broadcast', a, b);
  return one(g.node(op, [a, b], [{ dtype: a.dtype, shape }]));
}

export const add = (g: Graph, a: Value, b: Value): Value => elementwise('Add', g, a, b);
export const sub = (g: Graph, a: Value, b: Value): Value => elementwise('Sub', g, a, b);
export const mul = (g: Graph, a: Value, b: Value): Value => elementwise('Mul', g, a, b);
export const div = (g: Graph, a: Value, b: Value): Value => elementwise('Div', g, a, b);

/** Elements of x where the condition (bool) holds, of y elsewhere. */
export function where(g: Graph, condition: Value, x: Value, y: Value): Value {
  if (condition.dtype !== 'bool' || x.dtype !== y.dtype)
    refuse('Where', 'a bool condition and operands of one dtype', condition, x, y);
  const branches = broadcast(x.shape, y.shape);
  const shape = (branches && broadcast(branches, condition.shape)) ?? refuse('Where', 'shapes that broadcast', condition, x, y);
  return one(g.node('Where', [condition, x, y], [{ dtype: x.dtype, shape }]));
}

/** a [..., m, k] · b [..., k, n] → [..., m, n], leading axes broadcast. */
export function matmul(g: Graph, a: Value, b: Value): Value {
  return product('MatMul', g, a, b, false);
}

/** a [..., m, k] · bᵀ with b [n, k], the checkpoint's own layout [out, in] → [..., m, n]. */
export function linear(g: Graph, a: Value, b: Value): Value {
  return product('FusedMatMul', g, a, b, true);
}

function product(op: string, g: Graph, a: Value, b: Value, transB: boolean): Value {
  const inner = transB ? -1 : -2;
  if (a.dtype !== b.dtype || a.shape.length < 2 || b.shape.length < 2 || dim(a, -1) !== dim(b, inner)) {
    refuse(op, `[..., m, k] and ${transB ? '[..., n, k]' : '[..., k, n]'} of one dtype`, a, b);
  }
  const leading = broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2)) ?? refuse(op, 'leading axes that broadcast', a, b);
  const shape = [...leading, dim(a, -2), dim(b, transB ? -2 : -1)];
  return one(
    transB
      ? g.node(op, [a, b], [{ dtype: a.dtype, shape }], { transB: 1 }, MICROSOFT)
      : g.node(op, [a, b], [{ dtype: a.dtype, shape }]),
  );
}

/** x · sigmoid(x), float32. */
export function silu(g: Graph, x: Value): Value {
  if (x.dtype !== 'float32') refuse('QuickGelu', 'float32', x);
  return one(g.node('QuickGelu', [x], [x], { alpha: { float: 1 } }, MICROSOFT));
}

/** min(max(x, low), high), float32. */
export function clip(g: Graph, x: Value, low: Value, high: Value): Value {
  const values = [x, low, high];
  if (low.shape.length > 0 || high.shape.length > 0 || values.some(({ dtype }) => dtype !== 'float32'))
    refuse('Clip', 'float32 and scalar bounds', ...values);
  return one(g.node('Clip', [x, low, high], [x]));
}

/** x / rms(x) · weight over the last axis (Zhang & Sennrich 2019). */
export function rmsNorm(g: Graph, x: Value, weight: Value, epsilon: number): Value {
  if (x.dtype !== weight.dtype || x.shape.length === 0 || !sameShape(weight.shape, x.shape.slice(-1)))
    refuse('SimplifiedLayerNormalization', '[..., d] and weight [d] of one dtype', x, weight);
  return one(g.node('SimplifiedLayerNormalization', [x, weight], [x], { axis: -1, epsilon: { float: epsilon } }));
}

export interface ConvOptions {
  readonly strides?: readonly [number, number];
  /** [top, left, bottom, right]. */
  readonly pads?: readonly [number, number, number, number];
  readonly dilations?: readonly [number, number];
  readonly groups?: number;
}

/** x [n, c, h, w], weight [o, c / groups, kh, kw], bias [o] → [n, o, h', w']. Spatial sizes must be known. */
export function conv2d(g: Graph, x: Value, weight: Value, bias: Value | null, options: ConvOptions = {}): Value {
  const { strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], groups = 1 } = options;
  const [n, c, height, width] = x.shape;
  const [out, perGroup, kh, kw] = weight.shape;
  if (
    x.dtype !== weight.dtype ||
    x.shape.length !== 4 ||
    weight.shape.length !== 4 ||
    typeof c !== 'number' ||
    c !== Number(perGroup) * groups ||
    Number(out) % groups !== 0 ||
    typeof height !== 'number' ||
    typeof width !== 'number'
  ) {
    refuse('Conv', `[n, c, h, w] and [o, c / ${groups}, kh, kw] of one dtype`, x, weight);
  }
  if (bias && (bias.dtype !== x.dtype || !sameShape(bias.shape, [out as Dim])))
    refuse('Conv', `a ${x.dtype} bias [${out}]`, bias);
  const size = (input: number, kernel: Dim | undefined, axis: 0 | 1): number => {
    const room = input + pads[axis] + pads[(axis + 2) as 2 | 3] - dilations[axis] * (Number(kernel) - 1) - 1;
    if (!(room >= 0)) refuse('Conv', `a padded image no smaller than the kernel, on axis ${axis + 2},`, x, weight);
    return Math.floor(room / strides[axis]) + 1;
  };
  const shape = [n as Dim, out as Dim, size(height, kh, 0), size(width, kw, 1)];
  return one(
    g.node('Conv', bias ? [x, weight, bias] : [x, weight], [{ dtype: x.dtype, shape }], {
      strides,
      pads,
      dilations,
      group: groups,
    }),
  );
}

/** Reorders axes. */
export function transpose(g: Graph, x: Value, order: readonly number[]): Value {
  if (
    !sameShape(
      [...order].sort((a, b) => a - b),
      x.shape.map((_, axis) => axis),
    )
  )
    refuse('Transpose', `an order of ${x.shape.length} axes, not [${order.join(', ')}],`, x);
  return one(g.node('Transpose', [x], [{ dtype: x.dtype, shape: order.map((axis) => dim(x, axis)) }], { perm: order }));
}

/**
 * Reshapes; at most one axis may be a name that is not at its old place. Sizes are checked as far as they are known.
 * An axis of no elements is refused: ONNX writes "as before" as 0.
 */
export function reshape(g: Graph, x: Value, shape: readonly Dim[]): Value {
  const sizes = shape.map((size, axis) => (typeof size === 'number' ? size : size === x.shape[axis] ? 0 : -1));
  const known = (dims: readonly Dim[]): number =>
    dims.reduce<number>((total, size) => (typeof size === 'number' ? total * size : total), 1);
  const names = (dims: readonly Dim[]): Dim[] => dims.filter((size) => typeof size === 'string').sort();
  const fits = sameShape(names(x.shape), names(shape))
    ? known(x.shape) === known(shape)
    : // One more name than before stands for a factor of what is known.
      names(x.shape).length > 0 || known(x.shape) % known(shape) === 0;
  if (sizes.filter((size) => size === -1).length > 1 || shape.includes(0) || !fits) {
    refuse('Reshape', `a shape that fits ${formatShape(shape)}`, x);
  }
  const target = int64(g, sizes);
  return one(g.node('Reshape', [x, target], [{ dtype: x.dtype, shape }]));
}

/** Cuts the last axis into equal parts: a number of them, or n times the name d of an axis named `d*n`. */
export function split(g: Graph, x: Value, parts: readonly Dim[]): Value[] {
  const [part] = parts;
  const count = parts.length;
  const total = count === 1 ? part : typeof part === 'number' ? part * count : `${part}*${count}`;
  if (part === undefined || parts.some((other) => other !== part) || x.shape.at(-1) !== total)
    refuse('Split', `a last axis of ${count} equal parts (${parts.join(' + ')})`, x);
  if (count === 1) return [x];
  const outputs = parts.map((part) => ({ dtype: x.dtype, shape: [...x.shape.slice(0, -1), part] }));
  return g.node('Split', [x], outputs, { axis: -1, num_outputs: count });
}

/** Rows of a table: table [n, ...rest], indices int64 [...] → [..., ...rest]. */
export function gather(g: Graph, table: Value, indices: Value): Value {
  if (indices.dtype !== 'int64' || table.shape.length === 0) refuse('Gather', 'a table and int64 indices', table, indices);
  return one(
    g.node('Gather', [table, indices], [{ dtype: table.dtype, shape: [...indices.shape, ...table.shape.slice(1)] }], { axis: 0 }),
  );
}

/** Picks x[i, j] for every [i, j] of indices: x [a, b, ...rest], indices int64 [n, 2] → [n, ...rest]. */
export function gatherND(g: Graph, x: Value, indices: Value): Value {
  const [count] = checkIndexPairs('GatherND', x, indices);
  return one(g.node('GatherND', [x, indices], [{ dtype: x.dtype, shape: [count, ...x.shape.slice(2)] }]));
}

/** x with x[i, j] replaced: x [a, b, ...rest], indices int64 [n, 2], updates [n, ...rest]. n may be 0. */
export function scatterND(g: Graph, x: Value, indices: Value, updates: Value): Value {
  const [count] = checkIndexPairs('ScatterND', x, indices);
  if (updates.dtype !== x.dtype || !sameShape(updates.shape, [count, ...x.shape.slice(2)]))
    refuse('ScatterND', 'updates [n, ...rest]', x, indices, updates);
  return one(g.node('ScatterND', [x, indices, updates], [x]));
}

function checkIndexPairs(op: string, x: Value, indices: Value): [Dim] {
  if (indices.dtype !== 'int64' || indices.shape.length !== 2 || indices.shape[1] !== 2 || x.shape.length < 2)
    refuse(op, 'x [a, b, ...] and int64 indices [n, 2]', x, indices);
  return [dim(indices, 0)];
}

export function cast(g: Graph, x: Value, dtype: DType): Value {
  if (x.dtype === dtype) return x;
  const to = { float32: 1, float16: 10, int64: 7, int32: 6, bfloat16: 16 }[dtype as string];
  if (to === undefined) refuse('Cast', `a target of float32, float16, bfloat16, int32 or int64, not ${dtype},`, x);
  return one(g.node('Cast', [x], [{ dtype, shape: x.shape }], { to }));
}

/** Rotates every head of x [rows, tokens, heads · headDim] by its position: positions int64 [rows, tokens], cos and sin [n, headDim / 2]. */
export function rotary(g: Graph, x: Value, positions: Value, cos: Value, sin: Value): Value {
  const headDim = 2 * Number(cos.shape[1]);
  if (
    x.shape.length !== 3 ||
    cos.shape.length !== 2 ||
    Number(x.shape[2]) % headDim !== 0 ||
    !sameShape(cos.shape, sin.shape) ||
    !sameShape(positions.shape, x.shape.slice(0, 2)) ||
    positions.dtype !== 'int64' ||
    [x, cos, sin].some(({ dtype }) => dtype !== 'float32')
  ) {
    refuse(
      'RotaryEmbedding',
      'x [rows, tokens, heads · d], int64 positions [rows, tokens] and float32 tables [n, d / 2]',
      x,
      positions,
      cos,
      sin,
    );
  }
  return one(g.node('RotaryEmbedding', [x, positions, cos, sin], [x], {}, MICROSOFT));
}

/** onnxruntime's attention works on whole vectors of this many numbers. */
const HEAD_DIM_STEP = 8;

export interface GroupQueryAttentionInputs {
  readonly q: Value; // [rows, tokens, heads · headDim]
  readonly k: Value; // [rows, tokens, kvHeads · headDim]
  readonly v: Value; // [rows, tokens, kvHeads · headDim]
  readonly pastK: Value; // [rows, kvHeads, capacity, headDim]
  readonly pastV: Value;
  /** int32 [rows]: length of each row after this run, minus one. */
  readonly lengths: Value;
  /** int32 [1]: the longest row after this run. */
  readonly total: Value;
}

/** Causal attention of the last tokens of each row over its past and themselves (onnxruntime's GroupQueryAttention) → like q. */
export function groupQueryAttention(g: Graph, inputs: GroupQueryAttentionInputs, heads: number, kvHeads: number): Value {
  const { q, k, v, pastK, pastV, lengths, total } = inputs;
  const [rows, tokens] = q.shape as [Dim, Dim];
  const [, , capacity, headDim] = pastK.shape as [Dim, Dim, Dim, Dim];
  if (
    !sameShape(q.shape, [rows, tokens, heads * Number(headDim)]) ||
    !sameShape(k.shape, [rows, tokens, kvHeads * Number(headDim)]) ||
    !sameShape(v.shape, k.shape) ||
    !sameShape(pastK.shape, [rows, kvHeads, capacity, headDim]) ||
    !sameShape(pastV.shape, pastK.shape) ||
    !sameShape(lengths.shape, [rows]) ||
    !sameShape(total.shape, [1]) ||
    [q, k, v, pastK, pastV].some(({ dtype }) => dtype !== 'float32') ||
    [lengths, total].some(({ dtype }) => dtype !== 'int32') ||
    heads % kvHeads !== 0
  ) {
    refuse(
      'GroupQueryAttention',
      `q [rows, tokens, ${heads} · d], k and v [rows, tokens, ${kvHeads} · d], keys and values before them [rows, ${kvHeads}, n, d], ` +
        'int32 lengths [rows] and total [1]',
      q,
      k,
      v,
      pastK,
      pastV,
      lengths,
      total,
    );
  }
  if (Number(headDim) % HEAD_DIM_STEP !== 0)
    refuse('GroupQueryAttention', `heads of a multiple of ${HEAD_DIM_STEP} dimensions`, pastK);
  // The operator's second and third output are the cache with the new tokens in it; nobody reads them.
  return g.node(
    'GroupQueryAttention',
    [q, k, v, pastK, pastV, lengths, total],
    [q, pastK, pastV],
    { num_heads: heads, kv_num_heads: kvHeads },
    MICROSOFT,
  )[0] as Value;
}

/** Joins values along the last axis; all other axes are equal. */
export function concat(g: Graph, values: readonly Value[]): Value {
  const [first] = values;
  if (!first) throw new TypeError('Concat: expected at least one value but received none');
  if (values.length === 1) return first;
  const leading = first.shape.slice(0, -1);
  if (
    values.some(
      ({ dtype, shape }) => dtype !== first.dtype || !sameShape(shape.slice(0, -1), leading) || typeof shape.at(-1) !== 'number',
    )
  ) {
    refuse('Concat', 'values of one dtype that differ in a known last axis only', ...values);
  }
  const last = values.reduce((total, value) => total + Number(dim(value, -1)), 0);
  return one(g.node('Concat', values, [{ dtype: first.dtype, shape: [...leading, last] }], { axis: -1 }));
}

/** An int64 vector held in the graph. */
function int64(g: Graph, values: readonly number[]): Value {
  return g.constant(null, 'int64', [values.length], new Uint8Array(BigInt64Array.from(values, BigInt).buffer));
}

/** A float32 constant held in the graph. */
export function float32(g: Graph, name: string | null, shape: readonly number[], values: ArrayLike<number>): Value {
  return g.constant(name, 'float32', shape, new Uint8Array(Float32Array.from(values).buffer));
}
