import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { stepScale, ticks, valueScale } from '../../../../src/training/report/scale.js';

/** Results of d3-array 3.2.4, `ticks(min, max, count)`. */
const D3: readonly [min: number, max: number, count: number, values: readonly number[]][] = [
  [0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]],
  [0, 1, 10, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]],
  [-1, 1, 4, [-1, -0.5, 0, 0.5, 1]],
  [1, 2000, 6, [500, 1000, 1500, 2000]],
  [0.00012, 0.0021, 4, [0.0005, 0.001, 0.0015, 0.002]],
  [2.05, 8.3, 6, [3, 4, 5, 6, 7, 8]],
  [14.01, 24.02, 4, [16, 18, 20, 22, 24]],
  [0.1, 0.7, 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]],
  [999.5, 1000.25, 5, [999.6, 999.8, 1000, 1000.2]],
  [0, 3e-7, 5, [0, 5e-8, 1e-7, 1.5e-7, 2e-7, 2.5e-7, 3e-7]],
  [-1250000, 7800000, 5, [0, 2000000, 4000000, 6000000]],
  [7, 7.0001, 3, [7, 7.00005, 7.0001]],
  [1e200, 9e200, 5, [2e200, 4e200, 6e200, 8e200]],
];

describe('ticks', () => {
  it.each(D3)('of %d to %d, about %d, are those of d3', (min, max, count, values) => {
    expect(ticks(min, max, count).values).toEqual(values);
  });
});

describe('valueScale', () => {
  it('ends on ticks around the values', () => {
    const { min, max, ticks, kind } = valueScale(2.05, 8.3, 'auto', 6);
    expect({ min, max, ticks, kind }).toEqual({ min: 2, max: 9, ticks: [2, 3, 4, 5, 6, 7, 8, 9], kind: 'linear' });
  });

  it('starts at zero where it is told to, however wide the range', () => {
    const { min, max, kind, at } = valueScale(1e-8, 0.0021, 'zero', 4);
    expect({ min, max, kind }).toEqual({ min: 0, max: 0.0025, kind: 'linear' });
    expect(at(0.00125)).toBe(0.5);
  });

  it('is logarithmic where the range asks for it', () => {
    expect(valueScale(2, 59, 'auto', 6).kind).toBe('linear');
    const { kind, min, max, ticks, at, spacing } = valueScale(2.5, 90, 'auto', 6);
    expect({ kind, min, max, ticks, spacing }).toEqual({
      kind: 'log',
      min: 2,
      max: 100,
      ticks: [2, 5, 10, 20, 50, 100],
      spacing: null,
    });
    expect(at(Math.sqrt(2 * 100))).toBeCloseTo(0.5, 12);
  });

  it('labels powers of ten, or every few, in a long log axis', () => {
    expect(valueScale(3e-3, 8e3, 'auto', 4).ticks).toEqual([0.01, 0.1, 1, 10, 100, 1000, 10_000]);
    expect(valueScale(1e-100, 1e100, 'auto', 4).ticks.length).toBeLessThanOrEqual(10);
  });

  it('cannot be logarithmic at zero or below', () => {
    expect(valueScale(0, 1000, 'auto', 4).kind).toBe('linear');
    expect(valueScale(-5, 1000, 'auto', 4).kind).toBe('linear');
  });

  it.each([3, 0, -2, 1e-300, 1e250])('makes room around the single value %d', (value) => {
    const { min, max, at } = valueScale(value, value, 'auto', 4);
    expect(min).toBeLessThanOrEqual(value);
    expect(max).toBeGreaterThan(value);
    expect(at(value)).toBeGreaterThanOrEqual(0);
  });

  it('places every value of any range inside, on few rising ticks', () => {
    const value = fc.oneof(
      fc.double({ min: -1e290, max: 1e290, noNaN: true }),
      fc.double({ min: -1e4, max: 1e4, noNaN: true }),
      fc.integer(),
    );
    fc.assert(
      fc.property(value, value, fc.constantFrom('auto' as const, 'zero' as const), (a, b, wanted) => {
        const [low, high] = [Math.min(a, b), Math.max(a, b)];
        const { ticks, at } = valueScale(low, high, wanted, 5);
        expect(at(low)).toBeGreaterThanOrEqual(-1e-6);
        expect(at(high)).toBeLessThanOrEqual(1 + 1e-6);
        expect(ticks.length).toBeGreaterThanOrEqual(2);
        expect(ticks.length).toBeLessThanOrEqual(13);
        expect(ticks.every((tick, index) => index === 0 || tick > (ticks[index - 1] ?? tick))).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('stepScale', () => {
  it('ends with the run and labels whole steps only', () => {
    const { min, max, ticks } = stepScale(1, 4, 6);
    expect({ min, max, ticks }).toEqual({ min: 1, max: 4, ticks: [1, 2, 3, 4] });
  });

  it('puts a single step in the middle', () => {
    expect(stepScale(1, 1, 6).at(1)).toBe(0.5);
  });
});
