/** Sums, means and what is made of them along an axis: softmax and the cross entropy of class scores. */
import { type Array64, at, axisOf, count, make, moved, offset, scalar } from './array.js';
import type { Call, Kernel } from './call.js';

function reduce(call: Call, finish: (total: number, size: number) => number): Array64[] {
  const x = call.input(0);
  const keep = call.int('keepdims', 1) === 1;
  const nothing = call.int('noop_with_empty_axes', 0) === 1;
  const attribute = call.ints('axes');
  const axes = (call.optional(1) ? call.list(1) : (attribute ?? [])).map((axis) => axisOf(axis, x.shape.length));
  if (axes.length === 0 && nothing) return [x];
  const reduced = x.shape.map((_, axis) => axes.length === 0 || axes.includes(axis));
  const kept = x.shape.map((size, axis) => (reduced[axis] ? 1 : size));
  const totals = new Float64Array(count(kept));
  make(x.shape, (index) => {
    const place = offset(kept, index);
    totals[place] = (totals[place] as number) + at(x, index);
    return 0;
  });
  const size = count(x.shape.filter((_, axis) => reduced[axis]));
  const shape = keep ? kept : x.shape.filter((_, axis) => !reduced[axis]);
  return [{ shape, data: totals.map((total) => finish(total, size)) }];
}

/** log(exp(x) / sum(exp(x))) along an axis, shifted so that no exponential overflows. */
function logSoftmax(x: Array64, axis: number): Array64 {
  const size = x.shape[axis] as number;
  return make(x.shape, (index) => {
    const line = Array.from({ length: size }, (_, place) => at(x, moved(index, axis, place)));
    const largest = Math.max(...line);
    const total = line.reduce((sum, each) => sum + Math.exp(each - largest), 0);
    return at(x, index) - largest - Math.log(total);
  });
}

const axis = (call: Call): number => axisOf(call.int('axis', -1), call.input(0).shape.length);

function softmax(call: Call): Array64[] {
  const { shape, data } = logSoftmax(call.input(0), axis(call));
  return [{ shape, data: data.map(Math.exp) }];
}

/** scores [n, classes, ...rest], labels [n, ...rest] and perhaps a weight a class. */
function crossEntropy(call: Call): Array64[] {
  const reduction = call.text('reduction', 'mean');
  // A label that no class has: nothing is ignored unless the node says so.
  const ignored = call.int('ignore_index', Number.MIN_SAFE_INTEGER);
  const labels = call.input(1);
  const weights = call.optional(2);
  const logProbabilities = logSoftmax(call.input(0), 1);
  const label = (index: readonly number[]): number => at(labels, index);
  const weight = (index: readonly number[]): number =>
    label(index) === ignored ? 0 : weights ? (weights.data[label(index)] as number) : 1;
  const losses = make(labels.shape, (index) => {
    if (label(index) === ignored) return 0;
    const [row, ...rest] = index as [number, ...number[]];
    return -weight(index) * at(logProbabilities, [row, label(index), ...rest]);
  });
  if (reduction === 'none') return [losses, logProbabilities];
  const sum = (values: Float64Array): number => values.reduce((total, value) => total + value, 0);
  const divisor = reduction === 'sum' ? 1 : sum(make(labels.shape, weight).data);
  return [scalar(sum(losses.data) / divisor), logProbabilities];
}

export const reductions: Readonly<Record<string, Kernel>> = {
  ReduceSum: (call) => reduce(call, (total) => total),
  ReduceMean: (call) => reduce(call, (total, size) => total / size),
  Softmax: softmax,
  LogSoftmax: (call) => [logSoftmax(call.input(0), axis(call))],
  SoftmaxCrossEntropyLoss: crossEntropy,
};
