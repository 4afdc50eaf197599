/**
 * The promise of the batch: whatever runs beside a row, the row's tokens are those of the same request alone.
 * Random mixes of adapters (three methods, several ranks, agnostic ones, blends), base rows, images, samples and beams join, rest and leave at random
 * steps.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LoadedAdapter } from '../../../src/adapter/adapter.js';
import { blendRef } from '../../../src/adapter/blend.js';
import { mixAdapters } from '../../../src/adapter/mix.js';
import { describeBackbone } from '../../../src/backbone/backbone.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { Batch, type Member } from '../../../src/engine/batch.js';
import { Decoder } from '../../../src/engine/decoder.js';
import { type Strategy, strategyFor } from '../../../src/engine/strategy.js';
import { randomAdapter } from '../../support/adapter.js';
import { Gaussian, makeTinyBackbone, TINY } from '../../support/tiny.js';

const ROWS = 12;
/** Hundreds of small batches; where a machine is busy they take their time, and a test that is cut off goes on beside the next one. */
const TIMEOUT_MS = 180_000;
/** Two logits this close may change places when a sum is taken in another order. */
const TIE = 1e-4;

interface Request {
  readonly adapter: number | null;
  readonly image: number | null;
  readonly promptIds: readonly number[];
  readonly maxTokens: number;
  readonly n: number;
  readonly numBeams: number;
  /** Step at which it arrives, and at which it is cancelled. */
  readonly arrives: number;
  readonly leaves: number | null;
  /** Of eight steps those in which it rests, as bits. */
  readonly rests: number;
}

let folder: string;
let decoder: Decoder;
let adapters: LoadedAdapter[];
let vocabSize: number;

beforeAll(async () => {
  folder = await makeTinyBackbone(await mkdtemp(path.join(tmpdir(), 'graft-mixing-')));
  const backbone = await describeBackbone(await readBackbone(folder));
  decoder = await Decoder.open(backbone, { threads: 1, rows: ROWS, maxLength: 128 });
  vocabSize = backbone.language.vocabSize;
  const both = ['image', 'text'];
  const make = (name: string, method: 'lora' | 'bitfit' | 'ia3', rank: number, contexts: string[], modules?: string[]) =>
    randomAdapter(backbone.target, {
      name,
      method,
      rank,
      contexts,
      seed: name.length * 1000 + rank,
      ...(modules ? { modules } : {}),
    });
  adapters = [
    make('lora-4', 'lora', 4, both),
    make('lora-16', 'lora', 16, both),
    make('lora-40', 'lora', 40, both),
    make('attention-only', 'lora', 8, both, ['q_proj', 'v_proj']),
    make('agnostic', 'lora', 8, ['all']),
    make('text-only', 'lora', 3, ['text']),
    make('bitfit', 'bitfit', 1, both),
    make('ia3', 'ia3', 0, both),
    make('ia3-agnostic', 'ia3', 0, ['all']),
  ];
  const blend = (...parts: readonly (readonly [number, number])[]): LoadedAdapter => {
    const weighted = parts.map(([index, weight]) => ({ adapter: adapters[index] as LoadedAdapter, weight }));
    const refs = weighted.map(({ adapter: { name, digest }, weight }) => ({ ref: { name, digest, folder: '' }, weight }));
    return mixAdapters(blendRef('blend', refs), weighted);
  };
  adapters.push(blend([0, 0.7], [3, 0.3]), blend([4, 0.5], [5, -1], [6, 0.5], [7, 0.8]));
});

afterAll(async () => {
  await decoder.close();
  await rm(folder, { recursive: true });
});

/** Remembers the first step at which the choice was so close that rounding may decide. */
class Watched implements Strategy {
  readonly #strategy: Strategy;
  firstTie = Number.POSITIVE_INFINITY;
  #steps = 0;

  constructor(strategy: Strategy) {
    this.#strategy = strategy;
  }

  get width(): number {
    return this.#strategy.width;
  }

  get generated(): number {
    return this.#strategy.generated;
  }

  advance(logits: readonly Float32Array[]) {
    for (const row of logits) {
      const [best = 0, second = 0] = Float32Array.from(row).sort().reverse();
      if (best - second < TIE) this.firstTie = Math.min(this.firstTie, this.#steps);
    }
    this.#steps++;
    return this.#strategy.advance(logits);
  }

  choices() {
    return this.#strategy.choices();
  }
}

interface Running extends Member {
  readonly request: Request;
  readonly strategy: Watched;
}

function member(request: Request): Running {
  const embeddings = request.image === null ? null : new Gaussian(request.image).array(TINY.imageTokens * TINY.hiddenSize, 1);
  const sampling = {
    maxTokens: request.maxTokens,
    temperature: request.n > 1 ? 0.8 : 0,
    topK: 0,
    topP: 1,
    repetitionPenalty: 1,
    seed: 7,
    n: request.n,
    numBeams: request.numBeams,
    lengthPenalty: 1,
    earlyStopping: false,
  };
  return {
    request,
    adapter: request.adapter === null ? null : (adapters[request.adapter] as LoadedAdapter),
    promptIds: request.promptIds,
    imageEmbeddings: embeddings,
    imageTokens: embeddings ? TINY.imageTokens : 0,
    strategy: new Watched(strategyFor(sampling, { size: vocabSize, eosIds: [2] }, request.promptIds)),
  };
}

/** Runs requests together, each joining no earlier than it arrives, and gives every one's member as it ended (undefined: cancelled). */
async function run(requests: readonly Request[]): Promise<Map<Request, Running>> {
  const batch = new Batch<Running>(decoder);
  const ended = new Map<Request, Running>();
  let waiting = requests.map(member);
  let running: Running[] = [];
  for (let step = 0; waiting.length > 0 || batch.size > 0; step++) {
    for (const leaving of running.filter(({ request }) => request.leaves !== null && request.leaves <= step))
      batch.remove(leaving);
    running = running.filter(({ request }) => request.leaves === null || request.leaves > step);
    const joining: Running[] = [];
    let free = batch.freeRows;
    for (const candidate of waiting) {
      if (candidate.request.arrives > step || candidate.strategy.width > free) continue;
      joining.push(candidate);
      free -= candidate.strategy.width;
    }
    waiting = waiting.filter((candidate) => !joining.includes(candidate));
    const resting = new Set(running.filter(({ request }) => (request.rests >> (step % 8)) & 1));
    const before = new Map(running.map((one) => [one, one.strategy.generated]));
    running.push(...joining);
    const outcome = await batch.step(joining, resting);
    expect(outcome.failed).toEqual([]);
    for (const one of resting) expect(one.strategy.generated).toBe(before.get(one));
    for (const finished of outcome.finished) ended.set(finished.request, finished);
    running = running.filter((candidate) => !outcome.finished.includes(candidate));
  }
  expect(batch.size).toBe(0);
  expect(batch.freeRows).toBe(ROWS);
  return ended;
}

/** Ids of every choice, cut where rounding may have decided. */
function comparable(running: Running): number[][] {
  const { firstTie } = running.strategy;
  // A beam search is one decision after another over all of its beams: past a tie nothing is comparable.
  if (running.request.numBeams > 1 && Number.isFinite(firstTie)) return [];
  return running.strategy.choices().map(({ tokenIds }) => [...tokenIds].slice(0, firstTie));
}

const request: fc.Arbitrary<Request> = fc
  .record({
    adapter: fc.option(fc.nat(10), { freq: 5 }),
    image: fc.option(fc.nat(3), { freq: 3 }),
    promptIds: fc.array(fc.integer({ min: 3, max: 60 }), { maxLength: 6 }).map((ids) => [1, ...ids]),
    maxTokens: fc.oneof({ weight: 5, arbitrary: fc.integer({ min: 1, max: 10 }) }, { weight: 1, arbitrary: fc.constant(80) }),
    n: fc.constantFrom(1, 1, 1, 2, 3),
    numBeams: fc.constantFrom(1, 1, 1, 2, 4),
    arrives: fc.nat(6),
    leaves: fc.option(fc.integer({ min: 1, max: 12 }), { freq: 1 }),
    rests: fc.oneof(fc.constant(0), fc.nat(254)),
  })
  .map((value) => (value.numBeams > 1 ? { ...value, n: 1 } : value));

describe('a batch', () => {
  it('gives every row the tokens of the same request alone', { timeout: TIMEOUT_MS }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 10 }), async (requests) => {
        const together = await run(requests);
        for (const one of requests) {
          const mixed = together.get(one);
          if (!mixed) continue;
          const alone = (await run([{ ...one, arrives: 0, leaves: null, rests: 0 }])).values().next().value as Running;
          expect(comparable(mixed)).toEqual(comparable(alone));
        }
      }),
      { numRuns: 40, seed: 20231208 },
    );
  });

  it('runs many distinct adapters of all methods at once', async () => {
    const requests = Array.from(
      { length: ROWS },
      (_, index): Request => ({
        adapter: index < adapters.length ? index : null,
        image: index % 2 === 0 ? index : null,
        promptIds: [1, 5 + index, 9],
        maxTokens: 12,
        n: 1,
        numBeams: 1,
        arrives: index % 3,
        leaves: null,
        rests: 0,
      }),
    );
    const together = await run(requests);
    for (const one of requests) {
      const alone = (await run([{ ...one, arrives: 0 }])).values().next().value as Running;
      expect(comparable(together.get(one) as Running)).toEqual(comparable(alone));
    }
    // Different adapters say different things: otherwise the equality above would show nothing.
    const texts = new Set([...together.values()].map(({ strategy }) => strategy.choices()[0]?.tokenIds.join()));
    expect(texts.size).toBeGreaterThan(8);
  });
});
