import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { Metrics } from '../../src/metrics.js';
import type { EngineCounts, EngineGauges } from '../../src/serving/protocol.js';

/** Of Debian's package prometheus. */
const PROMTOOL = 'promtool';

const GAUGES: EngineGauges = {
  runningRows: 3,
  runningRequests: 2,
  waitingRequests: 4,
  runningAdapters: ['a', 'b'],
  waitingAdapters: ['b', 'c,d'],
  adapterBytes: 500,
  adapterCapacityBytes: 1000,
  adapterResident: 5,
  adapterLeases: 6,
  visionBytes: 70,
  visionEntries: 1,
  kvUsage: 0.25,
  resident: [],
};

const COUNTS: EngineCounts = {
  adapterHits: 1,
  adapterMisses: 2,
  adapterLoads: 3,
  adapterLoadFailures: 4,
  adapterEvictions: 5,
  visionHits: 6,
  visionMisses: 7,
  promptTokens: 80,
  generatedTokens: 9,
  steps: 2,
  adapterLoadSeconds: [0.5],
  batchSizes: [4, 6],
  stepSeconds: [0.01, 0.02],
};

const render = (metrics: Metrics) =>
  metrics.render(GAUGES, {
    queueLength: 11,
    adaptersRegistered: 12,
    maxBatch: 32,
    disk: { bytes: 300, maxBytes: 900 },
    storeBytes: 1300,
  });

function filled(): Metrics {
  const metrics = new Metrics();
  metrics.request({ route: '/v1/captions', outcome: 'ok', generating: true, seconds: 0.2 });
  metrics.request({ route: '/v1/captions', outcome: 'queue_full', generating: true, seconds: 0.001 });
  metrics.request({ route: '/health/live', outcome: 'ok', generating: false, seconds: 0.001 });
  metrics.counts(COUNTS);
  metrics.finished('stop');
  metrics.firstToken(0.05);
  metrics.nextToken(0.002);
  metrics.engineRestarted();
  metrics.imageProcessRestarted();
  metrics.tenantsReloaded('ok');
  metrics.tenantsReloaded('failed');
  metrics.adapterFetched('s3', 0.3, 4000);
  metrics.adapterFetchFailed('hub', 'refused');
  metrics.adapterAsked(true);
  metrics.adapterAsked(false);
  metrics.adapterEvictedFromDisk();
  metrics.finetuningJobs({ validating_files: 0, queued: 2, running: 1, succeeded: 5, failed: 0, cancelled: 0 });
  metrics.finetuningStep();
  metrics.finetuningEnded('succeeded', 42, 700);
  metrics.traffic('a', { requests: 1 });
  metrics.traffic('a', { firstTokens: 1, firstTokenSeconds: 0.25 });
  metrics.traffic('b', { generatedTokens: 7, misses: 1 });
  metrics.tenantRequest('acme', 'rate_limit_exceeded');
  metrics.tenantTokens('acme', { imageTokens: 64, promptTokens: 2, completionTokens: 9 });
  metrics.quotaRefused('acme', 'tokensPerMinute');
  metrics.quotaStoreFailed();
  return metrics;
}

/** Types by metric name. */
function typesOf(text: string): Map<string, string> {
  return new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name ?? '', type ?? '']));
}

describe('Metrics', () => {
  test('adds up what the engine counts, over its restarts', async () => {
    const metrics = filled();
    metrics.counts(COUNTS);
    const lines = (await render(metrics)).split('\n');
    const expected = [
      'graft_adapter_cache_hits_total 2',
      'graft_adapter_cache_misses_total 4',
      'graft_adapter_loads_total 6',
      'graft_adapter_load_failures_total 8',
      'graft_adapter_evictions_total 10',
      'graft_vision_cache_hits_total 12',
      'graft_vision_cache_misses_total 14',
      'graft_prompt_tokens_total 160',
      'graft_generation_tokens_total 18',
      'graft_batch_size_sum 20',
      'graft_batch_size_count 4',
      'graft_iteration_tokens_sum 180',
      'graft_adapter_load_seconds_sum 1',
      'graft_engine_restarts_total 1',
      'graft_image_process_restarts_total 1',
      'graft_tenants_reloads_total{outcome="failed"} 1',
      'graft_adapter_fetch_seconds_count{source="s3"} 1',
      'graft_adapter_fetch_bytes_total{source="s3"} 4000',
      'graft_adapter_fetch_failures_total{source="hub",reason="refused"} 1',
      'graft_adapter_disk_hits_total 1',
      'graft_adapter_disk_misses_total 1',
      'graft_adapter_disk_evictions_total 1',
      'graft_finetuning_steps_total 1',
      'graft_finetuning_tokens_total 700',
      'graft_finetuning_job_seconds_sum{state="succeeded"} 42',
      'graft_tenant_requests_total{tenant="acme",outcome="rate_limit_exceeded"} 1',
      'graft_tenant_tokens_total{tenant="acme",kind="image"} 64',
      'graft_tenant_tokens_total{tenant="acme",kind="prompt"} 2',
      'graft_tenant_tokens_total{tenant="acme",kind="completion"} 9',
      'graft_quota_refusals_total{tenant="acme",limit="tokensPerMinute"} 1',
      'graft_quota_store_failures_total 1',
    ];
    expect(lines).toEqual(expect.arrayContaining(expected));
  });

  test('shows the newest gauges, and times of successful generation only', async () => {
    const lines = (await render(filled())).split('\n');
    const expected = [
      'graft_num_requests_running 2',
      'graft_num_requests_waiting 4',
      'graft_queue_length 11',
      'graft_kv_usage_ratio 0.25',
      'graft_adapter_cache_bytes{tier="ram"} 500',
      'graft_adapter_cache_capacity_bytes{tier="ram"} 1000',
      'graft_adapter_cache_bytes{tier="disk"} 300',
      'graft_adapter_cache_capacity_bytes{tier="disk"} 900',
      'graft_adapter_store_bytes 1300',
      'graft_adapters_resident 5',
      'graft_adapters_registered 12',
      'graft_adapter_leases 6',
      'graft_finetuning_jobs{state="queued"} 2',
      'graft_requests_total{route="/v1/captions",outcome="queue_full"} 1',
      'graft_e2e_request_latency_seconds_count 1',
      'graft_time_to_first_token_seconds_count 1',
      'graft_inter_token_latency_seconds_count 1',
      'graft_request_success_total{finished_reason="stop"} 1',
    ];
    expect(lines).toEqual(expect.arrayContaining(expected));
  });

  test('follows Prometheus’ naming: a prefix, base units, _total on counters and on nothing else', async () => {
    const text = await render(filled());
    const types = typesOf(text);
    expect([...types.keys()].filter((name) => name.startsWith('graft_')).length).toBeGreaterThan(35);
    for (const [name, type] of types) {
      expect(name).toMatch(/^(graft|process|nodejs)_[a-z0-9_]+$/);
      expect(name.endsWith('_total'), name).toBe(type === 'counter');
      expect(name).not.toMatch(/(_ms|milliseconds|_mb|percent)/);
      expect(text).toMatch(new RegExp(`^# HELP ${name} \\S`, 'm'));
    }
  });

  test('counts by adapter', async () => {
    const text = await render(filled());
    const expected = [
      'graft_adapter_requests_total{adapter="a"} 1',
      'graft_adapter_requests_total{adapter="b"} 0',
      'graft_adapter_first_tokens_total{adapter="a"} 1',
      'graft_adapter_first_token_seconds_total{adapter="a"} 0.25',
      'graft_adapter_generation_tokens_total{adapter="b"} 7',
      'graft_adapter_request_misses_total{adapter="b"} 1',
    ];
    expect(text.split('\n')).toEqual(expect.arrayContaining(expected));
  });

  test('thousands of adapters are no thousands of series', async () => {
    const metrics = new Metrics();
    for (let i = 0; i < 5000; i++) metrics.traffic(`adapter-${i}`, { requests: 1 });
    const text = await render(metrics);
    expect(text.match(/^graft_adapter_requests_total\{/gm)).toHaveLength(51);
    expect(text).toContain('graft_adapter_requests_total{adapter="other"} 4950');
  });

  test('names the adapters of running and waiting requests in one series, now and again', async () => {
    const metrics = new Metrics();
    await render(metrics);
    const running = { ...GAUGES, runningAdapters: ['z'], waitingAdapters: [] };
    const text = await metrics.render(running, { queueLength: 0, adaptersRegistered: 0, maxBatch: 8, disk: null, storeBytes: 0 });
    const series = text.split('\n').filter((line) => line.startsWith('graft_lora_requests_info{'));
    expect(series).toEqual([
      expect.stringMatching(/^\S+\{max_lora="8",running_lora_adapters="z",waiting_lora_adapters=""\} \d{10}(\.\d+)?$/),
    ]);
    expect(await render(metrics)).toContain(
      'graft_lora_requests_info{max_lora="32",running_lora_adapters="a,b",waiting_lora_adapters="b"}',
    );
  });

  test('describes every metric of ours that it shows', async () => {
    const metrics = new Metrics();
    const shown = [...typesOf(await render(metrics))].filter(([name]) => name.startsWith('graft_'));
    expect(new Map(metrics.descriptions.map(({ name, kind }) => [name, kind]))).toEqual(new Map(shown));
  });

  test('two servers in one process do not share numbers', async () => {
    filled();
    expect(await render(new Metrics())).toContain('graft_engine_restarts_total 0');
  });

  const promtool = spawnSync(PROMTOOL, ['--version']).status === 0;
  test.runIf(promtool)('passes promtool’s own check (skipped where promtool is not installed)', async () => {
    const { status, stdout, stderr } = spawnSync(PROMTOOL, ['check', 'metrics'], {
      input: await render(filled()),
      encoding: 'utf8',
    });
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '', stderr: '' });
  });
});
