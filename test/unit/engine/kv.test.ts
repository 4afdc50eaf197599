/** The key/value cache against a list of tokens a row: appending, copying rows, growing, and views that are the cache's own memory. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KvCache, type KvShape } from '../../../src/engine/kv.js';
import { names } from '../../../src/engine/program.js';
import type { Tensor } from '../../../src/runtime/session.js';

const SHAPE: KvShape = { layers: 2, kvHeads: 3, headDim: 4, rows: 5, maxLength: 300 };
const { layers, kvHeads, headDim } = SHAPE;
/** Numbers of one token: layer by layer, keys before values, head by head. */
const TOKEN = layers * 2 * kvHeads * headDim;

const data = (tensor: Tensor | undefined): Float32Array => tensor?.data as Float32Array;

/** A token's numbers, all of them its own. */
function token(id: number): number[] {
  return Array.from({ length: TOKEN }, (_, index) => id * TOKEN + index);
}

/** What the inputs of a run over rows first ... hold of token `position` of its `row`-th row, in a token's order. */
function stored(cache: KvCache, first: number, count: number, row: number, position: number): number[] {
  const view = cache.view(first, count);
  return Array.from({ length: layers }, (_, layer) =>
    (['k', 'v'] as const).map((part) => {
      const tensor = view[names.past(layer, part)];
      expect(tensor?.dims).toEqual([count, kvHeads, cache.capacity, headDim]);
      return Array.from({ length: kvHeads }, (_, head) => {
        const at = ((row * kvHeads + head) * cache.capacity + position) * headDim;
        return [...data(tensor).subarray(at, at + headDim)];
      });
    }),
  ).flat(3);
}

/** Appends token ids to rows first ..., padded to the longest as a run's result is; padding is numbers that must not appear. */
function append(cache: KvCache, first: number, rows: readonly (readonly number[])[], starts: readonly number[]): void {
  const tokens = Math.max(...rows.map((ids) => ids.length));
  const padding = Array<number>(TOKEN).fill(-1);
  const fresh = rows.flatMap((ids) =>
    Array.from({ length: tokens }, (_, at) => (at < ids.length ? token(ids[at] as number) : padding)).flat(),
  );
  const ends = rows.map((ids, row) => (starts[row] as number) + ids.length);
  cache.append(first, Float32Array.from(fresh), tokens, starts, ends);
}

describe('views', () => {
  it('name every layer’s keys and values', () => {
    expect(Object.keys(new KvCache(SHAPE).view(0, 1))).toEqual(['past.0.k', 'past.0.v', 'past.1.k', 'past.1.v']);
  });

  it('of the first rows, and of rows in the middle, are the same memory', () => {
    const cache = new KvCache(SHAPE);
    append(cache, 1, [[7, 8], [9]], [0, 0]);
    const all = data(cache.view(0, 5)['past.1.v']);
    for (const [first, count] of [
      [0, 2],
      [1, 2],
      [2, 3],
    ] as const) {
      const part = data(cache.view(first, count)['past.1.v']);
      const row = all.length / 5;
      expect(part.buffer).toBe(all.buffer);
      expect(part.byteOffset).toBe(all.byteOffset + first * row * 4);
      expect(part).toHaveLength(count * row);
    }
    expect(stored(cache, 0, 3, 1, 1)).toEqual(token(8));
    expect(stored(cache, 1, 2, 0, 1)).toEqual(token(8));
    expect(stored(cache, 2, 1, 0, 0)).toEqual(token(9));
  });

  it('are made once, until the cache moves', () => {
    const cache = new KvCache(SHAPE);
    const view = cache.view(1, 2);
    expect(cache.view(1, 2)).toBe(view);
    cache.reserve(64, 5);
    expect(cache.view(1, 2)).toBe(view);
    cache.reserve(65, 5);
    expect(cache.view(1, 2)).not.toBe(view);
  });
});

describe('append', () => {
  it('writes no padding, and nothing outside its rows', () => {
    const cache = new KvCache(SHAPE);
    append(cache, 1, [[1, 2, 3], [4]], [0, 0]);
    append(cache, 1, [[5], [6]], [3, 1]);
    expect([0, 1, 2, 3].map((at) => stored(cache, 1, 2, 0, at))).toEqual([1, 2, 3, 5].map(token));
    expect([0, 1].map((at) => stored(cache, 1, 2, 1, at))).toEqual([4, 6].map(token));
    const zeros = token(0).fill(0);
    expect(stored(cache, 1, 2, 1, 2)).toEqual(zeros);
    expect(stored(cache, 0, 1, 0, 0)).toEqual(zeros);
    expect(stored(cache, 3, 1, 0, 0)).toEqual(zeros);
  });
});

describe('copy', () => {
  it('takes the first tokens only, and leaves the rest of the target and the source alone', () => {
    const cache = new KvCache(SHAPE);
    append(
      cache,
      0,
      [
        [1, 2, 3],
        [4, 5, 6],
      ],
      [0, 0],
    );
    cache.copy(0, 1, 2);
    expect([0, 1, 2].map((at) => stored(cache, 0, 2, 1, at))).toEqual([1, 2, 6].map(token));
    expect([0, 1, 2].map((at) => stored(cache, 0, 2, 0, at))).toEqual([1, 2, 3].map(token));
    cache.copy(1, 1, 2);
    expect([0, 1, 2].map((at) => stored(cache, 0, 2, 1, at))).toEqual([1, 2, 6].map(token));
  });
});

describe('swap', () => {
  it('has two rows of different lengths change places, and leaves the others alone', () => {
    const cache = new KvCache(SHAPE);
    append(cache, 0, [[1, 2, 3], [4], [5]], [0, 0, 0]);
    cache.swap(0, 2, 3);
    expect([0, 1, 2].map((at) => stored(cache, 0, 3, 2, at))).toEqual([1, 2, 3].map(token));
    expect(stored(cache, 0, 3, 0, 0)).toEqual(token(5));
    expect(stored(cache, 0, 3, 1, 0)).toEqual(token(4));
  });
});

describe('reserve', () => {
  it('grows in powers of two up to the longest row allowed, and refuses a longer one', () => {
    const cache = new KvCache(SHAPE);
    const capacities = [1, 64, 65, 128, 129, 300].map((length) => {
      cache.reserve(length, 1);
      return cache.capacity;
    });
    expect(capacities).toEqual([64, 64, 128, 128, 256, 300]);
    expect(() => cache.reserve(301, 1)).toThrow(new RangeError('Expected a row of at most 300 tokens but received 301'));
    expect(new KvCache({ ...SHAPE, maxLength: 10 }).capacity).toBe(10);
  });

  it('shrinks only where no row has to move', () => {
    const cache = new KvCache(SHAPE);
    cache.reserve(200, 0);
    append(cache, 0, [[1, 2]], [0]);
    cache.reserve(3, 1);
    expect(cache.capacity).toBe(256);
    expect(stored(cache, 0, 1, 0, 1)).toEqual(token(2));
    cache.reserve(3, 0);
    expect(cache.capacity).toBe(64);
  });
});

it('holds what a list of tokens a row would hold, whatever happens (property)', () => {
  const step = fc.oneof(
    fc.record({
      kind: fc.constant('start' as const),
      lengths: fc.array(fc.integer({ min: 1, max: 70 }), { minLength: 1, maxLength: 3 }),
    }),
    fc.record({ kind: fc.constant('step' as const), times: fc.integer({ min: 1, max: 3 }) }),
    fc.record({ kind: fc.constant('leave' as const), row: fc.nat() }),
    fc.record({ kind: fc.constant('fork' as const), row: fc.nat() }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      const cache = new KvCache({ ...SHAPE, maxLength: 150 });
      const rows: number[][] = [];
      let next = 1;
      const fresh = (): number => next++;
      const longest = (): number => Math.max(...rows.map((row) => row.length));
      for (const each of steps) {
        if (each.kind === 'start') {
          const arriving = each.lengths.slice(0, SHAPE.rows - rows.length).map((length) => Array.from({ length }, fresh));
          if (arriving.length === 0) continue;
          const first = rows.length;
          rows.push(...arriving);
          cache.reserve(longest(), first);
          append(
            cache,
            first,
            arriving,
            arriving.map(() => 0),
          );
        } else if (each.kind === 'step') {
          for (let time = 0; time < each.times && rows.length > 0; time++) {
            const starts = rows.map((row) => row.length);
            const ids = rows.map(() => [fresh()]);
            for (const [index, row] of rows.entries()) row.push(...(ids[index] as number[]));
            cache.reserve(longest(), rows.length);
            append(cache, 0, ids, starts);
          }
        } else if (rows.length > 0) {
          const row = each.row % rows.length;
          if (each.kind === 'leave') {
            const last = rows.pop() as number[];
            cache.copy(rows.length, row, last.length);
            if (row < rows.length) rows[row] = last;
          } else if (rows.length < SHAPE.rows) {
            const copied = rows[row] as number[];
            cache.copy(row, rows.length, copied.length);
            rows.push([...copied]);
          }
        }
        for (const [row, ids] of rows.entries()) {
          // The ends and one in the middle of every row: reading all of them would take longer than the rest of the test.
          for (const at of new Set([0, ids.length >> 1, ids.length - 1])) {
            expect(stored(cache, 0, rows.length, row, at)).toEqual(token(ids[at] as number));
          }
        }
      }
    }),
    { numRuns: 60 },
  );
});
