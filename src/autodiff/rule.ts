/**
 * What a backward rule is. One operator, one rule: given the gradient of a node's results, it says for each input how its gradient is
 * computed. It says how and does not do it: only the inputs that lead to a wanted gradient are asked, so nothing else enters the graph.
 */
import type { Graph, Node, Value } from '../onnx/graph.js';
import { sum } from '../onnx/reduce.js';
import { type Dim, formatShape, sameShape } from '../onnx/shape.js';

/** A node on the way back. */
export interface Step {
  readonly g: Graph;
  readonly node: Node;
  /** Gradient of the node's first result. */
  readonly dy: Value;
  /** Gradients of all results; null for a result that nothing wanted depends on. */
  readonly dys: readonly (Value | null)[];
  /** Shape of an input, which costs nothing to ask for. */
  readonly shape: (input: number) => readonly Dim[];
  /** A forward value that the gradient is computed from: the one that was kept, or one computed again (see gradients.ts). */
  readonly input: (index: number) => Value;
  readonly output: (index: number) => Value;
}

/** Gradient of each input, when it is asked for; null for what has none (indices, conditions, shapes). */
export type Rule = (step: Step) => readonly ((() => Value) | null)[];

/** Sums a gradient over the axes along which an operand of this shape was broadcast: the transpose of broadcasting. */
export function sumTo(g: Graph, gradient: Value, shape: readonly Dim[]): Value {
  if (sameShape(gradient.shape, shape)) return gradient;
  const missing = gradient.shape.length - shape.length;
  const repeated = shape.flatMap((size, axis) => (size === 1 && gradient.shape[axis + missing] !== 1 ? [axis] : []));
  const leading = Array.from({ length: missing }, (_, axis) => axis);
  // Batch by batch, then the batches: onnxruntime's sum over several leading axes at once takes five times as long.
  const within = sum(g, gradient, leading.slice(1));
  const summed = sum(g, sum(g, within, leading.slice(0, 1)), repeated, true);
  if (!sameShape(summed.shape, shape))
    throw new TypeError(`Expected a gradient that sums to ${formatShape(shape)} but received ${formatShape(gradient.shape)}`);
  return summed;
}

/** A node's attribute that is a number, as ops.ts writes it. */
export function numberOf(node: Node, name: string, otherwise: number): number {
  const value = node.attributes[name];
  if (typeof value === 'object' && 'float' in value) return value.float;
  return typeof value === 'number' ? value : otherwise;
}
