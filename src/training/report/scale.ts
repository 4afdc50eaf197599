/**
 * From values to places on an axis, and where its labels go. Ticks follow d3's rule (1, 2 or 5 times a power of ten, whichever comes
 * closest to the wanted number), computed through whole numbers so that 0.3 is not 0.30000000000000004.
 */

export interface Scale {
  readonly kind: 'linear' | 'log';
  readonly min: number;
  readonly max: number;
  readonly ticks: readonly number[];
  /** Distance of two ticks; null where they are not evenly spaced. */
  readonly spacing: number | null;
  /** 0 at `min`, 1 at `max`. */
  readonly at: (value: number) => number;
}

/** From here on a linear axis shows its small values as one flat line. */
const LOG_RATIO = 30;
/** Where logarithms and powers of ten are still exact enough. */
const SMALLEST = 1e-290;
const MAX_LOG_TICKS = 10;

/** `count` or so round numbers from `min` to `max`, both included where they are round. */
export function ticks(min: number, max: number, count: number): { readonly values: readonly number[]; readonly spacing: number } {
  const { factor, isInverse } = spacingOf(max - min, count);
  const value = (index: number) => (isInverse ? index / factor : index * factor);
  const index = (place: number) => (isInverse ? place * factor : place / factor);
  let first = Math.round(index(min));
  let last = Math.round(index(max));
  if (value(first) < min) first++;
  if (value(last) > max) last--;
  const values = Array.from({ length: Math.max(0, last - first + 1) }, (_, offset) => value(first + offset));
  return { values, spacing: value(1) };
}

/** An axis that holds `min` and `max` and ends on round numbers. `auto` is logarithmic where the range asks for it; `zero` starts at zero. */
export function valueScale(min: number, max: number, wanted: 'auto' | 'zero', count: number): Scale {
  if (wanted === 'auto' && min >= SMALLEST && max / min >= LOG_RATIO) return logScale(min, max);
  const [low, high] = widen(wanted === 'zero' ? Math.min(0, min) : min, wanted === 'zero' ? Math.max(0, max) : max);
  const { factor, isInverse } = spacingOf(high - low, count);
  const start = isInverse ? Math.floor(low * factor) / factor : Math.floor(low / factor) * factor;
  const end = isInverse ? Math.ceil(high * factor) / factor : Math.ceil(high / factor) * factor;
  return linearScale(start, end, count);
}

/** The axis of steps: it ends where the run does, and its labels are whole. */
export function stepScale(min: number, max: number, count: number): Scale {
  const [low, high] = max > min ? [min, max] : [min - 1, min + 1];
  const scale = linearScale(low, high, count);
  return { ...scale, ticks: scale.ticks.filter(Number.isInteger) };
}

function linearScale(min: number, max: number, count: number): Scale {
  const { values, spacing } = ticks(min, max, count);
  return { kind: 'linear', min, max, ticks: values, spacing, at: (value) => (value - min) / (max - min) };
}

function logScale(least: number, most: number): Scale {
  const round = [1, 2, 5]
    .flatMap((digit) => decades(least, most).map((power) => Number(`${digit}e${power}`)))
    .sort((a, b) => a - b);
  const min = round.findLast((value) => value <= least) ?? least;
  const max = round.find((value) => value >= most) ?? most;
  const inside = round.filter((value) => value >= min && value <= max);
  const low = Math.log10(min);
  const span = Math.log10(max) - low;
  const at = (value: number) => (Math.log10(value) - low) / span;
  return { kind: 'log', min, max, ticks: thin(inside), spacing: null, at };
}

function decades(least: number, most: number): number[] {
  const first = Math.floor(Math.log10(least)) - 1;
  const last = Math.min(308, Math.ceil(Math.log10(most)) + 1);
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

/** All, or the powers of ten, or every so many of those: labels that still have room. */
function thin(values: readonly number[]): readonly number[] {
  if (values.length <= MAX_LOG_TICKS) return values;
  const powers = values.filter((value) => value.toExponential(0).startsWith('1'));
  const every = Math.ceil(powers.length / MAX_LOG_TICKS);
  return powers.filter((_, index) => index % every === 0);
}

/** Room around a range that is a single value, as far as floating point can tell. */
function widen(min: number, max: number): [min: number, max: number] {
  const size = Math.max(Math.abs(min), Math.abs(max));
  if (size < SMALLEST) return [0, 1];
  return max - min > size * 1e-9 ? [min, max] : [min - size * 0.05, max + size * 0.05];
}

/** The distance of two ticks, as `factor` or (below one) as 1 / `factor`: both are whole. */
function spacingOf(span: number, count: number): { readonly factor: number; readonly isInverse: boolean } {
  const power = Math.floor(Math.log10(span / count));
  const error = span / count / 10 ** power;
  const digit = error >= Math.sqrt(50) ? 10 : error >= Math.sqrt(10) ? 5 : error >= Math.sqrt(2) ? 2 : 1;
  return power < 0 ? { factor: 10 ** -power / digit, isInverse: true } : { factor: 10 ** power * digit, isInverse: false };
}
