/**
 * Graft's Grafana dashboard as a table of panels: what each asks Prometheus, and why somebody would look at it. The SDK turns it into Grafana's JSON.
 * Rates are over `$__rate_interval`, and everything is summed or shown by instance, so that one server and twenty look alike.
 */
import * as common from '@grafana/grafana-foundation-sdk/common';
import {
  DashboardBuilder,
  DashboardCursorSync,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
  VariableRefresh,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { DataqueryBuilder } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as TimeseriesBuilder } from '@grafana/grafana-foundation-sdk/timeseries';

interface Query {
  readonly expr: string;
  readonly legend: string;
}

interface Panel {
  readonly title: string;
  readonly description: string;
  /** Grafana's name of a unit. */
  readonly unit: string;
  readonly queries: readonly Query[];
  /** One number in place of a curve. */
  readonly isStat?: true;
  /** Curves on top of each other, where their sum means something. */
  readonly isStacked?: true;
  /** Of 24 columns. */
  readonly width?: number;
  readonly max?: number;
}

interface Row {
  readonly title: string;
  readonly panels: readonly Panel[];
}

const SOURCE = { type: 'prometheus', uid: '$datasource' };
/** Which servers. */
const WHERE = 'job=~"$job", instance=~"$instance"';
const TOP = 10;

const gauge = (name: string): string => `sum by (instance) (graft_${name}{${WHERE}})`;
const rate = (name: string, by: string, where = ''): string =>
  `sum by (${by}) (rate(graft_${name}{${WHERE}${where && `, ${where}`}}[$__rate_interval]))`;
const quantile = (share: number, name: string): string =>
  `histogram_quantile(${share}, sum by (le) (rate(graft_${name}_bucket{${WHERE}}[$__rate_interval])))`;
const quantiles = (name: string): Query[] => [
  { expr: quantile(0.5, name), legend: 'p50' },
  { expr: quantile(0.95, name), legend: 'p95' },
  { expr: quantile(0.99, name), legend: 'p99' },
];
const mean = (name: string): string =>
  `sum(rate(graft_${name}_sum{${WHERE}}[$__rate_interval])) / sum(rate(graft_${name}_count{${WHERE}}[$__rate_interval]))`;
const share = (part: string, rest: string): string => `${part} / (${part} + ${rest})`;
const busiest = (expr: string): string => `topk(${TOP}, ${expr})`;

const ROWS: readonly Row[] = [
  {
    title: 'Now',
    panels: [
      {
        title: 'Requests/s',
        description: 'Requests that generated, and ended well.',
        unit: 'reqps',
        isStat: true,
        queries: [{ expr: `sum(rate(graft_e2e_request_latency_seconds_count{${WHERE}}[$__rate_interval]))`, legend: '' }],
      },
      {
        title: 'Tokens/s',
        description: 'Generated tokens.',
        unit: 'none',
        isStat: true,
        queries: [{ expr: `sum(rate(graft_generation_tokens_total{${WHERE}}[$__rate_interval]))`, legend: '' }],
      },
      {
        title: 'First token, p95',
        description: 'From a request to its first token.',
        unit: 's',
        isStat: true,
        queries: [{ expr: quantile(0.95, 'time_to_first_token_seconds'), legend: '' }],
      },
      {
        title: 'Waiting',
        description: 'Requests in the engine that wait for a row, an adapter or an image.',
        unit: 'none',
        isStat: true,
        queries: [{ expr: `sum(graft_num_requests_waiting{${WHERE}})`, legend: '' }],
      },
      {
        title: 'Refused',
        description: 'Share of requests that got a 429: the queue was full, or a tenant went past a limit.',
        unit: 'percentunit',
        isStat: true,
        queries: [
          {
            expr: `sum(rate(graft_requests_total{${WHERE}, outcome=~"queue_full|rate_limit_exceeded"}[$__rate_interval])) / sum(rate(graft_requests_total{${WHERE}}[$__rate_interval]))`,
            legend: '',
          },
        ],
      },
      {
        title: 'Engine restarts',
        description:
          'Times in the last hour that the engine process ended and was started again. Each costs the requests that were inside.',
        unit: 'none',
        isStat: true,
        queries: [{ expr: `sum(increase(graft_engine_restarts_total{${WHERE}}[1h]))`, legend: '' }],
      },
    ],
  },
  {
    title: 'Requests',
    panels: [
      {
        title: 'Requests by outcome',
        description: 'ok, or the code of an error.',
        unit: 'reqps',
        isStacked: true,
        queries: [{ expr: rate('requests_total', 'outcome', 'route=~"/v1/.*"'), legend: '{{outcome}}' }],
      },
      {
        title: 'Whole requests',
        description: 'From a request to the end of its answer; only those that ended well.',
        unit: 's',
        queries: quantiles('e2e_request_latency_seconds'),
      },
      {
        title: 'First token',
        description: 'What somebody waits who watches a stream.',
        unit: 's',
        queries: quantiles('time_to_first_token_seconds'),
      },
      {
        title: 'Between tokens',
        description:
          'How smoothly a stream runs. Rises with rows, with distinct adapters in the batch, and while long prompts are taken in.',
        unit: 's',
        queries: quantiles('inter_token_latency_seconds'),
      },
      {
        title: 'Where the time goes',
        description: 'Mean of each part of a request, on top of each other; vision and adapter only where they were waited for.',
        unit: 's',
        isStacked: true,
        queries: [
          { expr: mean('request_adapter_wait_seconds'), legend: 'adapter' },
          { expr: mean('vision_encode_seconds'), legend: 'vision' },
          { expr: mean('request_queue_time_seconds'), legend: 'queue' },
          { expr: mean('request_prefill_time_seconds'), legend: 'prefill' },
          { expr: mean('request_decode_time_seconds'), legend: 'decode' },
        ],
      },
      {
        title: 'Tokens',
        description: 'Tokens a second that were generated, and that prompts and images brought.',
        unit: 'none',
        queries: [
          { expr: `sum(rate(graft_generation_tokens_total{${WHERE}}[$__rate_interval]))`, legend: 'generated' },
          { expr: `sum(rate(graft_prompt_tokens_total{${WHERE}}[$__rate_interval]))`, legend: 'prompt and image' },
        ],
      },
    ],
  },
  {
    title: 'Batch',
    panels: [
      {
        title: 'Requests in the engine',
        description: 'Waiting that does not go away: more load than this machine takes.',
        unit: 'none',
        queries: [
          { expr: gauge('num_requests_running'), legend: 'running, {{instance}}' },
          { expr: gauge('num_requests_waiting'), legend: 'waiting, {{instance}}' },
          { expr: gauge('queue_length'), legend: 'queue, {{instance}}' },
        ],
      },
      {
        title: 'Rows',
        description: 'Sequences in the batch; maxBatch is the most.',
        unit: 'none',
        queries: [
          { expr: gauge('num_rows_running'), legend: '{{instance}}' },
          { expr: mean('batch_size'), legend: 'mean of a step' },
        ],
      },
      {
        title: 'Step',
        description: 'One step of the batch.',
        unit: 's',
        queries: quantiles('step_seconds'),
      },
      {
        title: 'KV cache',
        description: 'Used part of the key-value cache.',
        unit: 'percentunit',
        max: 1,
        queries: [{ expr: `graft_kv_usage_ratio{${WHERE}}`, legend: '{{instance}}' }],
      },
    ],
  },
  {
    title: 'Adapters',
    panels: [
      {
        title: 'Busiest adapters, requests/s',
        description: 'The 50 busiest have series of their own, all others are "other".',
        unit: 'reqps',
        queries: [{ expr: busiest(rate('adapter_requests_total', 'adapter')), legend: '{{adapter}}' }],
      },
      {
        title: 'Busiest adapters, tokens/s',
        description: 'Generated tokens.',
        unit: 'none',
        queries: [{ expr: busiest(rate('adapter_generation_tokens_total', 'adapter')), legend: '{{adapter}}' }],
      },
      {
        title: 'Slowest adapters, first token',
        description: 'Mean time to the first token by adapter.',
        unit: 's',
        queries: [
          {
            expr: busiest(
              `${rate('adapter_first_token_seconds_total', 'adapter')} / ${rate('adapter_first_tokens_total', 'adapter')}`,
            ),
            legend: '{{adapter}}',
          },
        ],
      },
      {
        title: 'Cold requests by adapter',
        description: 'Requests that had to wait for their adapter to come into memory.',
        unit: 'reqps',
        queries: [{ expr: busiest(rate('adapter_request_misses_total', 'adapter')), legend: '{{adapter}}' }],
      },
      {
        title: 'Adapter cache',
        description:
          'Memory (ram) and room on the disk. Evictions with many misses: adapterCacheBytes is too small for what is asked for.',
        unit: 'bytes',
        queries: [
          { expr: `sum by (instance, tier) (graft_adapter_cache_bytes{${WHERE}})`, legend: 'used, {{tier}}, {{instance}}' },
          {
            expr: `sum by (instance, tier) (graft_adapter_cache_capacity_bytes{${WHERE}})`,
            legend: 'most, {{tier}}, {{instance}}',
          },
        ],
      },
      {
        title: 'Cache hits',
        description: 'Share of what was asked for that was there: adapters in memory, images already encoded.',
        unit: 'percentunit',
        max: 1,
        queries: [
          { expr: share(rate('adapter_cache_hits_total', 'job'), rate('adapter_cache_misses_total', 'job')), legend: 'adapters' },
          { expr: share(rate('vision_cache_hits_total', 'job'), rate('vision_cache_misses_total', 'job')), legend: 'images' },
        ],
      },
      {
        title: 'Adapters come and go',
        description: 'Loads from disk, evictions from memory, and loads that failed.',
        unit: 'none',
        queries: [
          { expr: rate('adapter_loads_total', 'job'), legend: 'loaded' },
          { expr: rate('adapter_evictions_total', 'job'), legend: 'evicted' },
          { expr: rate('adapter_load_failures_total', 'job'), legend: 'failed' },
        ],
      },
      {
        title: 'Sources',
        description: 'Bytes from buckets and the hub, and looks at them that failed.',
        unit: 'none',
        queries: [
          { expr: rate('adapter_fetch_bytes_total', 'source'), legend: 'bytes/s, {{source}}' },
          { expr: rate('adapter_fetch_failures_total', 'source, reason'), legend: 'failures/s, {{source}}, {{reason}}' },
        ],
      },
    ],
  },
  {
    title: 'Tenants',
    panels: [
      {
        title: 'Busiest tenants, requests/s',
        description: 'Whatever became of them.',
        unit: 'reqps',
        queries: [{ expr: busiest(rate('tenant_requests_total', 'tenant')), legend: '{{tenant}}' }],
      },
      {
        title: 'Busiest tenants, tokens/s',
        description: 'Generated tokens.',
        unit: 'none',
        queries: [{ expr: busiest(rate('tenant_tokens_total', 'tenant', 'kind="completion"')), legend: '{{tenant}}' }],
      },
      {
        title: 'Refused by their limits',
        description: 'Requests that went past a limit of their tenant: 429s, and images or max_tokens that are too large.',
        unit: 'reqps',
        queries: [{ expr: busiest(rate('quota_refusals_total', 'tenant, limit')), legend: '{{tenant}}, {{limit}}' }],
      },
    ],
  },
  {
    title: 'Process',
    panels: [
      {
        title: 'Memory of the front end',
        description: 'The process that speaks HTTP; the engine and the image processes are not in it.',
        unit: 'bytes',
        queries: [{ expr: `process_resident_memory_bytes{${WHERE}}`, legend: '{{instance}}' }],
      },
      {
        title: 'Event loop',
        description: 'How late the front end comes to its turns, p99. Streams stutter where it is.',
        unit: 's',
        queries: [{ expr: `nodejs_eventloop_lag_p99_seconds{${WHERE}}`, legend: '{{instance}}' }],
      },
      {
        title: 'Restarts',
        description: 'Processes that ended and were started again.',
        unit: 'none',
        queries: [
          {
            expr: `sum by (instance) (increase(graft_engine_restarts_total{${WHERE}}[$__rate_interval]))`,
            legend: 'engine, {{instance}}',
          },
          {
            expr: `sum by (instance) (increase(graft_image_process_restarts_total{${WHERE}}[$__rate_interval]))`,
            legend: 'images, {{instance}}',
          },
        ],
      },
    ],
  },
];

/** Every query of the dashboard. */
export function queriesOf(): string[] {
  return ROWS.flatMap(({ panels }) => panels).flatMap(({ queries }) => queries.map(({ expr }) => expr));
}

/** The dashboard as Grafana imports it. */
export function dashboard(): object {
  const builder = new DashboardBuilder('Graft')
    .uid('graft')
    .description('Captions from one backbone and many adapters: load, latency, the batch, adapters, tenants.')
    .tags(['graft'])
    .refresh('30s')
    .time({ from: 'now-3h', to: 'now' })
    .timezone('browser')
    .tooltip(DashboardCursorSync.Crosshair)
    .withVariable(new DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'))
    .withVariable(listVariable('job', 'Job', 'label_values(graft_num_requests_running, job)'))
    .withVariable(listVariable('instance', 'Server', 'label_values(graft_num_requests_running{job=~"$job"}, instance)'));
  for (const { title, panels } of ROWS) {
    builder.withRow(new RowBuilder(title));
    for (const panel of panels) builder.withPanel(panel.isStat ? stat(panel) : curves(panel));
  }
  return builder.build();
}

function listVariable(name: string, label: string, query: string): QueryVariableBuilder {
  return new QueryVariableBuilder(name)
    .label(label)
    .datasource(SOURCE)
    .query(query)
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .multi(true)
    .includeAll(true)
    .allValue('.+');
}

function stat({ title, description, unit, queries }: Panel): StatBuilder {
  const panel = new StatBuilder().title(title).description(description).unit(unit).datasource(SOURCE).height(4).span(4);
  for (const query of queriesFor(queries)) panel.withTarget(query);
  return panel;
}

function curves({ title, description, unit, queries, isStacked, width = 12, max }: Panel): TimeseriesBuilder {
  const panel = new TimeseriesBuilder()
    .title(title)
    .description(description)
    .unit(unit)
    .datasource(SOURCE)
    .height(8)
    .span(width)
    .min(0)
    .lineWidth(1)
    .fillOpacity(isStacked ? 30 : 8)
    .showPoints(common.VisibilityMode.Never);
  if (max !== undefined) panel.max(max);
  if (isStacked) panel.stacking(new common.StackingConfigBuilder().mode(common.StackingMode.Normal));
  for (const query of queriesFor(queries)) panel.withTarget(query);
  return panel;
}

function queriesFor(queries: readonly Query[]): DataqueryBuilder[] {
  return queries.map(({ expr, legend }, index) =>
    new DataqueryBuilder()
      .refId(String.fromCharCode('A'.charCodeAt(0) + index))
      .expr(expr)
      .legendFormat(legend),
  );
}
