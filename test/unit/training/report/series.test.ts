import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decimate, extent, type Point, segments, smooth } from '../../../../src/training/report/series.js';

const curve = (...values: readonly number[]): Point[] => values.map((y, x) => ({ x, y }));
const { NaN: gap } = Number;
const finiteOf = (points: readonly Point[]) => points.filter(({ y }) => Number.isFinite(y));

describe('segments', () => {
  it('are what lies between gaps', () => {
    expect(segments(curve(gap, 1, 2, gap, Number.POSITIVE_INFINITY, 3, gap)).map((part) => part.map(({ x }) => x))).toEqual([
      [1, 2],
      [5],
    ]);
    expect(segments([])).toEqual([]);
  });
});

describe('decimate', () => {
  it('keeps a single spike among a hundred thousand points, and both ends', () => {
    const values = Array.from({ length: 100_000 }, (_, index) => Math.sin(index));
    values[54_321] = 40;
    values[70_000] = -40;
    const kept = decimate(curve(...values), 600);
    expect(kept.length).toBeLessThanOrEqual(600);
    expect(kept.map(({ x }) => x)).toEqual(expect.arrayContaining([0, 54_321, 70_000, 99_999]));
  });

  it('keeps a gap of one value', () => {
    const values = Array.from({ length: 5000 }, () => 1);
    values[2500] = gap;
    expect(segments(decimate(curve(...values), 100))).toHaveLength(2);
  });

  it('leaves few points alone', () => {
    const points = curve(3, gap, 1);
    expect(decimate(points, 4)).toBe(points);
    expect(() => decimate(points, 3)).toThrow(RangeError);
  });

  it('keeps few points, in order, with the extremes of every stretch', () => {
    const value = fc.oneof(fc.double({ noNaN: true, min: -1e9, max: 1e9 }), fc.constant(gap));
    fc.assert(
      fc.property(fc.array(value, { minLength: 1, maxLength: 500 }), fc.integer({ min: 4, max: 60 }), (values, maxPoints) => {
        const points = curve(...values);
        const kept = decimate(points, maxPoints);
        expect(finiteOf(kept).length).toBeLessThanOrEqual(maxPoints);
        expect(kept.every(({ x }, index) => index === 0 || x > (kept[index - 1]?.x ?? x))).toBe(true);
        expect(kept.every((point) => points[point.x] === point)).toBe(true);
        expect(extent(kept)).toEqual(extent(points));
        // Whatever stands out among as many neighbours as two kept points stand for.
        const reach = Math.ceil(points.length / Math.floor((maxPoints - 2) / 2));
        const peaks = finiteOf(points).filter(({ x, y }) =>
          finiteOf(points.slice(Math.max(0, x - reach), x + reach + 1)).every((other) => other.x === x || other.y < y),
        );
        expect(kept).toEqual(expect.arrayContaining(peaks));
      }),
    );
  });
});

describe('smooth', () => {
  const values = curve(4, 2, gap, 3, 1, 1.5);

  it('ends on the usual mean over the past (pandas 3, ewm(span=3, ignore_na=True).mean())', () => {
    for (const [length, expected] of [
      [1, 4],
      [2, 2.6666666666666665],
      [4, 2.857142857142857],
      [5, 1.8666666666666667],
      [6, 1.6774193548387097],
    ] as const) {
      expect(smooth(values.slice(0, length), 3).at(-1)?.y).toBeCloseTo(expected, 12);
    }
  });

  it('weighs both sides alike (from the sums of the same ewm, forwards and backwards)', () => {
    const means = smooth(values, 3).map(({ y }) => Number(y.toFixed(12)));
    expect(means).toEqual([3.08064516129, 2.5, gap, 2.35, 1.789473684211, 1.677419354839]);
  });

  it('neither moves nor bends a straight line, ends aside', () => {
    const line = curve(...Array.from({ length: 401 }, (_, index) => index));
    expect(smooth(line, 9)[200]?.y).toBeCloseTo(200, 9);
  });

  it('with a span of one is the curve itself', () => {
    expect(smooth(values, 1)).toEqual(values);
  });
});

describe('extent', () => {
  it('knows only finite values', () => {
    expect(extent(curve(gap, 3, Number.NEGATIVE_INFINITY, -1))).toEqual({ min: -1, max: 3 });
    expect(extent(curve(gap))).toBeUndefined();
  });
});
