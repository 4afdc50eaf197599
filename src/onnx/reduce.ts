/** Operators that take an axis together: sums, means, softmax, and the loss of a language model. */
import type { Graph, Value } from './graph.js';
import { one, refuse } from './ops.js';
import { sameShape } from './shape.js';

/** Sum over axes (not negative, in order), which stay as axes of one element where `keep`, else go. */
export const sum = (g: Graph, x: Value, axes: readonly number[], keep = false): Value => reduce('ReduceSum', g, x, axes, keep);
/** Mean over axes, likewise. */
export const mean = (g: Graph, x: Value, axes: readonly number[], keep = false): Value => reduce('ReduceMean', g, x, axes, keep);

function reduce(op: string, g: Graph, x: Value, axes: readonly number[], keep: boolean): Value {
  if (
    axes.some((axis, index) => !Number.isInteger(axis) || axis < 0 || axis >= x.shape.length || axis <= (axes[index - 1] ?? -1))
  )
    refuse(op, `axes of it in order, not [${axes.join(', ')}],`, x);
  if (axes.length === 0) return x;
  const shape = keep
    ? x.shape.map((size, axis) => (axes.includes(axis) ? 1 : size))
    : x.shape.filter((_, axis) => !axes.includes(axis));
  const list = g.constant(null, 'int64', [axes.length], new Uint8Array(BigInt64Array.from(axes, BigInt).buffer));
  return one(g.node(op, [x, list], [{ dtype: x.dtype, shape }], { keepdims: keep ? 1 : 0 }));
}

/** exp(x) / Σ exp(x) over the last axis. */
export function softmax(g: Graph, x: Value): Value {
  if (x.shape.length === 0 || !x.dtype.startsWith('float')) refuse('Softmax', 'floats with an axis', x);
  return one(g.node('Softmax', [x], [x], { axis: x.shape.length - 1 }));
}

/**
 * −log softmax(logits)[target] of each row: logits [n, classes], targets int64 [n] → [n].
 * The node's second result, the log-probabilities [n, classes], is there for its gradient.
 */
export function crossEntropy(g: Graph, logits: Value, targets: Value): Value {
  if (logits.shape.length !== 2 || targets.dtype !== 'int64' || !sameShape(targets.shape, logits.shape.slice(0, 1)))
    refuse('SoftmaxCrossEntropyLoss', 'logits [n, classes] and int64 targets [n]', logits, targets);
  const losses = { dtype: logits.dtype, shape: targets.shape };
  return one(g.node('SoftmaxCrossEntropyLoss', [logits, targets], [losses, logits], { reduction: 'none' }));
}
