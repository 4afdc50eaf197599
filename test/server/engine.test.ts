/** The engine process as the front end holds it: real child, real weights (tiny), real adapters on disk. */
import { getEventListeners } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AdapterRef } from '../../src/adapter/adapter.js';
import { digestFolder } from '../../src/adapter/digest.js';
import { writeAdapter } from '../../src/adapter/write.js';
import { describeBackbone } from '../../src/backbone/backbone.js';
import { readBackbone } from '../../src/backbone/manifest.js';
import type { AdapterTarget } from '../../src/backbone/module.js';
import { ALONE } from '../../src/fairness/turns.js';
import type { Pixels } from '../../src/images/protocol.js';
import { type SupervisedEngine, startEngine } from '../../src/serving/client.js';
import type { GenerateInput, GenerateResult, GenerationEvent, SamplingParams } from '../../src/serving/protocol.js';
import { randomDraft } from '../support/adapter.js';
import { GREEDY } from '../support/sampling.js';
import { Gaussian, makeTinyBackbone, TINY } from '../support/tiny.js';

const SAMPLING: SamplingParams = { ...GREEDY, maxTokens: 12 };
const MAX_BATCH = 8;

let folder: string;
let target: AdapterTarget;
let refs: AdapterRef[];
let engine: SupervisedEngine;

const options = (more: object = {}) => ({
  backbone: folder,
  maxBatch: MAX_BATCH,
  contextLength: 64,
  threads: 1,
  adapterCacheBytes: 64 * 1024 * 1024,
  visionCacheBytes: 1024 * 1024,
  prefillTokens: 256,
  ...more,
});

async function addAdapter(
  name: string,
  method: 'lora' | 'bitfit' | 'ia3',
  rank: number,
  contexts: readonly string[],
  seed: number,
): Promise<AdapterRef> {
  const at = path.join(folder, 'adapters', name);
  await writeAdapter(at, randomDraft(target, { method, rank, contexts, seed }));
  return { name, folder: at, digest: (await digestFolder(at)).digest };
}

function image(seed: number): Pixels {
  const random = new Gaussian(seed);
  const { imageSize: size } = TINY;
  return {
    data: Uint8Array.from({ length: size * size * 3 }, () => Math.floor(random.uniform() * 256)),
    height: size,
    width: size,
    digest: `image-${seed}`,
  };
}

const input = (adapter: AdapterRef | null, promptIds: number[], sampling: Partial<SamplingParams> = {}): GenerateInput => ({
  ...ALONE,
  adapter,
  promptIds,
  sampling: { ...SAMPLING, ...sampling },
  deadlineMs: null,
});

async function result(stream: AsyncIterable<GenerationEvent> | undefined): Promise<GenerateResult> {
  for await (const event of stream ?? []) if (event.type === 'done') return event.result;
  throw new Error('Expected a result but the stream ended');
}

const tokens = ({ choices }: GenerateResult): string => choices.map(({ tokenIds }) => tokenIds.join()).join('|');
const generate = (pixels: Pixels | null, request: GenerateInput): Promise<GenerateResult> =>
  result(engine.generate(pixels, [request], new AbortController().signal)[0]);

beforeAll(async () => {
  folder = await makeTinyBackbone(await mkdtemp(path.join(tmpdir(), 'graft-engine-')));
  ({ target } = await describeBackbone(await readBackbone(folder)));
  const both = ['image', 'text'];
  refs = [
    await addAdapter('lora-4', 'lora', 4, both, 1),
    await addAdapter('lora-12', 'lora', 12, both, 2),
    await addAdapter('lora-30', 'lora', 30, both, 3),
    await addAdapter('agnostic', 'lora', 8, ['all'], 4),
    await addAdapter('bitfit', 'bitfit', 1, both, 5),
    await addAdapter('ia3', 'ia3', 0, both, 6),
    await addAdapter('ia3-agnostic', 'ia3', 0, ['all'], 7),
    await addAdapter('bitfit-agnostic', 'bitfit', 1, ['all'], 8),
  ];
  engine = startEngine(options());
  await engine.whenReady;
});

afterAll(async () => {
  await engine.close(1000);
  await rm(folder, { recursive: true });
});

describe('the engine process', () => {
  it('says what it serves', () => {
    expect(engine.info).toMatchObject({
      backbone: 'tiny',
      contextLength: 64,
      imageTokens: TINY.imageTokens,
      maxBatch: MAX_BATCH,
    });
  });

  it('gives 32 concurrent requests over 8 adapters and base rows the tokens of each alone', async () => {
    const requests = Array.from({ length: 32 }, (_, index) => ({
      pixels: index % 5 === 4 ? null : image(index % 3),
      request: input(
        index % 5 === 4 ? null : (refs[index % refs.length] ?? null),
        [1, 4 + index, 9],
        index % 7 === 0 ? { numBeams: 3 } : {},
      ),
    }));
    const together = await Promise.all(requests.map(({ pixels, request }) => generate(pixels, request)));
    for (const [index, { pixels, request }] of requests.entries()) {
      expect(tokens(together[index] as GenerateResult)).toBe(tokens(await generate(pixels, request)));
    }
    expect(new Set(together.map(tokens)).size).toBeGreaterThan(16);
  });

  it('encodes an image once for several adapters, and says what was cached', async () => {
    const pixels = image(77);
    const streams = engine.generate(
      pixels,
      refs.slice(0, 3).map((ref) => input(ref, [1])),
      new AbortController().signal,
    );
    const results = await Promise.all(streams.map(result));
    expect(results.map(({ visionCache }) => visionCache)).toEqual(['miss', 'hit', 'hit']);
    const again = await generate(pixels, input(refs[0] ?? null, [1]));
    expect(again).toMatchObject({ visionCache: 'hit', adapterCache: 'hit', imageTokens: TINY.imageTokens, promptTokens: 1 });
  });

  it('streams tokens that add up to the result', async () => {
    const [stream] = engine.generate(image(1), [input(refs[1] ?? null, [1])], new AbortController().signal);
    const streamed: number[] = [];
    let done: GenerateResult | undefined;
    for await (const event of stream ?? []) {
      if (event.type === 'token') streamed.push(event.tokenId);
      if (event.type === 'done') done = event.result;
    }
    expect(streamed).toEqual(done?.choices[0]?.tokenIds);
    expect(streamed.length).toBeGreaterThan(0);
  });

  it('repeats samples of one seed, and gives n different ones', async () => {
    const request = input(refs[0] ?? null, [1, 5], { temperature: 1.5, seed: 99, n: 3 });
    const first = await generate(image(2), request);
    expect(first.choices).toHaveLength(3);
    expect(new Set(first.choices.map(({ tokenIds }) => tokenIds.join())).size).toBeGreaterThan(1);
    expect(tokens(await generate(image(2), request))).toBe(tokens(first));
  });

  it('refuses what does not fit, and goes on', async () => {
    await expect(
      generate(
        null,
        input(
          null,
          Array.from({ length: 64 }, () => 5),
        ),
      ),
    ).rejects.toMatchObject({ code: 'context_length_exceeded' });
    await expect(generate(null, input(null, [1], { n: MAX_BATCH + 1, temperature: 1 }))).rejects.toMatchObject({
      code: 'invalid_request',
    });
    const missing: AdapterRef = { name: 'gone', digest: `sha256:${'0'.repeat(64)}`, folder: path.join(folder, 'nowhere') };
    await expect(generate(null, input(missing, [1]))).rejects.toMatchObject({ name: 'AppError' });
    const changed: AdapterRef = { ...(refs[0] as AdapterRef), digest: `sha256:${'1'.repeat(64)}` };
    await expect(generate(null, input(changed, [1]))).rejects.toMatchObject({ code: 'adapter_changed' });
    expect(tokens(await generate(null, input(null, [1, 7])))).not.toBe('');
  });

  it('cuts a sequence at the end of the context', async () => {
    const { choices, promptTokens } = await generate(
      null,
      input(
        null,
        Array.from({ length: 60 }, () => 7),
        { maxTokens: 50 },
      ),
    );
    expect(choices[0]).toMatchObject({ finishReason: 'length' });
    expect((choices[0]?.tokenIds.length ?? 0) + promptTokens).toBeLessThanOrEqual(64);
  });

  it('frees rows, leases and features of requests that are cancelled or late', async () => {
    const abort = new AbortController();
    const streams = Array.from(
      { length: 24 },
      (_, index) =>
        engine.generate(image(index), [input(refs[index % 8] ?? null, [1, 4 + index], { maxTokens: 50 })], abort.signal)[0],
    );
    const readers = streams.map(async (stream) => {
      for await (const event of stream ?? []) if (event.type === 'token') return;
    });
    await Promise.race(readers);
    abort.abort();
    await Promise.all(readers);
    await expect(generate(image(1), { ...input(refs[0] ?? null, [1], { maxTokens: 40 }), deadlineMs: 0 })).rejects.toMatchObject({
      code: 'deadline_exceeded',
    });
    // The next request is answered after the cancelled ones are out.
    await generate(null, input(null, [1]));
    expect(engine.outstanding).toBe(0);
    expect(engine.waiting.size).toBe(0);
    expect(await engine.report(5000)).toMatchObject({
      runningRows: 0,
      runningRequests: 0,
      waitingRequests: 0,
      adapterLeases: 0,
      kvUsage: 0,
    });
  });

  it('is started again when it is killed: what was inside is told to retry, what comes next is served', async () => {
    const inside = Array.from({ length: 16 }, (_, index) =>
      generate(image(index), input(refs[index % 8] ?? null, [1, 4 + index], { maxTokens: 50 })),
    );
    const settled = Promise.allSettled(inside);
    const { pid } = engine;
    process.kill(pid as number, 'SIGKILL');
    for (const outcome of await settled) {
      // A request may have been finished in the instant before.
      if (outcome.status === 'rejected')
        expect(outcome.reason).toMatchObject({ code: 'engine_unavailable', status: 503, retryable: true });
    }
    const next = await generate(image(3), input(refs[2] ?? null, [1]));
    expect(next.adapterCache).toBe('miss');
    expect(engine.pid).not.toBe(pid);
    expect(engine.restarts).toBe(1);
    expect(await engine.report(5000)).toMatchObject({ runningRows: 0, adapterLeases: 0 });
  });

  it('keeps the cache within its bytes while more adapters are asked for than it can hold', async () => {
    const probe = await generate(null, input(refs[0] ?? null, [1]));
    expect(probe.choices).toHaveLength(1);
    const bytes = Math.max(...(await engine.report(5000)).resident.map((adapter) => adapter.bytes));
    const small = startEngine(options({ adapterCacheBytes: Math.ceil(bytes * 2.5) }));
    await small.whenReady;
    const results = await Promise.all(
      Array.from({ length: 32 }, (_, index) =>
        result(small.generate(null, [input(refs[index % 8] ?? null, [1, 5 + index])], new AbortController().signal)[0]),
      ),
    );
    expect(results).toHaveLength(32);
    const gauges = await small.report(5000);
    expect(gauges.adapterBytes).toBeLessThanOrEqual(gauges.adapterCapacityBytes);
    expect(gauges.adapterLeases).toBe(0);
    await small.close(0);
  });

  it('forgets what was abandoned before there was a process to do it', async () => {
    const late = startEngine(options());
    let misses = 0;
    late.onCounts(({ visionMisses }) => {
      misses += visionMisses;
    });
    const abort = new AbortController();
    const abandoned = late.generate(image(1), [input(refs[0] ?? null, [1]), input(refs[1] ?? null, [1])], abort.signal);
    const [left, kept] = late.generate(
      image(2),
      [input(refs[2] ?? null, [1]), input(refs[3] ?? null, [1])],
      new AbortController().signal,
    );
    abort.abort();
    await left?.return?.();
    for (const stream of abandoned) expect((await stream.next()).done).toBe(true);
    expect(late).toMatchObject({ state: 'starting', waiting: { size: 1 }, outstanding: 1 });
    expect((await result(kept)).choices).toHaveLength(1);
    await late.report(5000);
    expect(misses).toBe(1);
    await late.close(0);
  });

  it('leaves nothing on a signal that outlives its requests', async () => {
    const { signal } = new AbortController();
    await result(engine.generate(null, [input(null, [1, 5])], signal)[0]);
    const [stopped] = engine.generate(null, [input(null, [1, 5])], signal);
    await stopped?.return?.();
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  it('does not try again where the backbone itself is at fault, and says so to whoever waits for it', async () => {
    const broken = startEngine(options({ backbone: path.join(folder, 'vision') }));
    const [early] = broken.generate(null, [input(null, [1])], new AbortController().signal);
    const answers = await Promise.allSettled([result(early), broken.whenReady]);
    for (const answer of answers)
      expect(answer).toMatchObject({ status: 'rejected', reason: { name: 'AppError', code: 'unsupported_model' } });
    expect(broken.state).toBe('stopped');
    await broken.close(0);
  });
});
