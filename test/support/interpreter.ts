/**
 * A second reading of the ONNX operators that Graft's graphs are made of: plain loops in float64, straight from the operators' definitions,
 * with nothing taken from src but the graph's own types. Differentiation is proved with it: finite differences in float32 are too coarse
 * to tell a right rule from one that is nearly right, and the runtime computes in float32.
 *
 * It is strict where the runtime is lenient. A node may only read what an earlier node has computed, every computed shape must be the one
 * that the graph inferred (a name stands for one size through the whole graph), and an operator or an attribute that it does not know is refused.
 */
import type { Graph, Value } from '../../src/onnx/graph.js';
import type { DType } from '../../src/tensor/dtype.js';
import { type Array64, count, formatShape } from './interpreter/array.js';
import { Call, type Kernel } from './interpreter/call.js';
import { elementwise } from './interpreter/elementwise.js';
import { indexing } from './interpreter/indexing.js';
import { norms } from './interpreter/norms.js';
import { places } from './interpreter/places.js';
import { products } from './interpreter/products.js';
import { reductions } from './interpreter/reductions.js';
import { rotary } from './interpreter/rotary.js';

export type { Array64 };

export interface Feed {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number | bigint>;
}

/** Standard operators under their name, onnxruntime's own under `com.microsoft.` and their name. */
export const kernels: ReadonlyMap<string, Kernel> = new Map(
  Object.entries({ ...elementwise, ...products, ...reductions, ...norms, ...places, ...indexing, ...rotary }),
);

/**
 * Every value of the graph under the name that it was computed under (`graph.output` gives a computed value a second name,
 * which is not in here). Weights that lie outside of the graph are read from the feeds.
 */
export function interpret(graph: Graph, feeds: Readonly<Record<string, Feed>>): Map<string, Array64> {
  const values = new Map<string, Array64>();
  const sizes = new Map<string, number>();
  for (const { value, data } of graph.initializers.values())
    if (data instanceof Uint8Array) values.set(value.name, { shape: value.shape.map(Number), data: decode(value.dtype, data) });
  for (const value of [...graph.inputs, ...[...graph.initializers.values()].map(({ value }) => value)]) {
    const feed = feeds[value.name];
    if (feed) {
      const array = { shape: [...feed.shape], data: Float64Array.from(feed.data as ArrayLike<number>, Number) };
      checkShape(value, array, sizes);
      values.set(value.name, array);
    }
  }
  for (const { name } of graph.inputs) if (!values.has(name)) throw new TypeError(`Expected a feed for input ${name}`);

  for (const node of graph.nodes) {
    const name = node.domain === '' ? node.op : `${node.domain}.${node.op}`;
    const kernel = kernels.get(name);
    if (!kernel) throw new TypeError(`Expected an operator that the interpreter knows but received ${name}`);
    const call = new Call(
      name,
      node,
      node.inputs.map((input) => {
        const array = input && values.get(input.name);
        if (array === undefined) throw new TypeError(`${name}: expected ${input?.name} to be computed before it is read`);
        return array;
      }),
    );
    const results = kernel(call);
    call.checkRead();
    if (results.length < node.outputs.length)
      throw new TypeError(`${name}: expected at most ${results.length} outputs but received ${node.outputs.length}`);
    node.outputs.forEach((output, index) => {
      const array = results[index] as Array64;
      checkShape(output, array, sizes);
      values.set(output.name, array);
    });
  }
  return values;
}

/** `sizes` learns the names that it sees for the first time. 'rows?' is rows or 1. */
function checkShape({ name, shape }: Value, array: Array64, sizes: Map<string, number>): void {
  const fits =
    array.data.length === count(array.shape) &&
    array.shape.length === shape.length &&
    shape.every((dim, axis) => {
      const size = array.shape[axis] as number;
      if (typeof dim === 'number') return dim === size;
      if (dim.endsWith('?')) return size === 1 || size === (sizes.get(dim.slice(0, -1)) ?? size);
      if (!sizes.has(dim)) sizes.set(dim, size);
      return sizes.get(dim) === size;
    });
  if (fits) return;
  const bound = [...sizes].map(([dim, size]) => `${dim} = ${size}`).join(', ');
  throw new RangeError(
    `${name}: expected ${formatShape(shape)}${bound && ` (${bound})`} but received ${array.data.length} elements as ${formatShape(array.shape)}`,
  );
}

function decode(dtype: DType, data: Uint8Array): Float64Array {
  // A copy: the bytes of a wider type may lie at any offset.
  const { buffer } = new Uint8Array(data);
  switch (dtype) {
    case 'float64':
      return new Float64Array(buffer);
    case 'float32':
      return Float64Array.from(new Float32Array(buffer));
    case 'int64':
      return Float64Array.from(new BigInt64Array(buffer), Number);
    case 'int32':
      return Float64Array.from(new Int32Array(buffer));
    case 'bool':
    case 'uint8':
      return Float64Array.from(new Uint8Array(buffer));
    default:
      throw new TypeError(`Expected a constant of float64, float32, int64, int32, uint8 or bool but received ${dtype}`);
  }
}
