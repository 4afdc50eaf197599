/** The cache's room over time: it shrinks once a long row has left, survives what memory refuses, and remembers few views. */
import { describe, expect, it } from 'vitest';
import { KvCache } from '../../../src/engine/kv.js';
import { names } from '../../../src/engine/program.js';

const SHAPE = { layers: 1, kvHeads: 2, headDim: 2, rows: 3, maxLength: 1000 };
const TOKEN = 2 * SHAPE.kvHeads * SHAPE.headDim;

/** Row 1 with these many tokens, numbered. */
function filled(cache: KvCache, tokens: number): KvCache {
  cache.append(
    1,
    Float32Array.from({ length: tokens * TOKEN }, (_, index) => index),
    tokens,
    [0],
    [tokens],
  );
  return cache;
}

/** What row 1 holds of its first tokens, values of the second head. */
function stored(cache: KvCache, tokens: number): number[] {
  const values = cache.view(1, 1)[names.past(0, 'v')]?.data as Float32Array;
  const { headDim } = SHAPE;
  return [...values.subarray(cache.capacity * headDim, (cache.capacity + tokens) * headDim)];
}

describe('the room of a cache', () => {
  it('shrinks to what the rows need where that is far less, and keeps what they hold', () => {
    const cache = filled(new KvCache(SHAPE), 40);
    const before = stored(cache, 40);
    cache.reserve(900, 3);
    expect(cache.capacity).toBe(1000);
    cache.shrink(300, 3);
    expect(cache.capacity).toBe(1000);
    cache.shrink(40, 3);
    expect(cache.capacity).toBe(64);
    expect(stored(cache, 40)).toEqual(before);
    expect(new Set(before).size).toBe(before.length);
  });

  it('is what it was where memory does not suffice for more', () => {
    const cache = filled(new KvCache({ ...SHAPE, maxLength: 2 ** 45 }), 5);
    const before = stored(cache, 5);
    expect(() => cache.reserve(2 ** 44, 3)).toThrow(RangeError);
    expect(cache.capacity).toBe(64);
    expect(stored(cache, 5)).toEqual(before);
    cache.reserve(65, 3);
    expect(stored(cache, 5)).toEqual(before);
  });

  it('has views in a number that does not grow with the square of its rows', () => {
    const rows = 40;
    const cache = new KvCache({ ...SHAPE, rows });
    const seen = new Set<unknown>();
    for (let pass = 0; pass < 2; pass++) {
      for (let first = 0; first < rows; first++)
        for (let count = 1; first + count <= rows; count++) seen.add(cache.view(first, count));
    }
    // What is asked for again after so many others has been made again: it was not kept.
    expect(seen.size).toBe(rows * (rows + 1));
  });
});
