/**
 * `npm run bench:serve`: the engine process under load, as the front end drives it (an in-process client over the same IPC): requests/s, tokens/s and
 * time to first token for base rows, one adapter, and many adapters in turn or Zipf-mixed, hot and with a cache that holds only four.
 * Every mix runs in turn with base-only runs of the same length: the ratio is the result, the machine's speed is not.
 *
 *     npm run bench:serve -- [--model real|30m|135m] [--rank 8] [--requests 96] [--prompt 16] [--tokens 32] [--threads 2] [--concurrency 1,8,32]
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { AdapterRef } from '../src/adapter/adapter.js';
import { digestFolder } from '../src/adapter/digest.js';
import { writeAdapter } from '../src/adapter/write.js';
import { ALONE } from '../src/fairness/turns.js';
import { type SupervisedEngine, startEngine } from '../src/serving/client.js';
import type { EngineCounts } from '../src/serving/protocol.js';
import { randomDraft } from '../test/support/adapter.js';
import { GREEDY } from '../test/support/sampling.js';
import { Gaussian } from '../test/support/tiny.js';
import { type ModelName, prepareModel } from './model.js';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'real' },
    rank: { type: 'string', default: '8' },
    requests: { type: 'string', default: '96' },
    prompt: { type: 'string', default: '16' },
    tokens: { type: 'string', default: '32' },
    threads: { type: 'string', default: '2' },
    concurrency: { type: 'string', default: '1,8,32' },
  },
});
const ADAPTERS = 64;
/** Pairs of a base run and a mixed one. */
const ROUNDS = 5;
const requests = Number(values.requests);
const promptTokens = Number(values.prompt);
const newTokens = Number(values.tokens);

type Mix = (request: number) => AdapterRef | null;

interface Result {
  readonly requestsPerS: number;
  readonly tokensPerS: number;
  readonly firstTokenMs: readonly [p50: number, p95: number];
}

const { folder, target } = await prepareModel(values.model as ModelName);
const store = await mkdtemp(path.join(tmpdir(), 'graft-bench-adapters-'));
process.stderr.write(`writing ${ADAPTERS} adapters of rank ${values.rank} ...\n`);
const refs: AdapterRef[] = [];
let adapterBytes = 0;
for (let index = 0; index < ADAPTERS; index++) {
  const name = `adapter-${index}`;
  const at = path.join(store, name);
  await writeAdapter(
    at,
    randomDraft(target, { method: 'lora', rank: Number(values.rank), contexts: ['text'], seed: index }, 0.05),
  );
  const { digest, bytes } = await digestFolder(at);
  refs.push({ name, digest, folder: at });
  adapterBytes = Math.max(adapterBytes, bytes);
}

const random = new Gaussian(1);
/** Adapter i with a probability that falls as 1/i. */
const zipf: readonly AdapterRef[] = Array.from(
  { length: 4096 },
  () => refs[Math.min(ADAPTERS - 1, Math.floor((ADAPTERS + 1) ** random.uniform()) - 1)] as AdapterRef,
);
const inTurn =
  (count: number): Mix =>
  (request) =>
    refs[request % count] ?? null;
const base: Mix = () => null;
const mixes: readonly (readonly [string, Mix])[] = [
  ['1 adapter', inTurn(1)],
  ['8 in turn', inTurn(8)],
  ['64 in turn', inTurn(ADAPTERS)],
  ['64, Zipf', (request) => zipf[request % zipf.length] ?? null],
];

/** Keeps `concurrency` requests under way until all are done. */
async function load(engine: SupervisedEngine, mix: Mix, concurrency: number, total: number): Promise<Result> {
  const firstTokenMs: number[] = [];
  let tokens = 0;
  let next = 0;
  const startMs = performance.now();
  const worker = async (): Promise<void> => {
    while (next < total) {
      const request = next++;
      const promptIds = [1, ...Array.from({ length: promptTokens - 1 }, (_, index) => 3 + ((request * 7 + index * 13) % 200))];
      const sampling = { ...GREEDY, maxTokens: newTokens };
      const sentMs = performance.now();
      const [stream] = engine.generate(
        null,
        [{ ...ALONE, adapter: mix(request), promptIds, sampling, deadlineMs: null }],
        new AbortController().signal,
      );
      let first = true;
      for await (const event of stream ?? []) {
        if (event.type !== 'token') continue;
        if (first) firstTokenMs.push(performance.now() - sentMs);
        first = false;
        tokens++;
      }
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  const seconds = (performance.now() - startMs) / 1000;
  firstTokenMs.sort((a, b) => a - b);
  const quantile = (q: number): number => firstTokenMs[Math.floor(q * (firstTokenMs.length - 1))] ?? Number.NaN;
  return { requestsPerS: total / seconds, tokensPerS: tokens / seconds, firstTokenMs: [quantile(0.5), quantile(0.95)] };
}

/** The middle one, by a figure. */
function median<T>(values: readonly T[], of: (value: T) => number): T {
  return [...values].sort((a, b) => of(a) - of(b))[Math.floor(values.length / 2)] as T;
}

/** Base and mix in turn, so that a change of the machine's speed meets both: the ratios are medians over pairs. */
async function pairs(
  engine: SupervisedEngine,
  mix: Mix,
  concurrency: number,
  total: number,
): Promise<{ base: Result; mixed: Result; ratios: [number, number] }> {
  const rounds: { base: Result; mixed: Result }[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    rounds.push({ base: await load(engine, base, concurrency, total), mixed: await load(engine, mix, concurrency, total) });
  }
  const ratio = (of: (result: Result) => number): number => {
    const one = (pair: (typeof rounds)[number]): number => of(pair.mixed) / of(pair.base);
    return one(median(rounds, one));
  };
  return {
    base: median(
      rounds.map((round) => round.base),
      ({ tokensPerS }) => tokensPerS,
    ),
    mixed: median(
      rounds.map((round) => round.mixed),
      ({ tokensPerS }) => tokensPerS,
    ),
    ratios: [ratio(({ tokensPerS }) => tokensPerS), ratio(({ firstTokenMs }) => firstTokenMs[0])],
  };
}

function row(label: string, { requestsPerS, tokensPerS, firstTokenMs: [p50, p95] }: Result, ratios: readonly number[]): string {
  const cells = [
    requestsPerS.toFixed(1),
    tokensPerS.toFixed(0),
    p50.toFixed(1),
    p95.toFixed(1),
    ...ratios.map((ratio) => ratio.toFixed(2)),
  ];
  return `| ${label} | ${cells.join(' | ')} |`;
}

async function measure(title: string, adapterCacheBytes: number, chosen: typeof mixes): Promise<void> {
  const engine = startEngine({
    backbone: folder,
    maxBatch: 32,
    contextLength: 256,
    threads: Number(values.threads),
    adapterCacheBytes,
    visionCacheBytes: 1,
    prefillTokens: 512,
  });
  const loads = { count: 0, seconds: [] as number[] };
  engine.onCounts((counts: EngineCounts) => {
    loads.count += counts.adapterLoads;
    loads.seconds.push(...counts.adapterLoadSeconds);
  });
  await engine.whenReady;
  console.log(
    `\n${title}\n\n| concurrency, mix | requests/s | tokens/s | TTFT p50 ms | p95 ms | tokens/s ÷ base | TTFT ÷ base |\n|---|---|---|---|---|---|---|`,
  );
  for (const concurrency of values.concurrency.split(',').map(Number)) {
    const total = Math.max(concurrency, concurrency === 1 ? Math.ceil(requests / 4) : requests);
    for (const [, mix] of chosen) await load(engine, mix, concurrency, ADAPTERS);
    for (const [index, [name, mix]] of chosen.entries()) {
      const { base: before, mixed, ratios } = await pairs(engine, mix, concurrency, total);
      if (index === 0) console.log(row(`${concurrency}, base only`, before, [1, 1]));
      console.log(row(`${concurrency}, ${name}`, mixed, ratios));
    }
  }
  const sorted = loads.seconds.sort((a, b) => a - b);
  console.log(
    `\n${loads.count} adapter loads, median ${((sorted[Math.floor(sorted.length / 2)] ?? 0) * 1000).toFixed(1)} ms; engine ready after ${engine.info?.loadMs.toFixed(0)} ms`,
  );
  await engine.close(0);
}

try {
  console.log(
    `model ${values.model}, rank ${values.rank} on all linears, prompt ${promptTokens}, ${newTokens} new tokens, ${values.threads} threads, ${requests} requests a run`,
  );
  await measure('Hot: all adapters stay in memory', 1 << 30, mixes);
  await measure('Cold: the cache holds four adapters', 4.5 * adapterBytes, mixes.slice(2));
} finally {
  await rm(store, { recursive: true });
}
