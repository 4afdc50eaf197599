/** Every operator: what it infers, and that the runtime computes what plain loops compute. What it refuses is in refusal.test.ts. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Graph, type Value } from '../../../src/onnx/graph.js';
import * as ops from '../../../src/onnx/ops.js';
import type { Dim } from '../../../src/onnx/shape.js';
import { float32, int32, int64, Session, type Tensor } from '../../../src/runtime/session.js';
import { bfloat16FromFloat32, float16FromFloat32, float32FromBfloat16, float32FromFloat16 } from '../../../src/tensor/convert.js';
import type { DType } from '../../../src/tensor/dtype.js';
import { elements } from '../../../src/tensor/tensor.js';
import { Gaussian } from '../../support/tiny.js';

/** Numbers row by row, for the loops that say what an operator means. */
class Numbers {
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

const integers = (shape: readonly number[], values: readonly number[]): Tensor =>
  int64(BigInt64Array.from(values, BigInt), shape);
const sum = (count: number, at: (index: number) => number): number =>
  Array.from({ length: count }, (_, index) => at(index)).reduce((total, value) => total + value, 0);

/** Builds, runs in onnxruntime, and checks that the result's shape is the inferred one with its names bound to `sizes`. */
async function run<Name extends string>(
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

function expectClose(actual: Numbers | undefined, expected: Numbers, tolerance = 1e-5): void {
  expect(actual?.shape).toEqual(expected.shape);
  expect(expected.data.length).toBe(elements(expected.shape));
  for (let index = 0; index < expected.data.length; index++) {
    const wanted = expected.data[index] as number;
    expect(Math.abs((actual?.data[index] as number) - wanted)).toBeLessThanOrEqual(tolerance * Math.max(1, Math.abs(wanted)));
  }
}

const f32 = (...shape: Dim[]) => ({ dtype: 'float32' as const, shape });
const i64 = (...shape: Dim[]) => ({ dtype: 'int64' as const, shape });

describe('element by element', () => {
  it.each([
    ['add', (x: number, y: number) => x + y],
    ['sub', (x: number, y: number) => x - y],
    ['mul', (x: number, y: number) => x * y],
    ['div', (x: number, y: number) => x / y],
  ] as const)('%s, with rows? fed as rows and as 1', async (name, scalar) => {
    const x = Numbers.random([3, 2, 4]);
    for (const groups of [3, 1]) {
      const y = Numbers.random([groups, 1, 4], 2);
      const [z] = await run(
        { x: f32('rows', 'tokens', 4), y: f32('rows?', 1, 4) },
        (g, { x, y }) => ops[name](g, x, y),
        { x: x.feed, y: y.feed },
        { rows: 3, tokens: 2 },
      );
      expectClose(
        z,
        Numbers.of([3, 2, 4], (...index) => scalar(x.at(...index), y.at(...index))),
      );
    }
  });

  it('silu and clip', async () => {
    const x = Numbers.random([5, 7]);
    const silu = await run({ x: f32('n', 7) }, (g, { x }) => ops.silu(g, x), { x: x.feed }, { n: 5 });
    expectClose(
      silu[0],
      Numbers.of([5, 7], (...at) => x.at(...at) / (1 + Math.exp(-x.at(...at)))),
    );
    const clip = (g: Graph, x: Value): Value =>
      ops.clip(g, x, ops.float32(g, 'low', [], [-0.5]), ops.float32(g, 'high', [], [0.25]));
    const clipped = await run({ x: f32('n', 7) }, (g, { x }) => clip(g, x), { x: x.feed }, { n: 5 });
    expectClose(
      clipped[0],
      Numbers.of([5, 7], (...at) => Math.min(0.25, Math.max(-0.5, x.at(...at)))),
    );
  });

  it('rmsNorm', async () => {
    const x = Numbers.random([2, 3, 8]);
    const weight = Numbers.random([8], 2);
    for (const epsilon of [1e-6, 0.5]) {
      const [y] = await run(
        { x: f32('rows', 3, 8), weight: f32(8) },
        (g, { x, weight }) => ops.rmsNorm(g, x, weight, epsilon),
        { x: x.feed, weight: weight.feed },
        { rows: 2 },
      );
      const rms = (row: number, token: number): number => Math.sqrt(sum(8, (at) => x.at(row, token, at) ** 2) / 8 + epsilon);
      expectClose(
        y,
        Numbers.of([2, 3, 8], (row, token, at) => (x.at(row, token, at) / rms(row, token)) * weight.at(at)),
      );
    }
  });

  it('cast rounds to halves as the checkpoint reader does, cuts to integers, and leaves its own type alone', async () => {
    const x = new Numbers([6], [1 + 2 ** -11, 1 + 3 * 2 ** -11, -2.75, 1e-7, 65519, 0.1]);
    const through = async (dtype: DType): Promise<number[]> => {
      const cast = (g: Graph, x: Value): Value => ops.cast(g, ops.cast(g, x, dtype), 'float32');
      const [y] = await run({ x: f32('n') }, (g, { x }) => cast(g, x), { x: x.feed }, { n: 6 });
      return Array.from(y?.data ?? []);
    };
    const values = Float32Array.from(x.data);
    expect(await through('float16')).toEqual([...float32FromFloat16(float16FromFloat32(values))]);
    expect(await through('bfloat16')).toEqual([...float32FromBfloat16(bfloat16FromFloat32(values))]);
    expect(await through('int32')).toEqual([1, 1, -2, 0, 65519, 0]);
    expect(await through('int64')).toEqual([1, 1, -2, 0, 65519, 0]);
    const g = new Graph();
    const value = g.input('x', 'float32', [1]);
    expect(ops.cast(g, value, 'float32')).toBe(value);
    expect(g.nodes).toEqual([]);
  });
});

describe('products', () => {
  it('matmul and linear, leading axes broadcast (property)', async () => {
    const size = fc.integer({ min: 1, max: 4 });
    const leading = fc.array(fc.tuple(fc.integer({ min: 1, max: 3 }), fc.boolean(), fc.boolean()), { maxLength: 2 });
    await fc.assert(
      fc.asyncProperty(size, size, size, leading, fc.boolean(), async (m, k, n, axes, transposed) => {
        const a = Numbers.random([...axes.map(([each, one]) => (one ? 1 : each)), m, k]);
        const b = Numbers.random([...axes.map(([each, , one]) => (one ? 1 : each)), ...(transposed ? [n, k] : [k, n])], 2);
        const [y] = await run(
          { a: f32(...a.shape), b: f32(...b.shape) },
          (g, { a, b }) => (transposed ? ops.linear : ops.matmul)(g, a, b),
          { a: a.feed, b: b.feed },
        );
        const shape = [...axes.map(([each, x, y]) => (x && y ? 1 : each)), m, n];
        const expected = Numbers.of(shape, (...index) => {
          const [row, column] = index.slice(-2) as [number, number];
          const outer = index.slice(0, -2);
          return sum(k, (at) => a.at(...outer, row, at) * (transposed ? b.at(...outer, column, at) : b.at(...outer, at, column)));
        });
        expectClose(y, expected);
      }),
      { numRuns: 25 },
    );
  });

  it('of a batch with a weight, and with a group of matrices for all rows or one a row', async () => {
    const x = Numbers.random([3, 2, 4]);
    const w = Numbers.random([5, 4], 2);
    const [y] = await run(
      { x: f32('rows', 'tokens', 4), w: f32(5, 4) },
      (g, { x, w }) => ops.linear(g, x, w),
      { x: x.feed, w: w.feed },
      { rows: 3, tokens: 2 },
    );
    expectClose(
      y,
      Numbers.of([3, 2, 5], (row, token, out) => sum(4, (at) => x.at(row, token, at) * w.at(out, at))),
    );
    for (const groups of [3, 1]) {
      const a = Numbers.random([groups, 4, 2], 3);
      const [h] = await run(
        { x: f32('rows', 'tokens', 4), a: f32('rows?', 4, 'rank') },
        (g, { x, a }) => ops.matmul(g, x, a),
        { x: x.feed, a: a.feed },
        { rows: 3, tokens: 2, rank: 2 },
      );
      expectClose(
        h,
        Numbers.of([3, 2, 2], (row, token, column) => sum(4, (at) => x.at(row, token, at) * a.at(row, at, column))),
      );
    }
  });
});

describe('conv2d', () => {
  it('with any strides, pads, dilations and groups (property)', async () => {
    const pair = (min: number, max: number) => fc.tuple(fc.integer({ min, max }), fc.integer({ min, max }));
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          images: fc.integer({ min: 1, max: 2 }),
          size: pair(5, 8),
          kernel: pair(1, 3),
          strides: pair(1, 3),
          dilations: pair(1, 2),
          before: pair(0, 2),
          after: pair(0, 2),
          groups: fc.constantFrom(1, 2, 4),
          perGroup: fc.integer({ min: 1, max: 2 }),
          outPerGroup: fc.integer({ min: 1, max: 2 }),
          biased: fc.boolean(),
        }),
        async ({ images, size, kernel, strides, dilations, before, after, groups, perGroup, outPerGroup, biased }) => {
          const [height, width] = size;
          const out = groups * outPerGroup;
          const x = Numbers.random([images, groups * perGroup, height, width]);
          const w = Numbers.random([out, perGroup, ...kernel], 2);
          const b = Numbers.random([out], 3);
          const [y] = await run(
            { x: f32('images', ...x.shape.slice(1)), w: f32(...w.shape), b: f32(out) },
            (g, { x, w, b }) =>
              ops.conv2d(g, x, w, biased ? b : null, { strides, dilations, groups, pads: [...before, ...after] }),
            { x: x.feed, w: w.feed, b: b.feed },
            { images },
          );
          const pixel = (image: number, channel: number, row: number, column: number): number =>
            row < 0 || column < 0 || row >= height || column >= width ? 0 : x.at(image, channel, row, column);
          const expected = Numbers.of(y?.shape as number[], (...index) => {
            const [image, channel, row, column] = index as [number, number, number, number];
            const group = Math.floor(channel / outPerGroup);
            const taps = sum(perGroup, (from) =>
              sum(kernel[0], (i) =>
                sum(
                  kernel[1],
                  (j) =>
                    w.at(channel, from, i, j) *
                    pixel(
                      image,
                      group * perGroup + from,
                      row * strides[0] + i * dilations[0] - before[0],
                      column * strides[1] + j * dilations[1] - before[1],
                    ),
                ),
              ),
            );
            return taps + (biased ? b.at(channel) : 0);
          });
          expectClose(y, expected);
        },
      ),
      { numRuns: 25 },
    );
  });
});

describe('places', () => {
  it('transpose', async () => {
    const x = Numbers.random([2, 3, 4]);
    const [y] = await run({ x: f32('a', 3, 'c') }, (g, { x }) => ops.transpose(g, x, [2, 0, 1]), { x: x.feed }, { a: 2, c: 4 });
    expectClose(
      y,
      Numbers.of([4, 2, 3], (c, a, b) => x.at(a, b, c)),
      0,
    );
  });

  it.each<[Dim[], Dim[], Record<string, number>, number[]]>([
    [[2, 3, 4], [4, 6], {}, [4, 6]],
    [['rows', 3, 4], ['rows', 12], { rows: 2 }, [2, 12]],
    [['rows', 'tokens', 4], ['rows', 'tokens', 2, 2], { rows: 2, tokens: 3 }, [2, 3, 2, 2]],
    [['rows', 'tokens', 4], ['rows*tokens', 4], { rows: 2, tokens: 3, 'rows*tokens': 6 }, [6, 4]],
    [['rows', 4], ['n', 2], { rows: 6, n: 12 }, [12, 2]],
    [[6, 4], ['n', 3], { n: 8 }, [8, 3]],
    [[2, 'n', 4], [8, 'n'], { n: 3 }, [8, 3]],
  ])('reshape %j to %j', async (from, to, sizes, shape) => {
    const x = Numbers.random(from.map((size) => (typeof size === 'number' ? size : (sizes[size] as number))));
    const [y] = await run({ x: f32(...from) }, (g, { x }) => ops.reshape(g, x, to), { x: x.feed }, sizes);
    expectClose(y, new Numbers(shape, x.data), 0);
  });

  it.each<[Dim, Dim[], number]>([
    [6, [2, 2, 2], 2],
    ['rank*3', ['rank', 'rank', 'rank'], 2],
    ['rank', ['rank'], 6],
  ])('split a last axis %s into %j', async (last, parts, size) => {
    const x = Numbers.random([2, 6]);
    const sizes = { n: 2, rank: size, 'rank*3': size * 3 };
    const results = await run({ x: f32('n', last) }, (g, { x }) => ops.split(g, x, parts), { x: x.feed }, sizes);
    expect(results).toHaveLength(parts.length);
    results.forEach((part, index) => {
      expectClose(
        part,
        Numbers.of([2, size], (row, at) => x.at(row, index * size + at)),
        0,
      );
    });
  });

  it('gather', async () => {
    const table = Numbers.random([5, 3]);
    const ids = [4, 0, 0, 2, 1, 3];
    const [y] = await run(
      { table: f32(5, 3), ids: i64('rows', 'tokens') },
      (g, { table, ids }) => ops.gather(g, table, ids),
      { table: table.feed, ids: integers([2, 3], ids) },
      { rows: 2, tokens: 3 },
    );
    expectClose(
      y,
      Numbers.of([2, 3, 3], (row, token, at) => table.at(ids[row * 3 + token] as number, at)),
      0,
    );
  });

  it.each([
    [[]],
    [[[1, 2]]],
    [
      [
        [0, 0],
        [1, 2],
        [0, 1],
      ],
    ],
  ])('gatherND and scatterND of %j', async (pairs) => {
    const x = Numbers.random([2, 3, 4]);
    const updates = Numbers.random([pairs.length, 4], 2);
    const inputs = { x: f32('rows', 'tokens', 4), indices: i64('n', 2), updates: f32('n', 4) };
    const [gathered, scattered] = await run(
      inputs,
      (g, { x, indices, updates }) => [ops.gatherND(g, x, indices), ops.scatterND(g, x, indices, updates)],
      { x: x.feed, indices: integers([pairs.length, 2], pairs.flat()), updates: updates.feed },
      { rows: 2, tokens: 3, n: pairs.length },
    );
    const [first, second] = [(n: number) => pairs[n]?.[0] as number, (n: number) => pairs[n]?.[1] as number];
    expectClose(
      gathered,
      Numbers.of([pairs.length, 4], (n, at) => x.at(first(n), second(n), at)),
      0,
    );
    const replaced = (row: number, token: number): number => pairs.findIndex(([i, j]) => i === row && j === token);
    const expected = Numbers.of([2, 3, 4], (...index) => {
      const [row, token, at] = index as [number, number, number];
      const by = replaced(row, token);
      return by < 0 ? x.at(row, token, at) : updates.at(by, at);
    });
    expectClose(scattered, expected, 0);
  });
});

it('concat', async () => {
  const x = Numbers.random([2, 3, 4]);
  const y = Numbers.random([2, 3, 1], 2);
  const [z] = await run(
    { x: f32('rows', 3, 4), y: f32('rows', 3, 1) },
    (g, { x, y }) => ops.concat(g, [x, y, x]),
    { x: x.feed, y: y.feed },
    { rows: 2 },
  );
  const expected = Numbers.of([2, 3, 9], (row, token, at) => (at === 4 ? y.at(row, token, 0) : x.at(row, token, at % 5)));
  expectClose(z, expected, 0);
  const g = new Graph();
  const value = g.input('x', 'float32', [1, 'n']);
  expect(ops.concat(g, [value])).toBe(value);
});

describe('attention', () => {
  const [rows, tokens, heads, kvHeads, headDim, positions] = [2, 3, 4, 2, 10, 9];
  const angle = (position: number, pair: number): number => position * 100 ** ((-2 * pair) / headDim);
  const tables = [Math.cos, Math.sin].map((of) =>
    Numbers.of([positions, headDim / 2], (position, pair) => of(angle(position, pair))),
  );
  const [cos, sin] = tables as [Numbers, Numbers];

  it('rotary turns component i of every head with component i + headDim / 2, by the position', async () => {
    const x = Numbers.random([rows, tokens, heads * headDim]);
    const at = [5, 0, 8, 2, 2, 1];
    const [y] = await run(
      { x: f32('rows', 'tokens', heads * headDim), at: i64('rows', 'tokens') },
      (g, { x, at }) =>
        ops.rotary(g, x, at, ops.float32(g, 'cos', cos.shape, cos.data), ops.float32(g, 'sin', sin.shape, sin.data)),
      { x: x.feed, at: integers([rows, tokens], at) },
      { rows, tokens },
    );
    const half = headDim / 2;
    const expected = Numbers.of(x.shape, (row, token, component) => {
      const theta = angle(at[row * tokens + token] as number, component % half);
      const partner = component % headDim < half ? -x.at(row, token, component + half) : x.at(row, token, component - half);
      return x.at(row, token, component) * Math.cos(theta) + partner * Math.sin(theta);
    });
    expectClose(y, expected);
  });

  it.each([
    { name: 'from nothing, rows of different lengths', starts: [0, 0], ends: [3, 2], count: 3 },
    { name: 'one token after pasts of different lengths', starts: [4, 1], ends: [5, 2], count: 1 },
  ])('groupQueryAttention is causal softmax(q · k / √d) · v: $name', async ({ starts, ends, count }) => {
    const capacity = 7;
    const width = kvHeads * headDim;
    const shape = [rows, kvHeads, capacity, headDim];
    const [q, k, v] = [heads * headDim, width, width].map((size, seed) => Numbers.random([rows, count, size], seed + 1));
    // What lies in the cache beyond a row's start is not to be read.
    const cache = (seed: number): Numbers => {
      const x = Numbers.random(shape, seed);
      return Numbers.of(shape, (row, head, at, component) =>
        at < (starts[row] as number) ? x.at(row, head, at, component) : 99,
      );
    };
    const [pastK, pastV] = [cache(4), cache(5)];
    const [y] = await run(
      {
        q: f32('rows', 'tokens', heads * headDim),
        k: f32('rows', 'tokens', width),
        v: f32('rows', 'tokens', width),
        pastK: f32('rows', kvHeads, 'capacity', headDim),
        pastV: f32('rows', kvHeads, 'capacity', headDim),
        lengths: { dtype: 'int32', shape: ['rows'] },
        total: { dtype: 'int32', shape: [1] },
      },
      (g, values) => ops.groupQueryAttention(g, values, heads, kvHeads),
      {
        ...{ q: (q as Numbers).feed, k: (k as Numbers).feed, v: (v as Numbers).feed, pastK: pastK.feed, pastV: pastV.feed },
        lengths: int32(
          Int32Array.from(ends, (end) => end - 1),
          [rows],
        ),
        total: int32(Int32Array.of(Math.max(...ends)), [1]),
      },
      { rows, tokens: count },
    );
    const stored = (past: Numbers, fresh: Numbers, row: number, head: number, at: number, component: number): number => {
      const start = starts[row] as number;
      return at < start ? past.at(row, head, at, component) : fresh.at(row, at - start, head * headDim + component);
    };
    const expected = Numbers.of([rows, count, heads * headDim], (row, token, at) => {
      const [start, end] = [starts[row] as number, ends[row] as number];
      // Padding: nobody reads it.
      if (start + token >= end) return (y as Numbers).at(row, token, at);
      const [head, component] = [Math.floor(at / headDim), at % headDim];
      const group = Math.floor(head / (heads / kvHeads));
      const key = (past: number, i: number): number => stored(pastK, k as Numbers, row, group, past, i);
      const scores = Array.from({ length: start + token + 1 }, (_, past) =>
        Math.exp(sum(headDim, (i) => (q as Numbers).at(row, token, head * headDim + i) * key(past, i)) / Math.sqrt(headDim)),
      );
      const weighted = sum(
        scores.length,
        (past) => (scores[past] as number) * stored(pastV, v as Numbers, row, group, past, component),
      );
      return weighted / sum(scores.length, (past) => scores[past] as number);
    });
    expectClose(y, expected);
  });
});
