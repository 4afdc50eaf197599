/** Numbers as people read them. Fixed rules rather than a locale's: the same run gives the same page everywhere. */

const COMPACT = [
  { size: 1e12, suffix: 'T' },
  { size: 1e9, suffix: 'B' },
  { size: 1e6, suffix: 'M' },
  { size: 1e3, suffix: 'k' },
] as const;

/** `1,234,567`. */
export function formatCount(value: number): string {
  return Number.isFinite(value) ? Math.round(value).toLocaleString('en-US') : formatNumber(value);
}

/** `1 step`, `2,000 steps`. */
export function formatPlural(value: number, noun: string): string {
  return `${formatCount(value)} ${noun}${value === 1 ? '' : 's'}`;
}

/** Four digits that matter: `7.420`, `0.0312`, `12,480`, `2.5e-4`; whole numbers stay whole. */
export function formatNumber(value: number): string {
  if (Number.isNaN(value)) return 'not a number';
  if (!Number.isFinite(value)) return value > 0 ? 'infinite' : 'minus infinite';
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e9)) return exponential(value, 3);
  if (size >= 1e4) return value.toLocaleString('en-US', { maximumFractionDigits: 0 });
  // Measurements that stand side by side have the same number of digits; settings (0.002) do not get zeros that nobody wrote.
  const digits = Number.isInteger(value) || size < 0.1 ? {} : { minimumSignificantDigits: 4 };
  return value.toLocaleString('en-US', { ...digits, maximumSignificantDigits: 4 });
}

/** `1.9 M`, `138 M`, `842`. */
export function formatCompact(value: number): string {
  if (!Number.isFinite(value)) return formatNumber(value);
  // A value that rounds up to 1,000 of a unit belongs to the next.
  const row = COMPACT.find(({ size }) => Math.abs(value) >= size * 0.9995);
  return row ? `${significant(value / row.size)} ${row.suffix}` : significant(value);
}

/** `1.4%`; what is too small to be told from nothing is `<0.01%`. */
export function formatShare(part: number, whole: number): string {
  const percent = (100 * part) / whole;
  if (!Number.isFinite(percent)) return '-';
  if (percent > 0 && percent < 0.01) return '<0.01%';
  return `${percent.toLocaleString('en-US', { maximumSignificantDigits: 3 })}%`;
}

/** `0.4 s`, `42 s`, `3 min 5 s`, `1 h 12 min`, `2 d 3 h`. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return 'unknown';
  if (seconds < 9.95) return `${seconds.toFixed(1).replace(/\.0$/, '')} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return pair(Math.floor(whole / 60), 'min', whole % 60, 's');
  const minutes = Math.round(seconds / 60);
  if (minutes < 60 * 24) return pair(Math.floor(minutes / 60), 'h', minutes % 60, 'min');
  const hours = Math.round(seconds / 3600);
  return pair(Math.floor(hours / 24), 'd', hours % 24, 'h');
}

/** `2026-03-12 14:05 UTC`. */
export function formatDate(date: Date): string {
  if (Number.isNaN(date.getTime())) return 'unknown time';
  return `${date.toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}

/** A label of an axis that goes up to `largest`: with the decimals that tell it from the next, `spacing` away (null in a log axis). */
export function formatTick(value: number, spacing: number | null, largest: number): string {
  if (value === 0) return '0';
  const step = Math.floor(Math.log10(spacing ?? Math.abs(value)) + 1e-9);
  const isFar = largest < 1e-2 || largest >= 1e15 || (spacing === null && value < 1e-3);
  if (isFar) return exponential(value, Math.max(0, Math.floor(Math.log10(Math.abs(value))) - step));
  if (largest >= 1e4 && step >= Math.log10(largest) - 3) return formatCompact(value).replace(' ', '');
  const decimals = Math.max(0, -step);
  return value.toLocaleString('en-US', { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

function significant(value: number): string {
  return value.toLocaleString('en-US', { maximumSignificantDigits: 3 });
}

function exponential(value: number, decimals: number): string {
  return value.toExponential(decimals).replace(/\.?0*e\+?/, 'e');
}

function pair(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large} ${largeUnit}` : `${large} ${largeUnit} ${small} ${smallUnit}`;
}
