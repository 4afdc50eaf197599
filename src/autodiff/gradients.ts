/**
 * Reverse-mode differentiation of a graph, by adding the nodes that compute its gradients.
 *
 * The forward nodes are walked backwards. A node is looked at where something that is wanted leads into it and a gradient has come out of
 * it; its rule then says how each input's gradient is computed, and only what leads to something wanted is. A frozen weight therefore costs
 * nothing. Where a value is used several times, its gradients add up.
 *
 * Recomputation (Chen et al. 2016): of what lies between two checkpoints, nothing is kept for the way back; it is computed again from the
 * first one, once the gradient of the second is there. That order is built in: the copy starts from the first checkpoint reshaped to the
 * sizes of that gradient, so the runtime can neither run it early nor merge it with the original.
 */
import type { Graph, Node, Value } from '../onnx/graph.js';
import { add, reshapeLike, scalar } from '../onnx/ops.js';
import { formatShape, sameShape } from '../onnx/shape.js';
import { rules } from './rules.js';

export interface GradientOptions {
  /** Values of one shape, each computed from the one before it: what is kept where all between them is computed again. */
  readonly checkpoints?: readonly Value[];
}

/**
 * Adds to the graph what computes the gradient of `of`, a float scalar, with respect to each of `wrt`; their shapes are those of `wrt`.
 * Throws TypeError where one of them does not lead to `of`, or an operator on the way has no rule.
 */
export function gradients(g: Graph, of: Value, wrt: readonly Value[], options: GradientOptions = {}): Value[] {
  if (of.shape.length > 0)
    throw new TypeError(`Expected a scalar to differentiate but received ${of.name} ${formatShape(of.shape)}`);
  const forward = [...g.nodes];
  const leads = reachable(forward, wrt);
  const kept = new Recomputation(g, forward, options.checkpoints ?? []);
  const pending = new Map<Value, Value>([[of, scalar(g, of.dtype, 1)]]);

  for (let index = forward.length - 1; index >= 0; index--) {
    const node = forward[index] as Node;
    const dys = node.outputs.map((output) => pending.get(output) ?? null);
    const dy = dys.find((each) => each !== null);
    if (!dy || !node.outputs.some((output) => leads.has(output))) continue;
    // Other results of a node are there for its own gradient; only a split's are used as values.
    if (node.op !== 'Split' && !dys[0])
      throw new TypeError(`Expected only the first result of ${node.op} to be used but ${of.name} depends on another`);
    kept.arrive(node, dy);
    const rule = rules.get(node.op);
    if (!rule) throw new TypeError(`Expected operators that can be differentiated but ${node.outputs[0]?.name} is a ${node.op}`);
    const forms = rule({
      g,
      node,
      dy: dys[0] ?? dy,
      dys,
      shape: (input) => (node.inputs[input] as Value).shape,
      input: (input) => kept.value(node.inputs[input] as Value, index),
      output: (output) => kept.value(node.outputs[output] as Value, index),
    });
    node.inputs.forEach((input, position) => {
      const gradient = forms[position];
      if (!input || !leads.has(input)) return;
      if (!gradient) throw new TypeError(`Expected ${node.op} to have a gradient of ${input.name} but its rule gives none`);
      const before = pending.get(input);
      const here = gradient();
      if (!sameShape(here.shape, input.shape))
        throw new TypeError(
          `Expected ${node.op}'s gradient of ${input.name} to be ${formatShape(input.shape)} but its rule gave ${formatShape(here.shape)}`,
        );
      pending.set(input, before ? add(g, before, here) : here);
    });
  }
  return wrt.map((value) => {
    const gradient = pending.get(value);
    if (!gradient) throw new TypeError(`Expected ${value.name} to lead to ${of.name} but it does not`);
    return gradient;
  });
}

/** Everything that depends smoothly on one of the values, these included: no path leads through an integer. */
function reachable(nodes: readonly Node[], from: readonly Value[]): Set<Value> {
  const isFloat = ({ dtype }: Value): boolean => dtype.includes('float');
  const found = new Set(from.filter(isFloat));
  for (const { inputs, outputs } of nodes) {
    if (inputs.some((input) => input && found.has(input))) for (const output of outputs) if (isFloat(output)) found.add(output);
  }
  return found;
}

/** The stretch of the graph after one checkpoint, up to the next. */
interface Segment {
  readonly start: Value;
  /** The start again, tied to the gradient of the end; undefined until that gradient is there. */
  anchor: Value | undefined;
  readonly copies: Map<Value, Value>;
}

/** Forward values for the way back: the value itself where it was kept, else a copy that is computed again, made when first asked for. */
class Recomputation {
  readonly #g: Graph;
  readonly #producers = new Map<Value, { readonly node: Node; readonly segment: Segment | null }>();
  readonly #segments: (Segment | null)[] = [];
  readonly #ends = new Map<Value, Segment>();

  constructor(g: Graph, forward: readonly Node[], checkpoints: readonly Value[]) {
    this.#g = g;
    let segment: Segment | null = null;
    let passed = 0;
    for (const node of forward) {
      const reached = node.outputs.find((output) => output === checkpoints[passed]);
      this.#segments.push(segment);
      for (const output of node.outputs) this.#producers.set(output, { node, segment: reached === output ? null : segment });
      if (!reached) continue;
      passed++;
      if (segment) this.#ends.set(reached, segment);
      // What follows the last one is needed at once, and is not worth computing twice.
      segment = passed < checkpoints.length ? { start: reached, anchor: undefined, copies: new Map() } : null;
    }
    if (passed < checkpoints.length)
      throw new TypeError(
        `Expected checkpoints in the order of the graph but ${checkpoints[passed]?.name} does not follow those before it`,
      );
  }

  /** Tells that the gradient of a node's result is complete. */
  arrive(node: Node, dy: Value): void {
    for (const output of node.outputs) {
      const segment = this.#ends.get(output);
      if (segment) segment.anchor = reshapeLike(this.#g, segment.start, dy);
    }
  }

  /** A forward value for the gradient of the node at `index`. */
  value(value: Value, index: number): Value {
    const segment = this.#segments[index];
    return segment ? this.#again(value, segment) : value;
  }

  #again(value: Value, segment: Segment): Value {
    if (value === segment.start) return segment.anchor ?? value;
    const producer = this.#producers.get(value);
    if (!producer || producer.segment !== segment) return value;
    const known = segment.copies.get(value);
    if (known) return known;
    const { node } = producer;
    const inputs = node.inputs.map((input) => input && this.#again(input, segment));
    const outputs = this.#g.node(node.op, inputs, node.outputs, node.attributes, node.domain);
    node.outputs.forEach((output, position) => {
      segment.copies.set(output, outputs[position] as Value);
    });
    return segment.copies.get(value) as Value;
  }
}
