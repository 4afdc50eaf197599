/** From two readings of a server to the figures that people look at. Pure: what is drawn can be tested without a server. */
import { type Bucket, type Exposition, type Labels, quantileBetween } from './exposition.js';

/** What /v1/adapters says of one, as far as it is shown. */
export interface ListedAdapter {
  readonly name: string;
  readonly resident: boolean;
  readonly resident_bytes: number;
  readonly fault: string | null;
}

/** A server at one moment. */
export interface Reading {
  readonly atMs: number;
  readonly exposition: Exposition;
  readonly adapters: readonly ListedAdapter[];
  readonly backbone: string | null;
  /** Why it is not ready; null where it is. */
  readonly unready: string | null;
}

/** What one name did since the reading before; null where there is none to compare with. */
export interface Busy {
  readonly name: string;
  readonly requestsPerSecond: number | null;
  readonly tokensPerSecond: number | null;
  readonly requests: number;
}

export interface BusyTenant extends Busy {
  /** 429s since the reading before. */
  readonly refused: number | null;
}

export interface BusyAdapter extends Busy {
  readonly firstTokenSeconds: number | null;
  /** Requests that found it missing from memory. */
  readonly misses: number | null;
  /** Null where it is not in memory, or no adapter of the list. */
  readonly bytes: number | null;
}

export interface Figures {
  readonly backbone: string | null;
  readonly unready: string | null;
  readonly upSeconds: number | null;
  readonly adapters: { readonly all: number; readonly resident: number; readonly broken: number };
  readonly requests: {
    readonly running: number;
    readonly waiting: number;
    readonly finishedPerSecond: number | null;
    /** Since the reading before: 429s, and whatever else did not go well. */
    readonly refused: number | null;
    readonly failed: number | null;
  };
  readonly rows: { readonly running: number; readonly max: number | null };
  readonly queue: number;
  readonly tokens: { readonly generatedPerSecond: number | null; readonly promptPerSecond: number | null };
  readonly firstToken: Quantiles;
  readonly betweenTokens: Quantiles;
  readonly kvRatio: number;
  readonly cache: {
    readonly bytes: number;
    readonly capacityBytes: number;
    /** Of what was asked for since the reading before. */
    readonly hitRatio: number | null;
    readonly loads: number | null;
    readonly evictions: number | null;
  };
  readonly restarts: { readonly engine: number; readonly images: number };
  readonly busiestAdapters: readonly BusyAdapter[];
  readonly busiestTenants: readonly BusyTenant[];
}

export interface Quantiles {
  readonly p50: number | null;
  readonly p95: number | null;
}

/** A tenant's own limits, and the queue's. */
const REFUSALS = new Set(['queue_full', 'rate_limit_exceeded']);
/** The client's own doing, or nothing that went wrong. */
const FINE = new Set(['ok', 'cancelled']);

/** `before` is null for a first reading, or where the server has been started again since. */
export function figuresOf(before: Reading | null, { atMs, exposition, adapters, backbone, unready }: Reading): Figures {
  const startedAt = exposition.sum('process_start_time_seconds');
  const isSame = before !== null && before.exposition.sum('process_start_time_seconds') === startedAt;
  const change = new Change(isSame ? before.exposition : null, exposition, isSame ? (atMs - before.atMs) / 1000 : 0);
  const now = (name: string): number => exposition.sum(name) ?? 0;
  const hits = change.of('graft_adapter_cache_hits_total');
  const misses = change.of('graft_adapter_cache_misses_total');
  const asked = (hits ?? 0) + (misses ?? 0);
  const rows = Number(exposition.series('graft_lora_requests_info')[0]?.labels['max_lora'] ?? Number.NaN);
  const bytes = new Map(adapters.map((adapter) => [adapter.name, adapter.resident ? adapter.resident_bytes : null]));
  return {
    backbone,
    unready,
    upSeconds: startedAt === null ? null : Math.max(0, Date.now() / 1000 - startedAt),
    adapters: {
      all: adapters.length,
      resident: adapters.filter(({ resident }) => resident).length,
      broken: adapters.filter(({ fault }) => fault !== null).length,
    },
    requests: {
      running: now('graft_num_requests_running'),
      waiting: now('graft_num_requests_waiting'),
      finishedPerSecond: change.rate('graft_e2e_request_latency_seconds_count'),
      refused: change.ofOutcomes('graft_requests_total', (outcome) => REFUSALS.has(outcome)),
      failed: change.ofOutcomes('graft_requests_total', (outcome) => !REFUSALS.has(outcome) && !FINE.has(outcome)),
    },
    rows: { running: now('graft_num_rows_running'), max: Number.isNaN(rows) ? null : rows },
    queue: now('graft_queue_length'),
    tokens: {
      generatedPerSecond: change.rate('graft_generation_tokens_total'),
      promptPerSecond: change.rate('graft_prompt_tokens_total'),
    },
    firstToken: change.quantiles('graft_time_to_first_token_seconds'),
    betweenTokens: change.quantiles('graft_inter_token_latency_seconds'),
    kvRatio: now('graft_kv_usage_ratio'),
    cache: {
      bytes: exposition.sum('graft_adapter_cache_bytes', { tier: 'ram' }) ?? 0,
      capacityBytes: exposition.sum('graft_adapter_cache_capacity_bytes', { tier: 'ram' }) ?? 0,
      hitRatio: hits === null || asked === 0 ? null : hits / asked,
      loads: change.of('graft_adapter_loads_total'),
      evictions: change.of('graft_adapter_evictions_total'),
    },
    restarts: { engine: now('graft_engine_restarts_total'), images: now('graft_image_process_restarts_total') },
    busiestAdapters: busiest(change, 'adapter', { metric: 'graft_adapter_generation_tokens_total' }).map((busy) => ({
      ...busy,
      firstTokenSeconds: change.ratio('adapter', busy.name, 'first_token_seconds', 'first_tokens'),
      misses: change.of('graft_adapter_request_misses_total', { adapter: busy.name }),
      bytes: bytes.get(busy.name) ?? null,
    })),
    busiestTenants: busiest(change, 'tenant', { metric: 'graft_tenant_tokens_total', kind: 'completion' }).map((busy) => ({
      ...busy,
      refused: change.ofOutcomes('graft_tenant_requests_total', (outcome) => REFUSALS.has(outcome), { tenant: busy.name }),
    })),
  };
}

/** All that has a series, the busiest first: by what it did since the reading before, then by all that it ever did. */
function busiest(
  change: Change,
  label: 'adapter' | 'tenant',
  { metric: tokens, ...only }: { readonly metric: string; readonly kind?: string },
): Busy[] {
  const requests = `graft_${label}_requests_total`;
  const names = new Set(change.after.series(requests).flatMap(({ labels }) => labels[label] ?? []));
  return [...names]
    .map((name) => ({
      name,
      requestsPerSecond: change.rate(requests, { [label]: name }),
      tokensPerSecond: change.rate(tokens, { [label]: name, ...only }),
      requests: change.after.sum(requests, { [label]: name }) ?? 0,
    }))
    .sort(
      (a, b) =>
        (b.requestsPerSecond ?? 0) - (a.requestsPerSecond ?? 0) ||
        (b.tokensPerSecond ?? 0) - (a.tokensPerSecond ?? 0) ||
        b.requests - a.requests,
    );
}

/** What happened between two readings of the same process; null everywhere where there is only one. */
class Change {
  readonly #before: Exposition | null;
  readonly after: Exposition;
  readonly #seconds: number;

  constructor(before: Exposition | null, after: Exposition, seconds: number) {
    this.#before = seconds > 0 ? before : null;
    this.after = after;
    this.#seconds = seconds;
  }

  of(name: string, labels: Labels = {}): number | null {
    if (!this.#before) return null;
    const after = this.after.sum(name, labels) ?? 0;
    const before = this.#before.sum(name, labels) ?? 0;
    // A series that came back after it had been away.
    return after >= before ? after - before : after;
  }

  rate(name: string, labels: Labels = {}): number | null {
    const change = this.of(name, labels);
    return change === null ? null : change / this.#seconds;
  }

  /** Of the outcomes that count, with these labels. */
  ofOutcomes(name: string, counts: (outcome: string) => boolean, only: Labels = {}): number | null {
    if (!this.#before) return null;
    const outcomes = new Set(this.after.series(name).flatMap(({ labels }) => labels['outcome'] ?? []));
    return [...outcomes].filter(counts).reduce((sum, outcome) => sum + (this.of(name, { ...only, outcome }) ?? 0), 0);
  }

  /** The mean of what a name's sum and count gained. */
  ratio(label: 'adapter', name: string, sum: string, count: string): number | null {
    const counted = this.of(`graft_${label}_${count}_total`, { [label]: name });
    const summed = this.of(`graft_${label}_${sum}_total`, { [label]: name });
    return counted === null || summed === null || counted === 0 ? null : summed / counted;
  }

  quantiles(name: string): Quantiles {
    if (!this.#before) return { p50: null, p95: null };
    const before: readonly Bucket[] = this.#before.histogram(name);
    const after = this.after.histogram(name);
    return { p50: quantileBetween(before, after, 0.5), p95: quantileBetween(before, after, 0.95) };
  }
}
