/**
 * Every Prometheus metric, in one place: what it is called, what it means and who feeds it. The only file that knows prom-client.
 * Meanings are those of vLLM's metrics where it has one, so that its dashboards and the Gateway API's inference extension can be pointed here.
 * Labels take values from fixed lists only, and tenants are those that are configured. Adapters, of which there may be thousands, have a bounded
 * number of series (traffic.ts).
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { ErrorCode } from './errors.js';
import type { FinalStatus, Status } from './finetuning/job.js';
import type { EngineCounts, EngineGauges, FinishReason, GenerateResult } from './serving/protocol.js';
import type { SourceKind } from './sources/place.js';
import type { Failure } from './sources/supply.js';
import type { Limits } from './tenants/tenant.js';
import { type Series, Traffic } from './traffic.js';

/** Whole requests: from a cached caption to a long text on a slow machine. */
const REQUEST_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
/** Parts of one, down to a step. */
const PART_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** From a small adapter next door to a large one far away. */
const FETCH_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];
/** From a handful of pictures to a day. */
const JOB_SECONDS = [10, 30, 60, 300, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400];
const ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const TOKENS = [1, 4, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096];

/** What is counted by adapter. */
const ADAPTER_COUNTS = ['requests', 'generatedTokens', 'firstTokens', 'firstTokenSeconds', 'misses'] as const;

/** prom-client's own gauges that break Prometheus' naming rules; nodejs_active_* without the suffix say the same. */
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total'];

export interface RequestObservation {
  /** A route's template, never a path. */
  readonly route: string;
  readonly outcome: 'ok' | ErrorCode;
  /** Whether it asked for text; the times of health checks and scrapes would say nothing. */
  readonly generating: boolean;
  readonly seconds: number;
}

type TokenCounts = Pick<GenerateResult, 'imageTokens' | 'promptTokens' | 'completionTokens'>;

/** What the front end knows at a scrape, besides the engine's own gauges. */
export interface FrontGauges {
  /** Requests that wait: to be decoded, or for a row. */
  readonly queueLength: number;
  readonly adaptersRegistered: number;
  /** Sequences that run at once, and so the adapters that one step can mix. */
  readonly maxBatch: number;
  /** Adapters from elsewhere on this disk; null where none come from elsewhere. */
  readonly disk: { readonly bytes: number; readonly maxBytes: number } | null;
  /** Published adapters; 0 without a store. */
  readonly storeBytes: number;
}

/** A metric as the documentation lists it. */
export interface MetricDescription {
  readonly name: string;
  readonly kind: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  readonly help: string;
}

export class Metrics {
  readonly #registry = new Registry();
  readonly #described: MetricDescription[] = [];
  readonly #requests = this.#counter('requests_total', 'Requests by route and outcome (ok or an error code)', [
    'route',
    'outcome',
  ]);
  readonly #e2e = this.#histogram('e2e_request_latency_seconds', 'From a request to the end of its answer', REQUEST_SECONDS);
  readonly #finished = this.#counter('request_success_total', 'Finished sequences by reason', ['finished_reason']);

  readonly #ttft = this.#histogram('time_to_first_token_seconds', 'From a request to its first token', REQUEST_SECONDS);
  readonly #interToken = this.#histogram('inter_token_latency_seconds', 'Between two tokens of a sequence', PART_SECONDS);
  readonly #queue = this.#histogram(
    'request_queue_time_seconds',
    'Waiting for a row, once adapter and image were there',
    PART_SECONDS,
  );
  readonly #prefill = this.#histogram('request_prefill_time_seconds', 'From a row to the first token', PART_SECONDS);
  readonly #decode = this.#histogram('request_decode_time_seconds', 'From the first token to the last', REQUEST_SECONDS);
  readonly #vision = this.#histogram('vision_encode_seconds', 'Vision encoder, for images that were not cached', PART_SECONDS);
  readonly #adapterWait = this.#histogram(
    'request_adapter_wait_seconds',
    'Waiting for adapter bytes, on a cache miss',
    PART_SECONDS,
  );
  readonly #requestPrompt = this.#histogram('request_prompt_tokens', 'Prompt and image tokens of a request', TOKENS);
  readonly #requestGeneration = this.#histogram('request_generation_tokens', 'Generated tokens of a request', TOKENS);

  readonly #batchSize = this.#histogram('batch_size', 'Rows of one step', ROWS);
  readonly #iterationTokens = this.#histogram('iteration_tokens', 'Prompt and generated tokens of one step', TOKENS);
  readonly #step = this.#histogram('step_seconds', 'One step of the batch', PART_SECONDS);
  readonly #promptTokens = this.#counter('prompt_tokens_total', 'Prompt and image tokens that were computed');
  readonly #generationTokens = this.#counter('generation_tokens_total', 'Generated tokens of finished requests');

  readonly #running = this.#gauge('num_requests_running', 'Requests in the batch');
  readonly #waiting = this.#gauge('num_requests_waiting', 'Requests in the engine that wait for a row, an adapter or an image');
  readonly #rows = this.#gauge('num_rows_running', 'Sequences in the batch');
  readonly #queueLength = this.#gauge('queue_length', 'Requests that wait anywhere; admission refuses above queueLimit');
  readonly #kvUsage = this.#gauge('kv_usage_ratio', 'Used part of the key-value cache, 0 to 1');

  readonly #adapterHits = this.#counter('adapter_cache_hits_total', 'Adapters found in memory');
  readonly #adapterMisses = this.#counter('adapter_cache_misses_total', 'Adapters not found in memory');
  readonly #adapterLoads = this.#counter('adapter_loads_total', 'Adapters read from disk');
  readonly #adapterLoadFailures = this.#counter('adapter_load_failures_total', 'Adapters that could not be loaded');
  readonly #adapterEvictions = this.#counter('adapter_evictions_total', 'Adapters removed from memory to make room');
  readonly #adapterLoadSeconds = this.#histogram('adapter_load_seconds', 'Reading and checking one adapter', PART_SECONDS);
  readonly #adapterBytes = this.#gauge('adapter_cache_bytes', 'Memory (ram), or room on the disk, that adapters take', ['tier']);
  readonly #adapterCapacity = this.#gauge('adapter_cache_capacity_bytes', 'Memory, or room, that adapters may take', ['tier']);
  readonly #adaptersResident = this.#gauge('adapters_resident', 'Adapters in memory');
  readonly #adaptersRegistered = this.#gauge('adapters_registered', 'Adapters that can be asked for by name');
  readonly #adapterLeases = this.#gauge('adapter_leases', 'Uses of adapters by requests now');

  readonly #fetchSeconds = this.#histogram(
    'adapter_fetch_seconds',
    'Fetching one version of an adapter, by the kind of its source',
    FETCH_SECONDS,
    ['source'],
  );
  readonly #fetchBytes = this.#counter('adapter_fetch_bytes_total', 'Bytes of adapters that were fetched', ['source']);
  readonly #fetchFailures = this.#counter('adapter_fetch_failures_total', 'Looks at sources that failed, by reason', [
    'source',
    'reason',
  ]);
  readonly #diskHits = this.#counter('adapter_disk_hits_total', 'Requests for adapters from elsewhere that were on the disk');
  readonly #diskMisses = this.#counter('adapter_disk_misses_total', 'Requests that waited for the source of an adapter');
  readonly #diskEvictions = this.#counter('adapter_disk_evictions_total', 'Adapters removed from the disk to make room');

  readonly #uploads = this.#counter(
    'adapter_uploads_total',
    'Adapters that somebody wanted to publish, by outcome (ok or an error code)',
    ['outcome'],
  );
  readonly #shadows = this.#counter(
    'adapter_shadow_requests_total',
    'Requests that a shadow could run behind: ok, failed, dropped',
    ['outcome'],
  );
  readonly #storeBytes = this.#gauge('adapter_store_bytes', 'Bytes of the adapters that were published to this server');

  readonly #visionHits = this.#counter('vision_cache_hits_total', 'Images whose features were in memory');
  readonly #visionMisses = this.#counter('vision_cache_misses_total', 'Images that had to be encoded');
  readonly #visionBytes = this.#gauge('vision_cache_bytes', 'Memory that image features take');
  readonly #tenantRequests = this.#counter('tenant_requests_total', 'Requests of a tenant by outcome (ok or an error code)', [
    'tenant',
    'outcome',
  ]);
  readonly #tenantTokens = this.#counter('tenant_tokens_total', 'Tokens that a tenant has used: image, prompt or completion', [
    'tenant',
    'kind',
  ]);
  readonly #quotaRefusals = this.#counter('quota_refusals_total', 'Requests refused by a limit of their tenant', [
    'tenant',
    'limit',
  ]);
  readonly #quotaStoreFailures = this.#counter(
    'quota_store_failures_total',
    'Times that Redis was to count for a quota and did not answer',
  );

  readonly #engineRestarts = this.#counter('engine_restarts_total', 'Times the engine process ended and was started again');
  readonly #tenantsReloads = this.#counter(
    'tenants_reloads_total',
    'Times the tenants were read again, by outcome (ok or failed)',
    ['outcome'],
  );
  readonly #imageRestarts = this.#counter('image_process_restarts_total', 'Times an image process ended and was started again');

  readonly #finetuningJobs = this.#gauge('finetuning_jobs', 'Fine-tuning jobs that are known, by state', ['state']);
  readonly #finetuningSteps = this.#counter('finetuning_steps_total', 'Updates of fine-tuning jobs');
  readonly #finetuningTokens = this.#counter('finetuning_tokens_total', 'Tokens that finished fine-tuning jobs learned from');
  readonly #finetuningSeconds = this.#histogram('finetuning_job_seconds', 'Training of jobs', JOB_SECONDS, ['state']);

  readonly #adapterTraffic = new Traffic(ADAPTER_COUNTS);
  readonly #byAdapter = {
    requests: this.#counter('adapter_requests_total', 'Requests handed to the engine, by adapter', ['adapter']),
    generatedTokens: this.#counter(
      'adapter_generation_tokens_total',
      'Generated tokens, those of requests that were cut too, by adapter',
      ['adapter'],
    ),
    firstTokens: this.#counter('adapter_first_tokens_total', 'Requests that got a first token, by adapter', ['adapter']),
    firstTokenSeconds: this.#counter('adapter_first_token_seconds_total', 'Sum of their times to the first token, by adapter', [
      'adapter',
    ]),
    misses: this.#counter('adapter_request_misses_total', 'Requests whose adapter was not in memory, by adapter', ['adapter']),
  };
  readonly #loraRequests = this.#gauge('lora_requests_info', 'Adapters of requests now, as lists; the value is the time', [
    'max_lora',
    'running_lora_adapters',
    'waiting_lora_adapters',
  ]);

  constructor() {
    collectDefaultMetrics({ register: this.#registry });
    for (const name of MISNAMED) this.#registry.removeSingleMetric(name);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Everything of ours that there is, for its documentation; Node's own metrics are prom-client's to describe. */
  get descriptions(): readonly MetricDescription[] {
    return this.#described;
  }

  request({ route, outcome, generating, seconds }: RequestObservation): void {
    this.#requests.inc({ route, outcome });
    if (generating && outcome === 'ok') this.#e2e.observe(seconds);
  }

  firstToken(seconds: number): void {
    this.#ttft.observe(seconds);
  }

  nextToken(seconds: number): void {
    this.#interToken.observe(seconds);
  }

  finished(reason: FinishReason): void {
    this.#finished.inc({ finished_reason: reason });
  }

  generated({
    timings,
    promptTokens,
    imageTokens,
    completionTokens,
    visionCache,
    adapterCache,
  }: Omit<GenerateResult, 'choices'>): void {
    this.#queue.observe(timings.queueMs / 1000);
    this.#prefill.observe(timings.prefillMs / 1000);
    this.#decode.observe(timings.decodeMs / 1000);
    if (visionCache === 'miss') this.#vision.observe(timings.visionMs / 1000);
    if (adapterCache === 'miss') this.#adapterWait.observe(timings.adapterMs / 1000);
    this.#requestPrompt.observe(promptTokens + imageTokens);
    this.#requestGeneration.observe(completionTokens);
  }

  /** Adds what the engine counted since its last message: sums survive its restarts. */
  counts(counts: EngineCounts): void {
    this.#adapterHits.inc(counts.adapterHits);
    this.#adapterMisses.inc(counts.adapterMisses);
    this.#adapterLoads.inc(counts.adapterLoads);
    this.#adapterLoadFailures.inc(counts.adapterLoadFailures);
    this.#adapterEvictions.inc(counts.adapterEvictions);
    this.#visionHits.inc(counts.visionHits);
    this.#visionMisses.inc(counts.visionMisses);
    this.#promptTokens.inc(counts.promptTokens);
    this.#generationTokens.inc(counts.generatedTokens);
    for (const seconds of counts.adapterLoadSeconds) this.#adapterLoadSeconds.observe(seconds);
    for (const seconds of counts.stepSeconds) this.#step.observe(seconds);
    for (const rows of counts.batchSizes) {
      this.#batchSize.observe(rows);
      // Messages come one a step; where several steps share one, its prompt tokens are spread over them.
      this.#iterationTokens.observe(rows + counts.promptTokens / counts.batchSizes.length);
    }
  }

  /** Counts something of one adapter's part of a request: the backbone's name is that of what no adapter touches. */
  traffic(adapter: string, counts: Partial<Record<(typeof ADAPTER_COUNTS)[number], number>>): void {
    this.#adapterTraffic.add(adapter, counts);
  }

  engineRestarted(): void {
    this.#engineRestarts.inc();
  }

  imageProcessRestarted(): void {
    this.#imageRestarts.inc();
  }

  tenantsReloaded(outcome: 'ok' | 'failed'): void {
    this.#tenantsReloads.inc({ outcome });
  }

  adapterFetched(source: SourceKind, seconds: number, bytes: number): void {
    this.#fetchSeconds.observe({ source }, seconds);
    this.#fetchBytes.inc({ source }, bytes);
  }

  adapterFetchFailed(source: SourceKind, reason: Failure): void {
    this.#fetchFailures.inc({ source, reason });
  }

  /** An adapter from elsewhere was asked for, and was on the disk, or had to be waited for. */
  adapterAsked(hit: boolean): void {
    (hit ? this.#diskHits : this.#diskMisses).inc();
  }

  adapterEvictedFromDisk(): void {
    this.#diskEvictions.inc();
  }

  finetuningJobs(counts: Readonly<Record<Status, number>>): void {
    for (const [state, count] of Object.entries(counts)) this.#finetuningJobs.set({ state }, count);
  }

  readonly finetuningStep = (): void => this.#finetuningSteps.inc();

  finetuningEnded(state: FinalStatus, seconds: number, tokens: number): void {
    this.#finetuningSeconds.observe({ state }, seconds);
    this.#finetuningTokens.inc(tokens);
  }

  /** Somebody wanted to publish an adapter. */
  adapterUploaded(outcome: 'ok' | ErrorCode): void {
    this.#uploads.inc({ outcome });
  }

  shadowed(outcome: 'ok' | 'failed' | 'dropped'): void {
    this.#shadows.inc({ outcome });
  }

  /** `tenant`: the name of a configured one, here and below. */
  tenantRequest(tenant: string, outcome: RequestObservation['outcome'] | 'cancelled'): void {
    this.#tenantRequests.inc({ tenant, outcome });
  }

  tenantTokens(tenant: string, { imageTokens, promptTokens, completionTokens }: TokenCounts): void {
    this.#tenantTokens.inc({ tenant, kind: 'image' }, imageTokens);
    this.#tenantTokens.inc({ tenant, kind: 'prompt' }, promptTokens);
    this.#tenantTokens.inc({ tenant, kind: 'completion' }, completionTokens);
  }

  quotaRefused(tenant: string, limit: keyof Limits): void {
    this.#quotaRefusals.inc({ tenant, limit });
  }

  quotaStoreFailed(): void {
    this.#quotaStoreFailures.inc();
  }

  /** The exposition text of everything, with these gauges. */
  render(engine: EngineGauges, front: FrontGauges): Promise<string> {
    this.#running.set(engine.runningRequests);
    this.#waiting.set(engine.waitingRequests);
    this.#rows.set(engine.runningRows);
    this.#queueLength.set(front.queueLength);
    this.#kvUsage.set(engine.kvUsage);
    this.#adapterBytes.set({ tier: 'ram' }, engine.adapterBytes);
    this.#adapterCapacity.set({ tier: 'ram' }, engine.adapterCapacityBytes);
    if (front.disk) {
      this.#adapterBytes.set({ tier: 'disk' }, front.disk.bytes);
      this.#adapterCapacity.set({ tier: 'disk' }, front.disk.maxBytes);
    }
    this.#storeBytes.set(front.storeBytes);
    this.#adaptersResident.set(engine.adapterResident);
    this.#adaptersRegistered.set(front.adaptersRegistered);
    this.#adapterLeases.set(engine.adapterLeases);
    this.#visionBytes.set(engine.visionBytes);
    this.#loraRequests.reset();
    this.#loraRequests.set(
      {
        max_lora: front.maxBatch,
        running_lora_adapters: listOf(engine.runningAdapters),
        waiting_lora_adapters: listOf(engine.waitingAdapters),
      },
      Date.now() / 1000,
    );
    show(this.#byAdapter, this.#adapterTraffic.series());
    return this.#registry.metrics();
  }

  #counter(name: string, help: string, labels: readonly string[] = []): Counter {
    return new Counter(this.#describe('counter', name, help, labels));
  }

  #gauge(name: string, help: string, labels: readonly string[] = []): Gauge {
    return new Gauge(this.#describe('gauge', name, help, labels));
  }

  #histogram(name: string, help: string, buckets: readonly number[], labels: readonly string[] = []): Histogram {
    return new Histogram({ ...this.#describe('histogram', name, help, labels), buckets: [...buckets] });
  }

  #describe(kind: MetricDescription['kind'], suffix: string, help: string, labels: readonly string[]) {
    const name = `graft_${suffix}`;
    this.#described.push({ name, kind, labels, help });
    return { name, help, labelNames: [...labels], registers: [this.#registry] };
  }
}

/** Gives counters by adapter the values of these series, and no others. */
function show<Count extends string>(counters: Readonly<Record<Count, Counter>>, series: readonly Series<Count>[]): void {
  for (const [count, counter] of Object.entries<Counter>(counters)) {
    counter.reset();
    for (const { name, counts } of series) counter.inc({ adapter: name }, counts[count as Count]);
  }
}

/** Names as the readers of `lora_requests_info` take them apart; a name with a comma would be two. */
function listOf(names: readonly string[]): string {
  return names.filter((name) => !name.includes(',')).join(',');
}
