/** Normalisation over the last axis. (RMSNorm, which came first, is with the operators of ops.ts.) Refusals are those of ops.ts. */
import type { Graph, Value } from './graph.js';
import { one, refuse } from './ops.js';
import { sameShape } from './shape.js';

/**
 * (x − mean) / √(variance + ε) · weight + bias over the last axis (Ba et al. 2016).
 * The node's other results, the mean and 1 / √(variance + ε), are there for its gradient.
 */
export function layerNorm(g: Graph, x: Value, weight: Value, bias: Value, epsilon: number): Value {
  const isVector = ({ dtype, shape }: Value): boolean => dtype === x.dtype && sameShape(shape, x.shape.slice(-1));
  if (x.shape.length === 0 || !isVector(weight) || !isVector(bias))
    refuse('LayerNormalization', '[..., d], weight [d] and bias [d] of one dtype', x, weight, bias);
  const statistic = { dtype: x.dtype, shape: [...x.shape.slice(0, -1), 1] };
  const attributes = { axis: -1, epsilon: { float: epsilon } };
  return one(g.node('LayerNormalization', [x, weight, bias], [x, statistic, statistic], attributes));
}
