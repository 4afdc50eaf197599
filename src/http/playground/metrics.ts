/** Prometheus' text format, as far as the page reads it: a value a series, the series named as it stands (labels included). */

export type Series = ReadonlyMap<string, number>;

export function parseMetrics(text: string): Series {
  const series = new Map<string, number>();
  for (const line of text.split('\n')) {
    const space = line.lastIndexOf(' ');
    if (space < 0 || line.startsWith('#')) continue;
    series.set(line.slice(0, space), Number(line.slice(space + 1)));
  }
  return series;
}

/** Rows of a step on average between two looks at the server; null where there was no step, or nothing to see. */
export function meanRows(before: Series | null, after: Series | null): number | null {
  if (!before || !after) return null;
  const gain = (name: string): number => (after.get(name) ?? 0) - (before.get(name) ?? 0);
  const steps = gain('graft_batch_size_count');
  return steps > 0 ? gain('graft_batch_size_sum') / steps : null;
}
