/** The server at this moment: its batch, its queue and its adapter cache, from /metrics. */
import { element, part } from './dom.js';
import { count, size } from './format.js';
import type { Series } from './metrics.js';

/** One bar a look, and a look a second. */
const BARS = 60;

export class Live {
  readonly #section = part('live', HTMLElement);
  readonly #strip = part('strip', HTMLDivElement);
  readonly #peak = part('peak', HTMLSpanElement);
  readonly #memory = part('memory', HTMLProgressElement);
  readonly #memoryText = part('memory-text', HTMLSpanElement);
  readonly #kv = part('kv', HTMLProgressElement);
  readonly #kvText = part('kv-text', HTMLSpanElement);
  readonly #figures = part('figures', HTMLDListElement);
  readonly #rows: number[] = Array.from({ length: BARS }, () => 0);
  readonly #bars = this.#rows.map(() => element('i', ''));
  #steps: { readonly count: number; readonly sum: number } | null = null;

  constructor() {
    this.#strip.append(...this.#bars);
  }

  /** `null`: they are not for this visitor. */
  show(series: Series | null): void {
    this.#section.hidden = series === null;
    if (series === null) return;
    const value = (name: string): number => series.get(`graft_${name}`) ?? 0;
    const bytes = value('adapter_cache_bytes{tier="ram"}');
    const capacity = value('adapter_cache_capacity_bytes{tier="ram"}');
    this.#memory.value = capacity > 0 ? bytes / capacity : 0;
    this.#memoryText.textContent = `${size(bytes)} of ${size(capacity)}`;
    this.#kv.value = value('kv_usage_ratio');
    this.#kvText.textContent = `${Math.round(100 * this.#kv.value)} %`;
    this.#pushRows(value('batch_size_count'), value('batch_size_sum'));

    const hits = value('adapter_cache_hits_total');
    const looks = hits + value('adapter_cache_misses_total');
    const figures: readonly (readonly [string, string])[] = [
      ['Running', count(value('num_requests_running'))],
      ['Waiting', count(value('queue_length'))],
      ['In memory', `${count(value('adapters_resident'))} of ${count(value('adapters_registered'))}`],
      ['Cache hits', looks > 0 ? `${Math.round((100 * hits) / looks)} %` : '–'],
      ['Loads', count(value('adapter_loads_total'))],
      ['Evictions', count(value('adapter_evictions_total'))],
    ];
    this.#figures.replaceChildren(
      ...figures.map(([name, text]) => element('div', '', element('dt', '', name), element('dd', '', text))),
    );
  }

  /** Between two looks most requests begin and end: the steps' own mean tells of them, a gauge would not. */
  #pushRows(steps: number, sum: number): void {
    const before = this.#steps ?? { count: steps, sum };
    this.#steps = { count: steps, sum };
    this.#rows.shift();
    this.#rows.push(steps > before.count ? (sum - before.sum) / (steps - before.count) : 0);
    const peak = Math.max(...this.#rows);
    this.#peak.textContent = peak > 0 ? `up to ${peak.toFixed(1)}` : '';
    const top = Math.max(4, peak);
    for (const [index, bar] of this.#bars.entries()) bar.style.setProperty('--level', String((this.#rows[index] ?? 0) / top));
  }
}
