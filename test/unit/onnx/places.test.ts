/** Operators that move numbers, add them into places, or take sizes from one another: against loops, and what they infer. */
import { describe, expect, it } from 'vitest';
import { Graph } from '../../../src/onnx/graph.js';
import * as ops from '../../../src/onnx/ops.js';
import type { Dim } from '../../../src/onnx/shape.js';
import { expectClose, f32, i64, integers, Numbers, run } from './numbers.js';

const flat = (numbers: Numbers | undefined): number[] => Array.from(numbers?.data ?? []);

describe('split', () => {
  it.each<[Dim[], number, number[]]>([
    [[2, 6, 3], 1, [1, 3, 2]],
    [[2, 6, 3], -2, [2, 2, 2]],
    [[6, 'n'], 0, [5, 1]],
    [['n', 3, 6], -1, [4, 2]],
    [['n', 3, 6], 2, [6]],
  ])('of %j along axis %d into %j', async (shape, axis, parts) => {
    const x = Numbers.random(shape.map((size) => (typeof size === 'number' ? size : 2)));
    const results = await run({ x: f32(...shape) }, (g, { x }) => ops.split(g, x, parts, axis), { x: x.feed }, { n: 2 });
    const at = axis < 0 ? shape.length + axis : axis;
    expect(results).toHaveLength(parts.length);
    let start = 0;
    for (const [index, size] of parts.entries()) {
      const offset = start;
      const part = x.shape.with(at, size);
      expectClose(
        results[index],
        Numbers.of(part, (...place) => x.at(...place.with(at, (place[at] as number) + offset))),
        0,
      );
      start += size;
    }
  });
});

describe('concat', () => {
  it.each([
    [0, [1, 3, 2]],
    [1, [2, 2]],
    [-2, [1, 4]],
    [2, [1, 1, 1, 5]],
  ])('along axis %d of parts of %j', async (axis, sizes) => {
    const at = axis < 0 ? 3 + axis : axis;
    const parts = sizes.map((size, index) => Numbers.random([3, 2, 4].with(at, size), index + 1));
    const [y] = await run(
      Object.fromEntries(parts.map((part, index) => [`x${index}`, f32(...part.shape)])),
      (g, values) => ops.concat(g, Object.values(values), axis),
      Object.fromEntries(parts.map((part, index) => [`x${index}`, part.feed])),
    );
    const total = sizes.reduce((sum, size) => sum + size, 0);
    const expected = Numbers.of([3, 2, 4].with(at, total), (...place) => {
      let rest = place[at] as number;
      const part = parts.find(({ shape }) => {
        if (rest < (shape[at] as number)) return true;
        rest -= shape[at] as number;
        return false;
      });
      return part?.at(...place.with(at, rest)) as number;
    });
    expectClose(y, expected, 0);
  });

  it('is undone by split', async () => {
    const x = Numbers.random([2, 7, 3]);
    const build = (g: Graph, x: ReturnType<Graph['input']>) => ops.concat(g, ops.split(g, x, [3, 1, 3], 1), 1);
    const [y] = await run({ x: f32('n', 7, 3) }, (g, { x }) => build(g, x), { x: x.feed }, { n: 2 });
    expectClose(y, x, 0);
  });
});

describe('scatterAdd', () => {
  it.each([
    ['rows', [4], [2, 0, 2, 2, 3]],
    ['vectors', [4, 3], [2, 0, 2, 2, 3]],
    ['matrices', [5, 2, 3], [4, 4]],
    ['nothing', [3, 2], []],
  ])('adds up %s of equal indexes', async (_, shape, indices) => {
    const rest = shape.slice(1);
    const table = Numbers.random(shape);
    const updates = Numbers.random([indices.length, ...rest], 2);
    const [y] = await run(
      { table: f32(...shape), indices: i64('m'), updates: f32('m', ...rest) },
      (g, { table, indices, updates }) => ops.scatterAdd(g, table, indices, updates),
      { table: table.feed, indices: integers([indices.length], indices), updates: updates.feed },
    );
    const expected = Numbers.of(shape, (row, ...place) =>
      indices.reduce((sum, index, m) => (index === row ? sum + updates.at(m, ...place) : sum), table.at(row, ...place)),
    );
    expectClose(y, expected);
  });

  it('is the same every time, over many equal indexes', async () => {
    const indices = Array.from({ length: 4096 }, (_, index) => index % 3);
    const updates = Numbers.random([4096, 8]);
    const sums = () =>
      run(
        { table: f32(3, 8), indices: i64('m'), updates: f32('m', 8) },
        (g, { table, indices, updates }) => ops.scatterAdd(g, table, indices, updates),
        { table: Numbers.of([3, 8], () => 0).feed, indices: integers([4096], indices), updates: updates.feed },
      );
    const [first] = await sums();
    for (let turn = 0; turn < 3; turn++) expect(flat((await sums())[0])).toEqual(flat(first));
  });
});

it('scatterColumn adds one number a row', async () => {
  const x = Numbers.random([4, 5]);
  const updates = Numbers.random([4], 2);
  const columns = [0, 4, 4, 2];
  const [y] = await run(
    { x: f32('n', 5), columns: i64('n'), updates: f32('n') },
    (g, { x, columns, updates }) => ops.scatterColumn(g, x, columns, updates),
    { x: x.feed, columns: integers([4], columns), updates: updates.feed },
    { n: 4 },
  );
  expectClose(
    y,
    Numbers.of([4, 5], (row, column) => x.at(row, column) + (columns[row] === column ? updates.at(row) : 0)),
  );
});

describe('sizes at run time', () => {
  const x = Numbers.random([2, 3, 4]);
  const inputs = { x: f32('rows', 3, 'dim') };
  const sizes = { rows: 2, dim: 4 };

  it('zerosLike', async () => {
    const [zeros] = await run(inputs, (g, { x }) => ops.zerosLike(g, x), { x: x.feed }, sizes);
    expectClose(
      zeros,
      Numbers.of([2, 3, 4], () => 0),
      0,
    );
    const [scalar] = await run({ x: f32() }, (g, { x }) => ops.zerosLike(g, x), { x: new Numbers([], [5]).feed });
    expect(scalar).toEqual(new Numbers([], [0]));
  });

  it.each<[Dim[], number[]]>([
    [[], []],
    [['dim'], [4]],
    [
      [1, 'dim'],
      [1, 4],
    ],
    [
      [3, 1],
      [3, 1],
    ],
    [
      ['rows', 1, 1],
      [2, 1, 1],
    ],
    [
      ['rows', 3, 'dim'],
      [2, 3, 4],
    ],
  ])('expandLike from %j', async (from, actual) => {
    const small = Numbers.random(actual, 2);
    const [y] = await run(
      { ...inputs, small: f32(...from) },
      (g, { x, small }) => ops.expandLike(g, small, x),
      { x: x.feed, small: small.feed },
      sizes,
    );
    expectClose(
      y,
      Numbers.of([2, 3, 4], (...at) => small.at(...at)),
      0,
    );
  });

  it.each<[Dim[], number, Dim[], number[]]>([
    [['rows', 3, 4], 1, ['rows*3', 4], [6, 4]],
    [['rows', 3, 'dim'], 2, ['rows', 3, 'dim'], [2, 3, 4]],
    [[2, 3, 4], 0, [24], [24]],
    [[2, 3, 4], 1, [6, 4], [6, 4]],
    [['a', 'b', 4], 1, ['a*b', 4], [6, 4]],
    [['rows', 3, 4], 3, [1, 'rows', 3, 4], [1, 2, 3, 4]],
  ])('flatten of %j, all but %d axes', async (from, kept, inferred, actual) => {
    const known = { ...sizes, a: 2, b: 3, 'rows*3': 6, 'a*b': 6 };
    const [y] = await run(
      { x: f32(...from) },
      (g, { x }) => {
        const result = ops.flatten(g, x, kept);
        expect(result.shape).toEqual(inferred);
        return result;
      },
      { x: x.feed },
      known,
    );
    expectClose(y, new Numbers(actual, x.data), 0);
  });

  it('reshapeTo takes the sizes of another value only where names do not say enough', async () => {
    const known = { a: 2, b: 3, 'a*b': 6 };
    const [apart, asked] = await run(
      { x: f32('a', 'b', 4) },
      (g, { x }) => {
        const merged = ops.flatten(g, x, 1);
        let asked = 0;
        const like = () => {
          asked++;
          return x;
        };
        const apart = ops.reshapeTo(g, merged, ['a', 'b', 4], like);
        expect(asked).toBe(1);
        const same = ops.reshapeTo(g, apart, ['a', 'b', 2, 2], like);
        expect(asked).toBe(1);
        return [apart, same];
      },
      { x: x.feed },
      known,
    );
    expectClose(apart, x, 0);
    expectClose(asked, new Numbers([2, 3, 2, 2], x.data), 0);
  });

  it('reshapeLike is x itself, after the other', async () => {
    const other = Numbers.random([2, 3, 4], 2);
    const [y] = await run(
      { ...inputs, other: f32('rows', 3, 'dim') },
      (g, { x, other }) => {
        const late = ops.exp(g, other);
        const result = ops.reshapeLike(g, x, late);
        // Reachable from the other one: it cannot be computed before.
        const names = new Set(
          g.nodes.filter(({ op }) => op === 'Shape').flatMap(({ inputs }) => inputs.map((input) => input?.name)),
        );
        expect(names).toContain(late.name);
        return result;
      },
      { x: x.feed, other: other.feed },
      sizes,
    );
    expectClose(y, x, 0);
  });
});

it('scalar is a number without axes, of either float dtype and of no other', () => {
  const g = new Graph();
  expect(ops.scalar(g, 'float32', 0.1)).toMatchObject({ dtype: 'float32', shape: [] });
  expect(ops.scalar(g, 'float64', 0.1)).toMatchObject({ dtype: 'float64', shape: [] });
  const numbers = [...g.initializers.values()].map(({ data }) => (data instanceof Uint8Array ? data.slice().buffer : null));
  expect(numbers).toEqual([Float32Array.of(0.1).buffer, Float64Array.of(0.1).buffer]);
  expect(() => ops.scalar(g, 'float16', 1)).toThrow(TypeError);
  expect(() => ops.scalar(g, 'int64', 1)).toThrow('Expected a scalar of float32 or float64 but received int64');
});
