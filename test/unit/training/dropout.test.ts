/**
 * Masks that look random to every test that a run could notice. Bounds are five standard deviations of what chance would give, and the seeds
 * are fixed: a mask that is right stays right.
 */
import { describe, expect, it } from 'vitest';
import { keepMask } from '../../../src/training/dropout.js';

const SIZE = 1 << 16;

/** How far two masks of rate 0.5 are from agreeing half the time, in standard deviations. */
function agreement(a: Uint8Array, b: Uint8Array): number {
  let equal = 0;
  for (let index = 0; index < a.length; index++) if (a[index] === b[index]) equal++;
  return Math.abs(equal - a.length / 2) / (Math.sqrt(a.length) / 2);
}

const mask = (seed: number, ...names: (string | number)[]): Uint8Array => keepMask([SIZE], 0.5, seed, ...names);

describe('keepMask', () => {
  it('keeps all at a rate of 0, and has the elements of its shape', () => {
    expect(keepMask([2, 3, 4], 0, 1, 'x')).toEqual(new Uint8Array(24).fill(1));
    expect(keepMask([2, 0, 4], 0.5, 1, 'x')).toEqual(new Uint8Array(0));
  });

  it.each([0.01, 0.1, 0.5, 0.9, 0.95])('drops a share of %d', (rate) => {
    const bound = 5 * Math.sqrt(SIZE * rate * (1 - rate));
    for (let seed = 0; seed < 20; seed++) {
      const values = keepMask([SIZE], rate, seed, 'keep.0', 3);
      expect(values.every((value) => value === 0 || value === 1)).toBe(true);
      expect(Math.abs(values.filter((value) => value === 0).length - SIZE * rate)).toBeLessThan(bound);
    }
  });

  it('is the same for the same seed and names, for ever', () => {
    expect(mask(7, 'keep.0', 1)).toEqual(mask(7, 'keep.0', 1));
    // What masks a run has drawn so far must be those that it draws when it resumes with a later version.
    expect([...keepMask([24], 0.5, 7, 'keep.0', 1)].join('')).toBe('110000011010010101001100');
  });

  it('has nothing in common with the mask of another seed, name or step', () => {
    const masks = [mask(0, 'keep.0', 0), mask(1, 'keep.0', 0), mask(2 ** 40, 'keep.0', 0), mask(0, 'keep.1', 0)];
    for (let step = 1; step <= 20; step++) masks.push(mask(0, 'keep.0', step));
    masks.push(mask(0, 'keep.0', 1, 0), mask(0, 'keep.01', 0));
    masks.forEach((a, index) => {
      for (const b of masks.slice(index + 1)) expect(agreement(a, b)).toBeLessThan(5);
    });
  });

  it('shows no pattern between neighbours, rows or columns of one mask', () => {
    for (let seed = 0; seed < 5; seed++) {
      const values = mask(seed, 'keep.0', 0);
      for (const lag of [1, 2, 3, 4, 7, 8, 16, 31, 32, 64, 576, 1024, 4096, 32_768])
        expect(agreement(values.subarray(lag), values.subarray(0, SIZE - lag)), `lag ${lag}`).toBeLessThan(5);
    }
  });

  it('keeps each of four neighbours as often, whatever the others are', () => {
    const counts = new Float64Array(16);
    const values = mask(3, 'keep.0', 0);
    for (let index = 0; index < SIZE; index += 4) {
      const which = values.subarray(index, index + 4).reduce((bits, value) => 2 * bits + value, 0);
      counts[which] = (counts[which] as number) + 1;
    }
    const expected = SIZE / 64;
    const chi = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    // 15 degrees of freedom: once in a million.
    expect(chi).toBeLessThan(52);
  });

  it('is no other mask in another order', () => {
    // With one key for an index to be XORed with, 2^32 numbers make 2^19 stretches of 2^13: of 3,000 masks some eight pairs would share theirs.
    const signatures = Array.from({ length: 3000 }, (_, step) => signature(keepMask([1 << 13], 0.5, 0, 'keep.0', step)));
    expect(new Set(signatures).size).toBe(3000);
  });
});

/** What XOR of its indexes leaves of a mask: for each bit of the index, the ones where it is 0 and where it is 1, whichever they are. */
function signature(mask: Uint8Array): string {
  const bits = Math.log2(mask.length);
  const high = new Float64Array(bits);
  let ones = 0;
  for (let index = 0; index < mask.length; index++) {
    if (mask[index] === 0) continue;
    ones++;
    for (let bit = 0; bit < bits; bit++) high[bit] = (high[bit] as number) + ((index >> bit) & 1);
  }
  return [ones, ...high.map((count) => Math.min(count, ones - count))].join();
}
