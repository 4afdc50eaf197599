/**
 * Curves as lists of points. A point whose `y` is no finite number is a gap. A run may record a hundred thousand steps: what is drawn
 * is few points, but never without the extremes, since a spike of the loss is what one looks for.
 */

export interface Point {
  readonly x: number;
  readonly y: number;
}

/** Finite points of the curve without `gap`s between them. */
export function segments(points: readonly Point[]): readonly (readonly Point[])[] {
  const all: Point[][] = [];
  let current: Point[] = [];
  for (const point of points) {
    if (!Number.isFinite(point.y)) current = [];
    else if (current.push(point) === 1) all.push(current);
  }
  return all;
}

/**
 * At most `maxPoints` finite points of the curve: its first and last, and the lowest and highest of each of evenly many neighbours.
 * A gap stays one, however short.
 */
export function decimate(points: readonly Point[], maxPoints: number): readonly Point[] {
  if (maxPoints < 4) throw new RangeError(`Expected at least 4 points but received ${maxPoints}`);
  if (points.length <= maxPoints) return points;
  const buckets = Math.floor((maxPoints - 2) / 2);
  const kept = new Set([0, points.length - 1]);
  for (let bucket = 0; bucket < buckets; bucket++) {
    const start = Math.floor((bucket * points.length) / buckets);
    const end = Math.floor(((bucket + 1) * points.length) / buckets);
    for (const index of notable(points, start, end)) kept.add(index);
  }
  return [...kept].sort((a, b) => a - b).flatMap((index) => points[index] ?? []);
}

/** Where the lowest value, the highest and the first gap of a range are. */
function notable(points: readonly Point[], start: number, end: number): readonly number[] {
  let [lowest, highest, gap] = [-1, -1, -1];
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let index = start; index < end; index++) {
    const y = points[index]?.y ?? Number.NaN;
    if (!Number.isFinite(y)) {
      if (gap < 0) gap = index;
      continue;
    }
    if (y < least) [lowest, least] = [index, y];
    if (y > most) [highest, most] = [index, y];
  }
  return [lowest, highest, gap].filter((index) => index >= 0);
}

/**
 * Mean of each point and its neighbours on both sides, weights falling exponentially with the number of points between: so the trend lies
 * in the middle of what it is a trend of, which the usual mean over the past alone does not. At the end, where nothing follows, it is that
 * (pandas' `ewm(span=span, ignore_na=True).mean()`). Gaps stay gaps and do not enter the mean.
 */
export function smooth(points: readonly Point[], span: number): readonly Point[] {
  const past = sums(points, span);
  const future = sums(points.toReversed(), span).reverse();
  return points.map(({ x, y }, index) => {
    const [before, after] = [past[index], future[index]];
    if (!Number.isFinite(y) || !before || !after) return { x, y: Number.NaN };
    // Both hold the point itself, with a weight of one.
    return { x, y: (before.sum + after.sum - y) / (before.weight + after.weight - 1) };
  });
}

/** Weighted sum of each point and those before it, and of the weights. */
function sums(points: readonly Point[], span: number): { readonly sum: number; readonly weight: number }[] {
  const decay = 1 - 2 / (span + 1);
  let [sum, weight] = [0, 0];
  return points.map(({ y }) => {
    if (Number.isFinite(y)) [sum, weight] = [sum * decay + y, weight * decay + 1];
    return { sum, weight };
  });
}

/** Lowest and highest finite `y` of all; undefined where there is none. */
export function extent(points: Iterable<Point>): { readonly min: number; readonly max: number } | undefined {
  let [min, max] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const { y } of points) {
    if (!Number.isFinite(y)) continue;
    if (y < min) min = y;
    if (y > max) max = y;
  }
  return min <= max ? { min, max } : undefined;
}
