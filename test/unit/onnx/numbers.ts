/** Tensors as plain numbers, and graphs run on them: what the tests of operators compare with loops. */
import { expect } from 'vitest';
import { Graph, type Value } from '../../../src/onnx/graph.js';
import type { Dim } from '../../../src/onnx/shape.js';
import { float32, int64, Session, type Tensor } from '../../../src/runtime/session.js';
import type { DType } from '../../../src/tensor/dtype.js';
import { elements } from '../../../src/tensor/tensor.js';
import { Gaussian } from '../../support/tiny.js';

/** Numbers row by row, for the loops that say what an operator means. */
export class Numbers {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;

  constructor(shape: readonly number[], data: ArrayLike<number>) {
    this.shape = shape;
    this.data = data;
  }

  static random(shape: readonly number[], seed = 1): Numbers {
    return new Numbers(shape, new Gaussian(seed).array(elements(shape), 1));
  }

  static of(shape: readonly number[], at: (...index: number[]) => number): Numbers {
    const index = (flat: number): number[] =>
      shape.map((size, axis) => Math.floor(flat / elements(shape.slice(axis + 1))) % size);
    return new Numbers(
      shape,
      Array.from({ length: elements(shape) }, (_, flat) => at(...index(flat))),
    );
  }

  /** The number at an index; axes are aligned at the last and an axis of one repeats, as in broadcasting. */
  at(...index: number[]): number {
    const own = index.slice(index.length - this.shape.length);
    return this.data[
      own.reduce((flat, at, axis) => flat * (this.shape[axis] as number) + (this.shape[axis] === 1 ? 0 : at), 0)
    ] as number;
  }

  get feed(): Tensor {
    return float32(Float32Array.from(this.data), this.shape);
  }
}

export const integers = (shape: readonly number[], values: readonly number[]): Tensor =>
  int64(BigInt64Array.from(values, BigInt), shape);
export const sum = (count: number, at: (index: number) => number): number =>
  Array.from({ length: count }, (_, index) => at(index)).reduce((total, value) => total + value, 0);

/** Builds, runs in onnxruntime, and checks that the result's shape is the inferred one with its names bound to `sizes`. */
export async function run<Name extends string>(
  inputs: Readonly<Record<Name, { readonly dtype: DType; readonly shape: readonly Dim[] }>>,
  build: (g: Graph, values: Record<Name, Value>) => Value | readonly Value[],
  feeds: Readonly<Record<string, Tensor>>,
  sizes: Readonly<Record<string, number>> = {},
): Promise<Numbers[]> {
  const g = new Graph();
  const values = {} as Record<Name, Value>;
  for (const name of Object.keys(inputs) as Name[]) values[name] = g.input(name, inputs[name].dtype, inputs[name].shape);
  const built = [build(g, values)].flat();
  const outputs = built.map((value, index) => g.output(`result.${index}`, value));
  const session = await Session.open(g.toModel(), { folder: null, threads: 1 });
  const results = await session.run(feeds, Object.fromEntries(outputs.map(({ name }) => [name, null])));
  await session.close();
  return outputs.map(({ name, shape, dtype }) => {
    const { dims, data, type } = results[name] as Tensor;
    expect(dims).toEqual(shape.map((size) => (typeof size === 'number' ? size : sizes[size])));
    expect(type).toBe(dtype);
    return new Numbers(dims, Array.from(data as ArrayLike<number | bigint>, Number));
  });
}

export function expectClose(actual: Numbers | undefined, expected: Numbers, tolerance = 1e-5): void {
  expect(actual?.shape).toEqual(expected.shape);
  expect(expected.data.length).toBe(elements(expected.shape));
  for (let index = 0; index < expected.data.length; index++) {
    const wanted = expected.data[index] as number;
    expect(Math.abs((actual?.data[index] as number) - wanted)).toBeLessThanOrEqual(tolerance * Math.max(1, Math.abs(wanted)));
  }
}

export const f32 = (...shape: Dim[]) => ({ dtype: 'float32' as const, shape });
export const i64 = (...shape: Dim[]) => ({ dtype: 'int64' as const, shape });
