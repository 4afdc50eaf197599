/** Every operator: what it infers, and that the runtime computes what plain loops compute. What it refuses is in refusal.test.ts. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Graph, type Value } from '../../../src/onnx/graph.js';
import * as ops from '../../../src/onnx/ops.js';
import type { Dim } from '../../../src/onnx/shape.js';
import { bfloat16FromFloat32, float16FromFloat32, float32FromBfloat16, float32FromFloat16 } from '../../../src/tensor/convert.js';
import type { DType } from '../../../src/tensor/dtype.js';
import { expectClose, f32, i64, integers, Numbers, run, sum } from './numbers.js';

describe('element by element', () => {
  it.each([
    { build: ops.add, scalar: (x: number, y: number) => x + y },
    { build: ops.sub, scalar: (x: number, y: number) => x - y },
    { build: ops.mul, scalar: (x: number, y: number) => x * y },
    { build: ops.div, scalar: (x: number, y: number) => x / y },
  ])('$build.name, with rows? fed as rows and as 1', async ({ build, scalar }) => {
    const x = Numbers.random([3, 2, 4]);
    for (const groups of [3, 1]) {
      const y = Numbers.random([groups, 1, 4], 2);
      const [z] = await run(
        { x: f32('rows', 'tokens', 4), y: f32('rows?', 1, 4) },
        (g, { x, y }) => build(g, x, y),
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

  it.each([
    { build: ops.neg, scalar: (x: number) => -x },
    { build: ops.exp, scalar: Math.exp },
    { build: ops.sign, scalar: Math.sign },
    { build: ops.sigmoid, scalar: (x: number) => 1 / (1 + Math.exp(-x)) },
  ])('$build.name', async ({ build, scalar }) => {
    const x = Numbers.of([2, 5], (row, at) => ([0, -3, 1e-3, 20, -80][at] as number) * (1 - 0.5 * row));
    const [y] = await run({ x: f32('n', 5) }, (g, { x }) => build(g, x), { x: x.feed }, { n: 2 });
    expectClose(
      y,
      Numbers.of([2, 5], (...at) => scalar(x.at(...at))),
      1e-6,
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

  it('matmul of transposed operands, times a factor (property)', async () => {
    const size = fc.integer({ min: 1, max: 4 });
    const leading = fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 2 });
    const alpha = fc.constantFrom(1, 0, -2, 0.125);
    await fc.assert(
      fc.asyncProperty(
        size,
        size,
        size,
        leading,
        fc.boolean(),
        fc.boolean(),
        alpha,
        async (m, k, n, outer, transA, transB, alpha) => {
          const a = Numbers.random([...outer, ...(transA ? [k, m] : [m, k])]);
          const b = Numbers.random([...outer, ...(transB ? [n, k] : [k, n])], 2);
          const [y] = await run(
            { a: f32(...a.shape), b: f32(...b.shape) },
            (g, { a, b }) => ops.matmul(g, a, b, { transA, transB, alpha }),
            { a: a.feed, b: b.feed },
          );
          const expected = Numbers.of([...outer, m, n], (...index) => {
            const [row, column] = index.slice(-2) as [number, number];
            const at = index.slice(0, -2);
            const left = (each: number): number => (transA ? a.at(...at, each, row) : a.at(...at, row, each));
            const right = (each: number): number => (transB ? b.at(...at, column, each) : b.at(...at, each, column));
            return alpha * sum(k, (each) => left(each) * right(each));
          });
          expectClose(y, expected);
        },
      ),
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

  it.each([0, 1, 2])('reorder of axis %d, and back', async (axis) => {
    const x = Numbers.random([4, 4, 4]);
    const order = [2, 0, 3, 1];
    const [y, again] = await run(
      { x: f32('rows', 4, 4) },
      (g, { x }) => {
        const named = axis === 0 ? ops.reshape(g, x, [4, 4, 'rows']) : x;
        const moved = ops.reorder(g, named, order, axis);
        return [moved, ops.reorder(g, moved, ops.opposite(order), axis)];
      },
      { x: x.feed },
      { rows: 4 },
    );
    expectClose(
      y,
      Numbers.of([4, 4, 4], (...at) => x.at(...at.with(axis, order[at[axis] as number] as number))),
      0,
    );
    expectClose(again, x, 0);
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
