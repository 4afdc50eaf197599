/** Prometheus' text format, read back: what `graft top` asks of /metrics. */

export type Labels = Readonly<Record<string, string>>;

export interface Sample {
  readonly labels: Labels;
  readonly value: number;
}

/** One bucket of a histogram: how many observations were at most `le`. */
export interface Bucket {
  readonly le: number;
  readonly count: number;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? +(\S+)(?: +\d+)?$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPES: Readonly<Record<string, string>> = { '\\n': '\n', '\\"': '"', '\\\\': '\\' };

export class Exposition {
  readonly #samples = new Map<string, Sample[]>();

  /** Lines that are neither samples nor comments are skipped: another version's text is still worth its numbers. */
  constructor(text: string) {
    for (const line of text.split('\n')) {
      const [, name, labels, number] = LINE.exec(line) ?? [];
      if (name === undefined || number === undefined) continue;
      const samples = this.#samples.get(name) ?? [];
      samples.push({ labels: labelsOf(labels ?? ''), value: numberOf(number) });
      this.#samples.set(name, samples);
    }
  }

  series(name: string): readonly Sample[] {
    return this.#samples.get(name) ?? [];
  }

  /** The sum of the series that have all of these labels; null where there is none. */
  sum(name: string, labels: Labels = {}): number | null {
    const wanted = Object.entries(labels);
    const found = this.series(name).filter((sample) => wanted.every(([label, value]) => sample.labels[label] === value));
    return found.length === 0 ? null : found.reduce((sum, { value }) => sum + value, 0);
  }

  /** Ascending; empty where there is no such histogram. */
  histogram(name: string): Bucket[] {
    return this.series(`${name}_bucket`)
      .map(({ labels, value }) => ({ le: numberOf(labels['le'] ?? ''), count: value }))
      .sort((a, b) => a.le - b.le);
  }
}

function labelsOf(text: string): Labels {
  const pairs = [...text.matchAll(LABEL)].map(([, label = '', value = '']) => [
    label,
    value.replace(/\\[n"\\]/g, (escaped) => ESCAPES[escaped] ?? escaped),
  ]);
  return Object.fromEntries(pairs) as Labels;
}

function numberOf(text: string): number {
  if (text === '+Inf') return Number.POSITIVE_INFINITY;
  return text === '-Inf' ? Number.NEGATIVE_INFINITY : Number(text);
}

/**
 * The quantile of what was observed between two readings, as Prometheus' histogram_quantile has it: linear within a bucket, and the last finite
 * bound for what lies above. Null where nothing was observed.
 */
export function quantileBetween(before: readonly Bucket[], after: readonly Bucket[], quantile: number): number | null {
  const earlier = new Map(before.map(({ le, count }) => [le, count]));
  const gained = after.map(({ le, count }) => ({ le, count: count - (earlier.get(le) ?? 0) }));
  const all = gained.at(-1)?.count ?? 0;
  if (!(all > 0)) return null;
  const rank = quantile * all;
  const at = gained.findIndex(({ count }) => count >= rank);
  const bucket = gained[at];
  const below = gained[at - 1] ?? { le: 0, count: 0 };
  if (!bucket) return null;
  if (!Number.isFinite(bucket.le)) return below.le;
  const inside = bucket.count - below.count;
  return inside > 0 ? below.le + ((bucket.le - below.le) * (rank - below.count)) / inside : bucket.le;
}
