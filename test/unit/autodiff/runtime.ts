/** A graph in onnxruntime, in float32, with the interpreter's feeds and results: the two are compared value by value. */
import { expect } from 'vitest';
import type { Graph, Value } from '../../../src/onnx/graph.js';
import { bool, float32, int32, int64, Session, type Tensor } from '../../../src/runtime/session.js';
import type { Array64, Feed } from '../../support/interpreter.js';

/** Names the values as results of the graph, in place, and computes them. */
export async function runInRuntime(
  graph: Graph,
  values: readonly Value[],
  feeds: Readonly<Record<string, Feed>>,
): Promise<Array64[]> {
  const outputs = values.map((value, index) => graph.output(`result.${index}`, value));
  const session = await Session.open(graph.toModel(), { folder: null, threads: 1 });
  try {
    const tensors = graph.inputs.map(({ name, dtype }) => [name, toTensor(dtype, feeds[name] as Feed)] as const);
    const results = await session.run(Object.fromEntries(tensors), Object.fromEntries(outputs.map(({ name }) => [name, null])));
    return outputs.map(({ name }) => {
      const { dims, data } = results[name] as Tensor;
      return { shape: [...dims], data: Float64Array.from(data as ArrayLike<number>, Number) };
    });
  } finally {
    await session.close();
  }
}

function toTensor(dtype: string, { shape, data }: Feed): Tensor {
  const numbers = Array.from(data as ArrayLike<number>, Number);
  switch (dtype) {
    case 'float32':
      return float32(Float32Array.from(numbers), shape);
    case 'int64':
      return int64(BigInt64Array.from(numbers, BigInt), shape);
    case 'int32':
      return int32(Int32Array.from(numbers), shape);
    case 'bool':
      return bool(Uint8Array.from(numbers), shape);
    default:
      throw new TypeError(`Expected a feed of float32, int64, int32 or bool but received ${dtype}`);
  }
}

/** Equal shapes, and elements that differ by at most `tolerance` of the largest expected one (or of `floor`, where that is larger). */
export function expectSame(received: Array64, expected: Array64, tolerance: number, what: string, floor = 1): void {
  expect(received.shape, what).toEqual(expected.shape);
  const scale = expected.data.reduce((largest, value) => Math.max(largest, Math.abs(value)), floor);
  const worst = expected.data.reduce((most, value, at) => {
    const difference = Math.abs((received.data[at] as number) - value);
    // A NaN is a difference, however it compares.
    return Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(most, difference);
  }, 0);
  const both = (): string => `${what}: received ${received.data.join(' ')}, expected ${expected.data.join(' ')}`;
  expect(worst / scale, worst / scale > tolerance ? both() : what).toBeLessThanOrEqual(tolerance);
}
