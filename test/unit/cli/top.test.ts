import { stripVTControlCharacters } from 'node:util';
import { describe, expect, test } from 'vitest';
import { Exposition, quantileBetween } from '../../../src/cli/top/exposition.js';
import { figuresOf, type ListedAdapter, type Reading } from '../../../src/cli/top/figures.js';
import { type Canvas, frameOf } from '../../../src/cli/top/frame.js';
import { Metrics } from '../../../src/metrics.js';
import type { EngineCounts, EngineGauges } from '../../../src/serving/protocol.js';

const GAUGES: EngineGauges = {
  runningRows: 4,
  runningRequests: 2,
  waitingRequests: 1,
  runningAdapters: ['english'],
  waitingAdapters: [],
  adapterBytes: 4_200_000,
  adapterCapacityBytes: 1_000_000_000,
  adapterResident: 1,
  adapterLeases: 2,
  visionBytes: 0,
  visionEntries: 0,
  kvUsage: 0.25,
  resident: [],
};
const NOTHING: EngineCounts = {
  adapterHits: 0,
  adapterMisses: 0,
  adapterLoads: 0,
  adapterLoadFailures: 0,
  adapterEvictions: 0,
  visionHits: 0,
  visionMisses: 0,
  promptTokens: 0,
  generatedTokens: 0,
  steps: 0,
  adapterLoadSeconds: [],
  batchSizes: [],
  stepSeconds: [],
};
const ADAPTERS: ListedAdapter[] = [
  { name: 'english', resident: true, resident_bytes: 2_100_000, fault: null },
  { name: 'french', resident: false, resident_bytes: 0, fault: null },
  { name: 'broken', resident: false, resident_bytes: 0, fault: 'Expected a projector' },
];
const PLAIN: Canvas = { columns: 100, rows: 40, colours: false, unicode: false };
const HEADING = { url: 'http://127.0.0.1:8080', intervalSeconds: 2, time: '12:00:00', trouble: null };

async function readingOf(metrics: Metrics, atMs: number): Promise<Reading> {
  const text = await metrics.render(GAUGES, { queueLength: 3, adaptersRegistered: 3, maxBatch: 16, disk: null, storeBytes: 0 });
  return { atMs, exposition: new Exposition(text), adapters: ADAPTERS, backbone: 'scenes', unready: null };
}

/** Two readings, two seconds apart, of a server that did something in between. */
async function busyReadings(): Promise<[Reading, Reading]> {
  const metrics = new Metrics();
  metrics.traffic('french', { requests: 100, generatedTokens: 900 });
  for (let i = 0; i < 9; i++) metrics.tenantRequest('globex', 'ok');
  metrics.tenantTokens('acme', { imageTokens: 64, promptTokens: 1, completionTokens: 10 });
  metrics.request({ route: '/v1/captions', outcome: 'queue_full', generating: true, seconds: 0.1 });
  metrics.firstToken(30);
  const before = await readingOf(metrics, 1000);
  metrics.traffic('english', { requests: 6 });
  metrics.traffic('english', { firstTokens: 4, firstTokenSeconds: 0.8 });
  metrics.traffic('english', { generatedTokens: 50, misses: 1 });
  for (const outcome of ['ok', 'ok', 'queue_full'] as const) metrics.tenantRequest('acme', outcome);
  metrics.tenantTokens('acme', { imageTokens: 64, promptTokens: 1, completionTokens: 50 });
  for (let i = 0; i < 4; i++) metrics.request({ route: '/v1/captions', outcome: 'ok', generating: true, seconds: 0.3 });
  for (const outcome of ['queue_full', 'rate_limit_exceeded', 'internal', 'cancelled'] as const)
    metrics.request({ route: '/v1/captions', outcome, generating: true, seconds: 0.3 });
  for (let i = 0; i < 100; i++) metrics.firstToken(0.2);
  metrics.nextToken(0.02);
  metrics.counts({ ...NOTHING, adapterHits: 9, adapterMisses: 1, adapterLoads: 1, promptTokens: 400, generatedTokens: 50 });
  return [before, await readingOf(metrics, 3000)];
}

describe('Exposition', () => {
  test('reads names, labels with all their escapes, and numbers', () => {
    const text = [
      '# HELP a b',
      'a{x="1",y="a\\"b\\\\n\\nc"} 2.5',
      'a{x="2"} +Inf',
      'b_total 7 1700000000000',
      'not a line',
      '',
    ].join('\n');
    const exposition = new Exposition(text);
    expect(exposition.series('a')).toEqual([
      { labels: { x: '1', y: 'a"b\\n\nc' }, value: 2.5 },
      { labels: { x: '2' }, value: Number.POSITIVE_INFINITY },
    ]);
    expect(exposition.sum('b_total')).toBe(7);
    expect(exposition.sum('a', { x: '1' })).toBe(2.5);
    expect(exposition.sum('a', { x: '3' })).toBeNull();
  });

  test('reads back every line that our own metrics write', async () => {
    const [, { exposition }] = await busyReadings();
    expect(exposition.sum('graft_adapter_requests_total', { adapter: 'english' })).toBe(6);
    expect(exposition.histogram('graft_time_to_first_token_seconds').at(-1)).toEqual({
      le: Number.POSITIVE_INFINITY,
      count: 101,
    });
  });
});

test('quantileBetween is linear within a bucket, as histogram_quantile is, and sees only what is new', () => {
  const buckets = (...counts: number[]) =>
    [1, 2, 4, Number.POSITIVE_INFINITY].map((le, index) => ({ le, count: counts[index] ?? 0 }));
  expect(quantileBetween(buckets(0, 0, 0, 0), buckets(10, 20, 20, 20), 0.5)).toBe(1);
  expect(quantileBetween(buckets(0, 0, 0, 0), buckets(0, 10, 10, 10), 0.5)).toBe(1.5);
  expect(quantileBetween(buckets(50, 50, 50, 50), buckets(50, 50, 60, 60), 0.95)).toBeCloseTo(3.9, 10);
  expect(quantileBetween(buckets(0, 0, 0, 0), buckets(0, 0, 0, 5), 0.5)).toBe(4);
  expect(quantileBetween(buckets(1, 1, 1, 1), buckets(1, 1, 1, 1), 0.5)).toBeNull();
  expect(quantileBetween([], [], 0.5)).toBeNull();
});

describe('figuresOf', () => {
  test('has rates and quantiles of what happened between two readings only', async () => {
    const figures = figuresOf(...(await busyReadings()));
    expect(figures).toMatchObject({
      backbone: 'scenes',
      adapters: { all: 3, resident: 1, broken: 1 },
      requests: { running: 2, waiting: 1, finishedPerSecond: 2, refused: 2, failed: 1 },
      rows: { running: 4, max: 16 },
      queue: 3,
      tokens: { generatedPerSecond: 25, promptPerSecond: 200 },
      kvRatio: 0.25,
      cache: { bytes: 4_200_000, capacityBytes: 1_000_000_000, hitRatio: 0.9, loads: 1, evictions: 0 },
    });
    // All of the hundred are in the bucket from 0.1 to 0.25; the one of 30 s was before.
    expect(figures.firstToken.p50).toBeCloseTo(0.175, 10);
    expect(figures.firstToken.p95).toBeCloseTo(0.2425, 10);
  });

  test('ranks adapters and tenants by what they do now, not by what they did', async () => {
    const { busiestAdapters, busiestTenants } = figuresOf(...(await busyReadings()));
    expect(busiestAdapters).toEqual([
      {
        name: 'english',
        requestsPerSecond: 3,
        tokensPerSecond: 25,
        requests: 6,
        firstTokenSeconds: 0.2,
        misses: 1,
        bytes: 2_100_000,
      },
      expect.objectContaining({ name: 'french', requestsPerSecond: 0, tokensPerSecond: 0, requests: 100, bytes: null }),
    ]);
    expect(busiestTenants).toEqual([
      { name: 'acme', requestsPerSecond: 1.5, tokensPerSecond: 25, requests: 3, refused: 1 },
      { name: 'globex', requestsPerSecond: 0, tokensPerSecond: 0, requests: 9, refused: 0 },
    ]);
  });

  test('has no rates at first, nor after the server was started again', async () => {
    const [before, after] = await busyReadings();
    const unknown = { finishedPerSecond: null, refused: null, failed: null };
    expect(figuresOf(null, after).requests).toMatchObject(unknown);
    const another = new Exposition('process_start_time_seconds 1\ngraft_requests_total{outcome="ok"} 999\n');
    expect(figuresOf({ ...before, exposition: another }, after).requests).toMatchObject(unknown);
  });
});

describe('frameOf', () => {
  test('is a picture of a server', async () => {
    const figures = { ...figuresOf(...(await busyReadings())), upSeconds: 3725 };
    expect(`\n${frameOf(figures, HEADING, PLAIN).join('\n')}\n`).toMatchInlineSnapshot(`
      "
      graft top   http://127.0.0.1:8080   scenes ready   up 1 h 2 min                  12:00:00  every 2 s

      requests        2 running   1 waiting   3 in the queue   2.0/s finished   2 refused (429)   1 failed
      tokens          25.0/s generated   200/s prompt
      first token     p50 175 ms   p95 243 ms
      between tokens  p50 18 ms   p95 24 ms

      rows            ######..................  4 of 16
      KV cache        ######..................  25%
      adapters        #.......................  4.2 MB of 1.0 GB   1 of 3 in memory   1 broken
                      90% hits   1 loaded   0 evicted
      restarts        engine 0   images 0

      ADAPTER                               requests/s     tokens/s  first token         cold       memory
      english                                      3.0         25.0       200 ms            1       2.1 MB
      french                                         0            0            -            0            -

      TENANT                                requests/s     tokens/s      refused
      acme                                         1.5         25.0            1
      globex                                         0            0            0
      "
    `);
  });

  test('fits any terminal: no line is longer than it is wide, none is one too many', async () => {
    const figures = figuresOf(...(await busyReadings()));
    for (const columns of [20, 40, 60, 79, 80, 132, 250]) {
      for (const rows of [1, 5, 24, 60]) {
        const lines = frameOf(figures, HEADING, { ...PLAIN, columns, rows });
        expect(lines.length).toBeLessThanOrEqual(rows);
        for (const line of lines) expect(line.length, line).toBeLessThanOrEqual(columns);
      }
    }
  });

  test('says that the server is away, over the figures that it knew', async () => {
    const figures = figuresOf(...(await busyReadings()));
    const lines = frameOf(figures, { ...HEADING, trouble: 'Expected a server; trying again' }, PLAIN);
    expect(lines[0]).toContain('away');
    expect(lines[1]).toBe('Expected a server; trying again');
    expect(lines.join('\n')).toContain('english');
    expect(frameOf(null, { ...HEADING, trouble: 'gone' }, PLAIN)).toEqual([expect.stringContaining('away'), 'gone', '']);
  });

  test('has colours only where they are wanted, and lets no name command the terminal', async () => {
    const figures = figuresOf(...(await busyReadings()));
    const evil = { ...figures, backbone: 'a\u001b[2Jb\u0007' };
    expect(frameOf(evil, HEADING, PLAIN).join('')).not.toMatch(/\p{Cc}/u);
    const coloured = frameOf(evil, HEADING, { ...PLAIN, colours: true }).join('');
    expect(stripVTControlCharacters(coloured)).not.toMatch(/\p{Cc}/u);
    expect(coloured).toContain('\u001b[32m');
  });
});
