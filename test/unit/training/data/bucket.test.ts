import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { epochBatches } from '../../../../src/training/data/bucket.js';

const sizes = {
  lengths: fc.array(fc.integer({ min: 0, max: 5000 }), { maxLength: 300 }),
  options: fc.record({
    batch: fc.integer({ min: 1, max: 40 }),
    seed: fc.maxSafeInteger(),
    epoch: fc.nat(1000),
    window: fc.integer({ min: 1, max: 20 }),
  }),
};
const plain = (batches: readonly Int32Array[]): number[][] => batches.map((each) => [...each]);
const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

describe('epochBatches', () => {
  it('has every index once, in full batches but one', () => {
    fc.assert(
      fc.property(sizes.lengths, sizes.options, (lengths, options) => {
        const batches = epochBatches(lengths, options);
        expect(batches.flatMap((each) => [...each]).sort((a, b) => a - b)).toEqual(range(lengths.length));
        const short = batches.map((each) => each.length).filter((length) => length !== options.batch);
        const rest = lengths.length % options.batch;
        expect(short).toEqual(rest > 0 ? [rest] : []);
      }),
    );
  });

  it('is sorted within a window: no two of its batches overlap in length', () => {
    fc.assert(
      fc.property(sizes.lengths, sizes.options, (lengths, options) => {
        // One window for all.
        const batches = epochBatches(lengths, { ...options, window: Math.max(1, Math.ceil(lengths.length / options.batch)) });
        const spans = batches.map((each) => Array.from(each, (index) => lengths[index] ?? Number.NaN));
        for (const span of spans) expect(span).toEqual([...span].sort((a, b) => a - b));
        const inOrder = spans.sort((a, b) => (a[0] ?? 0) - (b[0] ?? 0) || (a.at(-1) ?? 0) - (b.at(-1) ?? 0)).flat();
        expect(inOrder).toEqual([...lengths].sort((a, b) => a - b));
      }),
    );
  });

  it('is the same for the same seed and epoch, and another for another', () => {
    const lengths = range(500).map((index) => (index * 7919) % 40);
    const of = (seed: number, epoch: number): number[][] => plain(epochBatches(lengths, { batch: 8, seed, epoch }));
    expect(of(4, 2)).toEqual(of(4, 2));
    expect(of(4, 3)).not.toEqual(of(4, 2));
    expect(of(5, 2)).not.toEqual(of(4, 2));
  });

  it('stays so for ever: a run that an older version began goes on with the batches that it would have had', () => {
    const batches = plain(epochBatches([5, 3, 9, 1, 4, 4, 8, 2, 7, 6, 5], { batch: 2, seed: 42, epoch: 1, window: 2 }));
    expect(batches).toEqual([[6, 2], [3, 7], [4, 5], [10, 9], [8], [1, 0]]);
  });

  it('pads far less than batches in a drawn order, and does not march from short to long', () => {
    const lengths = range(20_000).map((index) => 5 + ((index * 7919) % 60));
    const padding = (window: number): number =>
      epochBatches(lengths, { batch: 16, seed: 1, epoch: 0, window })
        .map((each) => Array.from(each, (index) => lengths[index] ?? 0))
        .reduce((sum, each) => sum + Math.max(...each) * each.length - each.reduce((a, b) => a + b, 0), 0);
    expect(padding(50)).toBeLessThan(padding(1) / 10);
    const tokens = epochBatches(lengths, { batch: 16, seed: 1, epoch: 0 }).map((each) => lengths[each[0] ?? 0] ?? 0);
    const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
    expect(Math.abs(mean(tokens.slice(0, 625)) - mean(tokens.slice(625)))).toBeLessThan(5);
  });

  it('gives each place each sequence about as often', () => {
    const counts = new Map<string, number>();
    for (let epoch = 0; epoch < 6000; epoch++) {
      const order = epochBatches([1, 1, 1], { batch: 1, seed: 7, epoch, window: 1 }).flatMap((each) => [...each]);
      counts.set(order.join(''), (counts.get(order.join('')) ?? 0) + 1);
    }
    // Six orders, a thousand each; five standard deviations are 145.
    expect(counts.size).toBe(6);
    for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThan(145);
  });

  it('takes a million sequences', () => {
    const batches = epochBatches(new Int32Array(1_000_000).fill(12), { batch: 96, seed: 0, epoch: 0 });
    expect(batches).toHaveLength(10_417);
    const seen = new Uint8Array(1_000_000);
    for (const each of batches) for (const index of each) seen[index] = 1;
    expect(seen.indexOf(0)).toBe(-1);
  });

  it('has no batch without sequences', () => {
    expect(epochBatches([], { batch: 4, seed: 0, epoch: 0 })).toEqual([]);
  });

  it.each([
    [{ batch: 0 }, 'Expected batch to be a whole number from 1 but received 0'],
    [{ batch: 2.5 }, 'but received 2.5'],
    [{ window: 0 }, 'Expected window to be a whole number from 1 but received 0'],
    [{ epoch: -1 }, 'Expected epoch to be a whole number from 0 but received -1'],
  ])('refuses %j', (wrong, message) => {
    expect(() => epochBatches([1, 2], { batch: 1, seed: 0, epoch: 0, ...wrong })).toThrow(
      expect.objectContaining({ name: 'RangeError', message: expect.stringContaining(message) }),
    );
  });
});
