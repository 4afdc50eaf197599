/**
 * Operators: one function each, which checks its operands, infers dtype and shape of the result and appends one node.
 * A refusal is a TypeError that names the operator and the shapes: building a graph wrongly is a programmer's mistake.
 */
import type { DType } from '../tensor/dtype.js';
import type { Graph, Value } from './graph.js';
import { broadcast, type Dim, formatShape, sameShape } from './shape.js';

export const MICROSOFT = 'com.microsoft';

/** Refuses operands. Shared by the files of operators, not for others. */
export function refuse(op: string, expected: string, ...received: readonly Value[]): never {
  throw new TypeError(
    `${op}: expected ${expected} but received ${received.map((value) => `${value.dtype} ${formatShape(value.shape)} (${value.name})`).join(' and ')}`,
  );
}

/** The result of a node that has one. */
export function one(values: Value[]): Value {
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

export interface ProductOptions {
  /** Whether the last two axes of a (of b) are swapped first. */
  readonly transA?: boolean;
  readonly transB?: boolean;
  /** The result is multiplied by this. */
  readonly alpha?: number;
}

/** a [..., m, k] · b [..., k, n] → [..., m, n], leading axes broadcast; transposed and scaled by the product itself where asked for. */
export function matmul(g: Graph, a: Value, b: Value, options: ProductOptions = {}): Value {
  const { transA = false, transB = false, alpha = 1 } = options;
  const isFused = transA || transB || alpha !== 1;
  const op = isFused ? 'FusedMatMul' : 'MatMul';
  if (a.dtype !== b.dtype || a.shape.length < 2 || b.shape.length < 2 || dim(a, transA ? -2 : -1) !== dim(b, transB ? -1 : -2)) {
    refuse(op, `[..., ${transA ? 'k, m' : 'm, k'}] and ${transB ? '[..., n, k]' : '[..., k, n]'} of one dtype`, a, b);
  }
  const leading = broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2)) ?? refuse(op, 'leading axes that broadcast', a, b);
  const output = { dtype: a.dtype, shape: [...leading, dim(a, transA ? -1 : -2), dim(b, transB ? -2 : -1)] };
  if (!isFused) return one(g.node(op, [a, b], [output]));
  const attributes = {
    ...(transA ? { transA: 1 } : {}),
    ...(transB ? { transB: 1 } : {}),
    ...(alpha === 1 ? {} : { alpha: { float: alpha } }),
  };
  return one(g.node(op, [a, b], [output], attributes, MICROSOFT));
}

/** a [..., m, k] · bᵀ with b [n, k], the checkpoint's own layout [out, in] → [..., m, n]. */
export function linear(g: Graph, a: Value, b: Value): Value {
  return matmul(g, a, b, { transB: true });
}

/** x · sigmoid(x), float32. */
export function silu(g: Graph, x: Value): Value {
  if (x.dtype !== 'float32') refuse('QuickGelu', 'float32', x);
  return one(g.node('QuickGelu', [x], [x], { alpha: { float: 1 } }, MICROSOFT));
}

const unary = (op: string, g: Graph, x: Value): Value =>
  x.dtype.startsWith('float') ? one(g.node(op, [x], [x])) : refuse(op, 'a float dtype', x);

export const neg = (g: Graph, x: Value): Value => unary('Neg', g, x);
export const exp = (g: Graph, x: Value): Value => unary('Exp', g, x);
export const sigmoid = (g: Graph, x: Value): Value => unary('Sigmoid', g, x);
/** -1, 0 or 1. */
export const sign = (g: Graph, x: Value): Value => unary('Sign', g, x);

/** min(max(x, low), high), float32. */
export function clip(g: Graph, x: Value, low: Value, high: Value): Value {
  const values = [x, low, high];
  if (low.shape.length > 0 || high.shape.length > 0 || values.some(({ dtype }) => dtype !== 'float32'))
    refuse('Clip', 'float32 and scalar bounds', ...values);
  return one(g.node('Clip', [x, low, high], [x]));
}

/** x / rms(x) · weight over the last axis (Zhang & Sennrich 2019). The node's second result, 1 / rms(x), is there for its gradient. */
export function rmsNorm(g: Graph, x: Value, weight: Value, epsilon: number): Value {
  if (x.dtype !== weight.dtype || x.shape.length === 0 || !sameShape(weight.shape, x.shape.slice(-1)))
    refuse('SimplifiedLayerNormalization', '[..., d] and weight [d] of one dtype', x, weight);
  const inverse = { dtype: x.dtype, shape: [...x.shape.slice(0, -1), 1] };
  return one(g.node('SimplifiedLayerNormalization', [x, weight], [x, inverse], { axis: -1, epsilon: { float: epsilon } }));
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

/** Cuts an axis (the last one unless told) into parts: known sizes, or n times the name d of an axis named `d*n`. */
export function split(g: Graph, x: Value, parts: readonly Dim[], axis = -1): Value[] {
  const [part] = parts;
  const count = parts.length;
  const isKnown = parts.every((size) => typeof size === 'number');
  const total = isKnown ? parts.reduce((sum, size) => sum + size, 0) : count === 1 ? part : `${part}*${count}`;
  const at = axis < 0 ? x.shape.length + axis : axis;
  if (part === undefined || (!isKnown && parts.some((other) => other !== part)) || x.shape[at] !== total)
    refuse('Split', `axis ${axis} of ${isKnown ? '' : 'equal '}parts (${parts.join(' + ')})`, x);
  if (count === 1) return [x];
  const outputs = parts.map((size) => ({ dtype: x.dtype, shape: x.shape.with(at, size) }));
  if (!isKnown || parts.every((size) => size === part)) return g.node('Split', [x], outputs, { axis: at, num_outputs: count });
  return g.node('Split', [x, int64(g, parts.map(Number))], outputs, { axis: at });
}

/** Rows of a table: table [n, ...rest], indices int64 [...] → [..., ...rest]. */
export function gather(g: Graph, table: Value, indices: Value): Value {
  if (indices.dtype !== 'int64' || table.shape.length === 0) refuse('Gather', 'a table and int64 indices', table, indices);
  return one(
    g.node('Gather', [table, indices], [{ dtype: table.dtype, shape: [...indices.shape, ...table.shape.slice(1)] }], { axis: 0 }),
  );
}

/** What lies along an axis in another order: place i takes what was at order[i]. Every place is named once, which is what makes it cheap to undo. */
export function reorder(g: Graph, x: Value, order: readonly number[], axis: number): Value {
  if (x.shape[axis] !== order.length || new Set(order).size !== order.length || order.some((place) => !(place in order)))
    refuse('Gather', `an order of axis ${axis}, not ${order.length} places,`, x);
  return one(g.node('Gather', [x, int64(g, order)], [x], { axis }));
}

/** The order that undoes an order. */
export function opposite(order: readonly number[]): number[] {
  const result = Array<number>(order.length);
  for (const [to, from] of order.entries()) result[from] = to;
  return result;
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

/** Joins values along an axis (the last one unless told), on which their sizes are known; all other axes are equal. */
export function concat(g: Graph, values: readonly Value[], axis = -1): Value {
  const [first] = values;
  if (!first) throw new TypeError('Concat: expected at least one value but received none');
  const at = axis < 0 ? first.shape.length + axis : axis;
  const others = ({ shape }: Value): Dim[] => shape.toSpliced(at, 1);
  if (values.length === 1) return first;
  if (
    values.some(
      (value) => value.dtype !== first.dtype || !sameShape(others(value), others(first)) || typeof value.shape[at] !== 'number',
    )
  )
    refuse('Concat', `values of one dtype that differ in the known axis ${axis} only`, ...values);
  const total = values.reduce((sum, { shape }) => sum + Number(shape[at]), 0);
  return one(g.node('Concat', values, [{ dtype: first.dtype, shape: first.shape.with(at, total) }], { axis: at }));
}

/**
 * table with updates added to its rows: table [n, ...rest], indices int64 [m], updates [m, ...rest]; equal indices add up, in order.
 * (Not ScatterND, whose sums race between threads: onnxruntime issue 18048.)
 */
export function scatterAdd(g: Graph, table: Value, indices: Value, updates: Value): Value {
  const rest = table.shape.slice(1);
  if (
    indices.dtype !== 'int64' ||
    indices.shape.length !== 1 ||
    updates.dtype !== table.dtype ||
    !sameShape(updates.shape, [...indices.shape, ...rest])
  )
    refuse('ScatterElements', 'a table [n, ...rest], int64 indices [m] and updates [m, ...rest]', table, indices, updates);
  const column = reshape(g, indices, [dim(indices, 0), ...rest.map(() => 1)]);
  const each = one(g.node('Expand', [column, shapeOf(g, updates)], [{ dtype: 'int64', shape: updates.shape }]));
  return one(g.node('ScatterElements', [table, each, updates], [table], { axis: 0, reduction: 'add' }));
}

/** x [n, m] with each of updates [n] added to the column that columns, int64 [n], names in its row. */
export function scatterColumn(g: Graph, x: Value, columns: Value, updates: Value): Value {
  const n = x.shape.slice(0, 1);
  if (
    x.shape.length !== 2 ||
    columns.dtype !== 'int64' ||
    ![columns, updates].every(({ shape }) => sameShape(shape, n)) ||
    updates.dtype !== x.dtype
  )
    refuse('ScatterElements', 'x [n, m], int64 columns [n] and updates [n]', x, columns, updates);
  const inputs = [x, reshape(g, columns, [...n, 1]), reshape(g, updates, [...n, 1])];
  return one(g.node('ScatterElements', inputs, [x], { axis: 1, reduction: 'add' }));
}

/** A value's sizes at run time, int64 [rank]. */
function shapeOf(g: Graph, x: Value): Value {
  return one(g.node('Shape', [x], [{ dtype: 'int64', shape: [x.shape.length] }]));
}

/** Zeros of x's dtype and sizes. */
export function zerosLike(g: Graph, x: Value): Value {
  return one(g.node('Expand', [scalar(g, x.dtype, 0), shapeOf(g, x)], [x]));
}

/** x repeated along axes of one element, or new leading ones, to the sizes of `like`. */
export function expandLike(g: Graph, x: Value, like: Value): Value {
  const shape = broadcast(x.shape, like.shape);
  if (!shape || !sameShape(shape, like.shape)) refuse('Expand', 'a shape that broadcasts to the second one', x, like);
  return one(g.node('Expand', [x, shapeOf(g, like)], [{ dtype: x.dtype, shape }]));
}

/** x [1, ...rest] once for every row of `like` → [rows, ...rest]. */
export function repeatRows(g: Graph, x: Value, like: Value): Value {
  const [rows] = like.shape;
  if (rows === undefined || x.shape[0] !== 1) refuse('Expand', 'one row, and rows to repeat it for', x, like);
  if (rows === 1) return x;
  const count = one(g.node('Shape', [like], [{ dtype: 'int64', shape: [1] }], { start: 0, end: 1 }));
  const sizes = concat(g, [count, int64(g, Array<number>(x.shape.length - 1).fill(1))]);
  return one(g.node('Expand', [x, sizes], [{ dtype: x.dtype, shape: x.shape.with(0, rows) }]));
}

/** All axes but the last `kept` as one: [a, b, ...kept] → [a·b, ...kept]. */
export function flatten(g: Graph, x: Value, kept: number): Value {
  const leading = x.shape.slice(0, x.shape.length - kept);
  if (leading.length === 1) return x;
  const isKnown = leading.every((size) => typeof size === 'number');
  const merged = isKnown ? leading.reduce((product, size) => product * size, 1) : leading.join('*');
  return reshape(g, x, [merged, ...x.shape.slice(leading.length)]);
}

/** Reshapes to the shape that another value has, given in case the names of its axes do not say enough (two of them merged into one). */
export function reshapeTo(g: Graph, x: Value, shape: readonly Dim[], like: () => Value): Value {
  const moved = shape.filter((size, axis) => typeof size === 'string' && size !== x.shape[axis]);
  if (moved.length < 2) return reshape(g, x, shape);
  return one(g.node('Reshape', [x, shapeOf(g, like())], [{ dtype: x.dtype, shape }]));
}

/** x itself, computed only once `like`, of the same shape, is: a reshape to the sizes that `like` turns out to have. */
export function reshapeLike(g: Graph, x: Value, like: Value): Value {
  if (!sameShape(x.shape, like.shape)) refuse('Reshape', 'values of one shape', x, like);
  return one(g.node('Reshape', [x, shapeOf(g, like)], [x]));
}

/** An int64 vector held in the graph. */
export function int64(g: Graph, values: readonly number[]): Value {
  return g.constant(null, 'int64', [values.length], new Uint8Array(BigInt64Array.from(values, BigInt).buffer));
}

/** A float32 constant held in the graph. */
export function float32(g: Graph, name: string | null, shape: readonly number[], values: ArrayLike<number>): Value {
  return g.constant(name, 'float32', shape, new Uint8Array(Float32Array.from(values).buffer));
}

/** A number of a float dtype, held in the graph. */
export function scalar(g: Graph, dtype: DType, value: number): Value {
  if (dtype === 'float64') return g.constant(null, dtype, [], new Uint8Array(Float64Array.of(value).buffer));
  if (dtype !== 'float32') throw new TypeError(`Expected a scalar of float32 or float64 but received ${dtype}`);
  return float32(g, null, [], [value]);
}
