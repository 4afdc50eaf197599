/**
 * `npm run bench:precision`: what the precision of the language model's weights costs and saves. First how far weights in blocks are from a trained
 * model's own, by block and zero points, which is the figure behind src/engine/weights.ts. Then a llama of 135 million parameters, made by
 * transformers, in the engine process as it is built: time to ready (the first time, when the weights are made, and after), resident memory and its
 * peak, and tokens/s of one request and of eight, all engines in turn. Needs a build, Linux, and a Python with torch and transformers.
 *
 *     npm run bench:precision -- --python PYTHON [--threads 2] [--tokens 64] [--rounds 5]
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { copyFile, mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ALONE } from '../src/fairness/turns.js';
import type { SupervisedEngine } from '../src/serving/client.js';
import { Checkpoint } from '../src/tensor/checkpoint.js';
import { toFloat32 } from '../src/tensor/convert.js';
import { blockSizes, emptyBlocks, quantize, type Scheme } from '../src/tensor/quantize.js';
import { elements } from '../src/tensor/tensor.js';
import { dequantize } from '../test/support/blocks.js';
import { GREEDY } from '../test/support/sampling.js';
import { shared } from '../test/support/shared.js';
import { checkBuild } from './server.js';

const { values } = parseArgs({
  options: {
    python: { type: 'string', default: 'python3' },
    threads: { type: 'string', default: '2' },
    tokens: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '5' },
  },
});
const CHECKPOINTS = ['float32', 'bfloat16'] as const;
const CASES = [
  ['float32', 'float32'],
  ['bfloat16', 'float32'],
  ['bfloat16', 'int8'],
  ['bfloat16', 'int4'],
] as const;
const ROWS = [1, 8];

// Of the build: what a process holds that compiles TypeScript is not what it holds when it serves.
const { startEngine } = (await import(
  new URL('../dist/serving/client.js', import.meta.url).href
)) as typeof import('../src/serving/client.js');

/** Root mean square error of the matrices of a trained model, in hundredths of their own. */
async function roundingErrors(): Promise<void> {
  const checkpoint = await Checkpoint.open(shared('tinystories-656k'));
  console.log('| bits | block | zero points | bits a weight | error, % |\n|---|---|---|---|---|');
  for (const bits of [8, 4] as const) {
    for (const block of [32, 64, 128]) {
      for (const zeroPoints of [false, true]) {
        const scheme: Scheme = { bits, block, zeroPoints };
        let [error, size, stored, count] = [0, 0, 0, 0];
        for (const name of checkpoint.names()) {
          const tensor = await checkpoint.read(name);
          const [rows = 0, columns] = tensor.shape;
          if (columns === undefined) continue;
          const own = toFloat32(tensor);
          const blocks = emptyBlocks(rows, columns, scheme);
          quantize(own, rows, columns, scheme, blocks);
          dequantize(blocks, rows, columns, scheme).forEach((value, at) => {
            error += (value - (own[at] as number)) ** 2;
            size += (own[at] as number) ** 2;
          });
          const sizes = blockSizes(rows, columns, scheme);
          stored += elements(sizes.data) + 4 * elements(sizes.scales) + (sizes.zeroPoints ? elements(sizes.zeroPoints) : 0);
          count += rows * columns;
        }
        const cells = [bits, block, zeroPoints ? 'yes' : 'no', ((8 * stored) / count).toFixed(2)];
        console.log(`| ${cells.join(' | ')} | ${(100 * Math.sqrt(error / size)).toFixed(2)} |`);
      }
    }
  }
  await checkpoint.close();
}

/** A folder with the checkpoint in a dtype, made once in the temporary folder. */
async function prepare(dtype: string): Promise<string> {
  const folder = path.join(tmpdir(), `graft-bench-135m-${dtype}`);
  if (existsSync(folder)) return folder;
  const building = `${folder}.${process.pid}`;
  execFileSync(values.python, [fileURLToPath(new URL('checkpoint.py', import.meta.url)), building, dtype], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  for (const file of ['tokenizer.json', 'tokenizer_config.json'])
    await copyFile(path.join(shared('tinystories-656k'), file), path.join(building, file));
  await rename(building, folder);
  return folder;
}

/** A field of /proc/PID/status, in MB. */
function memoryMb(engine: SupervisedEngine, field: string): number {
  const [, kib = 'NaN'] =
    new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(`/proc/${engine.pid}/status`, 'utf8')) ?? [];
  return Math.round((Number(kib) * 1024) / 1e6);
}

/** Tokens/s of requests that run side by side. */
async function rate(engine: SupervisedEngine, rows: number): Promise<number> {
  const promptIds = [1, ...Array.from({ length: 15 }, (_, index) => 3 + index * 13)];
  const request = {
    ...ALONE,
    adapter: null,
    promptIds,
    sampling: { ...GREEDY, maxTokens: Number(values.tokens) },
    deadlineMs: null,
  };
  let tokens = 0;
  const startMs = performance.now();
  const streams = Array.from({ length: rows }, () => engine.generate(null, [request], new AbortController().signal)).flat();
  await Promise.all(
    streams.map(async (stream) => {
      for await (const event of stream) if (event.type === 'token') tokens++;
    }),
  );
  return (tokens * 1000) / (performance.now() - startMs);
}

const median = (figures: readonly number[]): number =>
  [...figures].sort((a, b) => a - b)[Math.floor(figures.length / 2)] as number;

checkBuild();
await roundingErrors();
const folders = new Map<string, string>();
for (const dtype of CHECKPOINTS) folders.set(dtype, await prepare(dtype));
const cache = await mkdtemp(path.join(tmpdir(), 'graft-bench-weights-'));
const engines: SupervisedEngine[] = [];
try {
  const start = async (
    backbone: string,
    weights: (typeof CASES)[number][1],
  ): Promise<{ engine: SupervisedEngine; seconds: number }> => {
    const startMs = performance.now();
    const engine = startEngine({
      backbone,
      maxBatch: Math.max(...ROWS),
      contextLength: 256,
      threads: Number(values.threads),
      adapterCacheBytes: 1 << 30,
      visionCacheBytes: 1,
      prefillTokens: 512,
      weights,
      weightsCache: cache,
    });
    await engine.whenReady;
    return { engine, seconds: (performance.now() - startMs) / 1000 };
  };
  // What the process takes before there are weights to speak of.
  const bare = (await start(shared('tinystories-656k'), 'float32')).engine;
  console.log(`\nengine of 656,000 parameters: ${memoryMb(bare, 'VmRSS')} MB, ${memoryMb(bare, 'RssAnon')} of it not mapped`);
  await bare.close(0);
  const rows: string[][] = [];
  for (const each of CASES) {
    const [dtype, weights] = each;
    const folder = folders.get(dtype) as string;
    const first = await start(folder, weights);
    const firstPeak = memoryMb(first.engine, 'VmHWM');
    await first.engine.close(0);
    const { engine, seconds } = await start(folder, weights);
    engines.push(engine);
    const ready = [memoryMb(engine, 'VmRSS'), memoryMb(engine, 'RssAnon'), memoryMb(engine, 'VmHWM')];
    rows.push([each.join(', '), first.seconds.toFixed(1), String(firstPeak), seconds.toFixed(1), ...ready.map(String)]);
  }
  const rates = CASES.map(() => ROWS.map((): number[] => []));
  for (let round = 0; round <= Number(values.rounds); round++) {
    for (const [index, engine] of engines.entries()) {
      for (const [at, count] of ROWS.entries()) {
        const figure = await rate(engine, count);
        // The first one warms up.
        if (round > 0) rates[index]?.[at]?.push(figure);
      }
    }
  }
  console.log(
    '\n| checkpoint, weights | first start, s | its peak MB | start, s | resident MB | of it not mapped | peak MB | resident after work | peak | tokens/s, 1 row | 8 rows |\n|---|---|---|---|---|---|---|---|---|---|---|',
  );
  for (const [index, engine] of engines.entries()) {
    const after = [memoryMb(engine, 'VmRSS'), memoryMb(engine, 'VmHWM')].map(String);
    const speeds = ROWS.map((_, at) => {
      const own = median(rates[index]?.[at] ?? []);
      return `${own.toFixed(1)} (${(own / median(rates[0]?.[at] ?? [])).toFixed(2)})`;
    });
    console.log(`| ${[...(rows[index] ?? []), ...after, ...speeds].join(' | ')} |`);
  }
} finally {
  await Promise.all(engines.map((engine) => engine.close(0)));
  await rm(cache, { recursive: true });
}
