/** The serving loop in this process: a real engine (tiny) and a real cache, whose adapters come when the test says. */
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { AdapterRef, LoadedAdapter } from '../../../src/adapter/adapter.js';
import { AdapterCache } from '../../../src/adapter/cache.js';
import { type BackboneDescription, describeBackbone } from '../../../src/backbone/backbone.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { Engine } from '../../../src/engine/engine.js';
import { ALONE } from '../../../src/fairness/turns.js';
import type { Pixels } from '../../../src/images/protocol.js';
import type { Job } from '../../../src/serving/job.js';
import { ServingLoop } from '../../../src/serving/loop.js';
import type { EngineEvent, GenerateRequest, SamplingParams, StepEvent } from '../../../src/serving/protocol.js';
import { randomAdapter } from '../../support/adapter.js';
import { GREEDY } from '../../support/sampling.js';
import { Gaussian, makeTinyBackbone, TINY } from '../../support/tiny.js';

const ROWS = 6;
const ADAPTER_BYTES = 100;
const SAMPLING: SamplingParams = { ...GREEDY, maxTokens: 6 };

let folder: string;
let backbone: BackboneDescription;
let engine: Engine<Job>;
let vocabSize: number;

beforeAll(async () => {
  folder = await makeTinyBackbone(await mkdtemp(path.join(tmpdir(), 'graft-loop-')));
  backbone = await describeBackbone(await readBackbone(folder));
  ({ vocabSize } = backbone.language);
  engine = await Engine.open<Job>(backbone, { threads: 1, maxBatch: ROWS, contextLength: 64, visionCacheBytes: 10_000 });
});

afterAll(async () => {
  await engine.close();
  await rm(folder, { recursive: true });
});

/** Digests name content: no two adapters of this file may share an index. */
const ref = (index: number): AdapterRef => ({ name: `a${index}`, digest: `sha256:a${index}`, folder: '' });

function load({ name, digest }: AdapterRef, method: 'lora' | 'ia3' = 'lora'): Promise<LoadedAdapter> {
  const seed = Number(name.slice(1));
  const adapter = randomAdapter(backbone.target, { name, method, rank: 4, contexts: ['image', 'text'], seed });
  return Promise.resolve({ ...adapter, digest, bytes: ADAPTER_BYTES });
}

function image(seed: number): Pixels {
  const random = new Gaussian(seed);
  const { imageSize: size } = TINY;
  const data = Uint8Array.from({ length: size * size * 3 }, () => Math.floor(random.uniform() * 256));
  return { data, height: size, width: size, digest: `image-${seed}` };
}

/** A running loop, and all that it told. */
class Running {
  readonly #loop: ServingLoop;
  readonly #done: Promise<void>;
  readonly events: StepEvent[] = [];
  #onEvent: () => void = () => {};
  #nextId = 1;

  constructor(cache: AdapterCache) {
    const send = (event: EngineEvent): void => {
      if (event.type === 'step') this.events.push(event);
      this.#onEvent();
    };
    const vocabulary = { size: vocabSize, eosIds: [2] };
    this.#loop = new ServingLoop(engine, cache, { vocabulary, prefillTokens: 32, adapterCacheBytes: 1 }, send);
    this.#done = this.#loop.run();
  }

  /** Hands over a request and gives its id. */
  submit(
    request: Partial<Omit<GenerateRequest, 'sampling'>>,
    sampling: Partial<SamplingParams> = {},
    pixels: Pixels | null = null,
  ) {
    const id = this.#nextId++;
    const whole = {
      ...ALONE,
      id,
      adapter: null,
      promptIds: [1, 7],
      deadlineMs: null,
      ...request,
      sampling: { ...SAMPLING, ...sampling },
    };
    this.#loop.handle({ type: 'generate', image: pixels, requests: [whole] });
    return id;
  }

  cancel(id: number): void {
    this.#loop.handle({ type: 'cancel', ids: [id] });
  }

  /** What was told of the end of a request, each time. */
  ends(id: number): string[] {
    return this.events.flatMap(({ finished, failed }) => [
      ...finished.filter((end) => end.id === id).map(() => 'finished'),
      ...failed.filter((end) => end.id === id).map(({ error }) => error.code),
    ]);
  }

  tokens(id: number): readonly number[] | undefined {
    return this.events.flatMap(({ finished }) => finished).find((end) => end.id === id)?.result.choices[0]?.tokenIds;
  }

  /** Ids of requests in the order of their ends. */
  get order(): number[] {
    return this.events.flatMap(({ finished }) => finished.map(({ id }) => id));
  }

  count(name: 'generatedTokens' | 'visionMisses'): number {
    return this.events.reduce((total, { counts }) => total + counts[name], 0);
  }

  /** Resolves once this holds of the events. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      await new Promise<void>((resolve) => {
        this.#onEvent = resolve;
      });
    }
  }

  /** Resolves once the loop has been through everything that was handed over before. */
  async settled(): Promise<StepEvent> {
    const before = this.events.length;
    this.#loop.handle({ type: 'report' });
    const reported = () => this.events.slice(before).some(({ gauges }) => gauges !== null);
    await this.until(reported);
    return this.events.slice(before).find(({ gauges }) => gauges !== null) as StepEvent;
  }

  async close(): Promise<void> {
    this.#loop.close();
    await this.#done;
  }
}

let running: Running | undefined;

function start(options: Partial<ConstructorParameters<typeof AdapterCache>[0]> = {}): Running {
  running = new Running(new AdapterCache({ maxBytes: 100 * ADAPTER_BYTES, load, ...options }));
  return running;
}

afterEach(async () => {
  await running?.close();
  expect(engine.batch.size).toBe(0);
  expect(engine.batch.freeRows).toBe(ROWS);
});

describe('a request that cannot be served', () => {
  it('is refused alone: a token id that the model does not have is no neighbour’s failure', async () => {
    const loop = start();
    const good = loop.submit({});
    const strange = [vocabSize, -1, 1.5, Number.NaN].map((id) => loop.submit({ promptIds: [1, id] }));
    const empty = loop.submit({ promptIds: [] });
    await loop.until(() => [good, empty, ...strange].every((id) => loop.ends(id).length > 0));
    expect(loop.ends(good)).toEqual(['finished']);
    for (const id of [empty, ...strange]) expect(loop.ends(id)).toEqual(['invalid_request']);
  });

  it('is told that its prompt is too long, whichever way it chooses tokens', async () => {
    const loop = start();
    const promptIds = Array.from({ length: 70 }, () => 5);
    const ids = [loop.submit({ promptIds }), loop.submit({ promptIds }, { numBeams: 3 }), loop.submit({ promptIds }, { n: 2 })];
    await loop.until(() => ids.every((id) => loop.ends(id).length > 0));
    for (const id of ids) expect(loop.ends(id)).toEqual(['context_length_exceeded']);
  });

  it('has an image and no adapter to see it with', async () => {
    const loop = start();
    const id = loop.submit({ adapter: null }, {}, image(1));
    await loop.until(() => loop.ends(id).length > 0);
    expect(loop.ends(id)).toEqual(['invalid_request']);
    expect(loop.count('visionMisses')).toBe(0);
  });

  it('asks for tokens in a way that there is not, and only learns it when it joins', async () => {
    const loop = start();
    const bad = loop.submit({}, { temperature: -1 });
    const good = loop.submit({});
    await loop.until(() => [bad, good].every((id) => loop.ends(id).length > 0));
    expect(loop.ends(bad)).toEqual(['internal']);
    expect(loop.ends(good)).toEqual(['finished']);
  });

  it('needs a program that cannot be opened: what runs beside it goes on, and the next one may be served', async () => {
    const loop = start({ load: (wanted) => load(wanted, 'ia3') });
    const weights = path.join(folder, 'language', 'model.safetensors');
    const base = loop.submit({}, { maxTokens: 50, temperature: 2 });
    await loop.until(() => loop.events.some(({ tokens }) => tokens.length > 0));
    await rename(weights, `${weights}.away`);
    const bad = loop.submit({ adapter: ref(20) });
    await loop.until(() => loop.ends(bad).length > 0);
    await rename(`${weights}.away`, weights);
    const good = loop.submit({ adapter: ref(20) });
    await loop.until(() => [base, good].every((id) => loop.ends(id).length > 0));
    expect([base, bad, good].map((id) => loop.ends(id))).toEqual([['finished'], ['invalid_file'], ['finished']]);
  });

  it('has an adapter of numbers so large that its own row fails, and no other', async () => {
    const wild = async (wanted: AdapterRef): Promise<LoadedAdapter> => {
      const adapter = await load(wanted);
      if (wanted.name === 'a30') for (const { columns } of adapter.groups) for (const { a } of columns.values()) a?.fill(3e38);
      return adapter;
    };
    const calm = start();
    const alone = calm.submit({ adapter: ref(1) });
    await calm.until(() => calm.ends(alone).length > 0);
    const expected = calm.tokens(alone);
    await calm.close();

    const loop = start({ load: wild });
    const [bad, good, base] = [loop.submit({ adapter: ref(30) }), loop.submit({ adapter: ref(1) }), loop.submit({})];
    await loop.until(() => [bad, good, base].every((id) => loop.ends(id).length > 0));
    expect(loop.ends(bad)).toEqual(['internal']);
    expect(loop.ends(good)).toEqual(['finished']);
    expect(loop.ends(base)).toEqual(['finished']);
    expect(expected?.length).toBeGreaterThan(0);
    expect(loop.tokens(good)).toEqual(expected);
  });
});

it('names the adapters of requests that run and of those that wait, each once', async () => {
  const loop = start({ load: (wanted) => (wanted.name === 'a40' ? new Promise(() => {}) : load(wanted)) });
  const cold = [loop.submit({ adapter: ref(40) }), loop.submit({ adapter: ref(40) })];
  const warm = [3, 1, 3].map((index) => loop.submit({ adapter: ref(index) }, { maxTokens: 50 }));
  const base = loop.submit({}, { maxTokens: 50 });
  await loop.until(() => loop.events.some(({ tokens }) => new Set(tokens.map(([id]) => id)).size === 4));
  const { gauges } = await loop.settled();
  expect(gauges).toMatchObject({ runningAdapters: ['a1', 'a3'], waitingAdapters: ['a40'] });
  for (const id of [...cold, ...warm, base]) loop.cancel(id);
  await loop.until(() => [...cold, ...warm, base].every((id) => loop.ends(id).length > 0));
  expect((await loop.settled()).gauges).toMatchObject({ runningAdapters: [], waitingAdapters: [] });
});

describe('a request that is cancelled', () => {
  it('while its adapter is on its way is told so once, and holds up nobody', async () => {
    const loop = start({ load: ({ name, ...rest }) => (name === 'a0' ? new Promise(() => {}) : load({ name, ...rest })) });
    const cold = loop.submit({ adapter: ref(0) }, {}, image(2));
    const warm = loop.submit({ adapter: ref(1) }, {}, image(2));
    await loop.until(() => loop.ends(warm).length > 0);
    loop.cancel(cold);
    await loop.settled();
    await loop.settled();
    expect(loop.ends(cold)).toEqual(['cancelled']);
    expect(loop.ends(warm)).toEqual(['finished']);
  });

  it('gives back its lease and counts the tokens that it had', async () => {
    const loop = start();
    const id = loop.submit({ adapter: ref(3) }, { maxTokens: 50, temperature: 2, n: 3 });
    await loop.until(() => loop.events.some(({ tokens }) => tokens.length > 0));
    loop.cancel(id);
    await loop.until(() => loop.ends(id).length > 0);
    const { gauges } = await loop.settled();
    expect(gauges).toMatchObject({ adapterLeases: 0, runningRows: 0, waitingRequests: 0 });
    const told = loop.events.flatMap(({ tokens }) => tokens).length;
    expect(told).toBeGreaterThan(0);
    expect(loop.count('generatedTokens')).toBe(told);
  });
});

describe('a request beside another tenant’s flood', () => {
  const flood = { tenant: 'flood', weight: 1 };
  const late = { tenant: 'late', weight: 1 };
  const many = (loop: Running, count: number, seed?: number): number[] =>
    Array.from({ length: count }, (_, index) =>
      loop.submit({ ...flood, adapter: ref(1) }, {}, seed === undefined ? null : image(seed + index)),
    );

  it('is done before most of it, with text and with images', async () => {
    for (const seed of [undefined, 100]) {
      const loop = start();
      const before = many(loop, 40, seed);
      const one = loop.submit({ ...late, adapter: ref(1) }, {}, seed === undefined ? null : image(99));
      await loop.until(() => [...before, one].every((id) => loop.ends(id).length > 0));
      expect(loop.order.indexOf(one)).toBeLessThan(12);
      await loop.close();
    }
  });

  it('is done when it would be among its own where everybody is one tenant: in order', async () => {
    const loop = start();
    const before = Array.from({ length: 40 }, () => loop.submit({}));
    const one = loop.submit({});
    await loop.until(() => [...before, one].every((id) => loop.ends(id).length > 0));
    expect(loop.order).toEqual([...before, one]);
  });

  it('waits for its cold adapter without holding up a warm one, and then does not starve', async () => {
    let arrive = (): void => {};
    const loop = start({
      load: async (wanted) => {
        if (wanted.name === 'a0')
          await new Promise<void>((resolve) => {
            arrive = resolve;
          });
        return load(wanted);
      },
    });
    const cold = loop.submit({ ...late, adapter: ref(0) }, {}, image(98));
    const own = loop.submit({ ...late, adapter: ref(1) });
    const warm = many(loop, 20);
    await loop.until(() => [...warm, own].every((id) => loop.ends(id).length > 0));
    expect(loop.ends(cold)).toEqual([]);
    const more = many(loop, 40);
    arrive();
    await loop.until(() => [...more, cold].every((id) => loop.ends(id).length > 0));
    expect(loop.order.indexOf(cold) - warm.length).toBeLessThan(20);
  });

  it('steps with few of its rows; the others rest, and go on to the same tokens', async () => {
    const sampling = { maxTokens: 50, temperature: 2 };
    const alone = start();
    const expected = Array.from({ length: 4 }, (_, seed) => alone.submit(flood, { ...sampling, seed }));
    await alone.until(() => expected.every((id) => alone.ends(id).length > 0));
    const tokens = expected.map((id) => alone.tokens(id));
    await alone.close();

    const loop = start();
    const running = Array.from({ length: 4 }, (_, seed) => loop.submit(flood, { ...sampling, seed }));
    await loop.until(() => running.every((id) => loop.events.some(({ started }) => started.some((begun) => begun.id === id))));
    const one = loop.submit(late, { maxTokens: 20, temperature: 2, seed: 1 });
    await loop.until(() => [...running, one].every((id) => loop.ends(id).length > 0));
    const beside = loop.events.filter(({ tokens: told }) => told.some(([id]) => id === one)).slice(1);
    expect(beside.length).toBeGreaterThan(5);
    for (const { tokens: told } of beside) expect(told.filter(([id]) => id !== one).length).toBeLessThanOrEqual(1);
    expect(running.map((id) => loop.tokens(id))).toEqual(tokens);
  });
});

describe('whatever comes', () => {
  interface Ask {
    readonly tenant: string;
    readonly weight: number;
    readonly adapter: number | null;
    readonly image: number | null;
    readonly beams: number;
    readonly cancelled: boolean;
    readonly deadlineMs: number | null;
  }
  const ask: fc.Arbitrary<Ask> = fc.record({
    tenant: fc.constantFrom('', 'a', 'b'),
    weight: fc.integer({ min: 1, max: 4 }),
    adapter: fc.option(fc.nat(7), { freq: 6 }),
    image: fc.option(fc.nat(2)),
    beams: fc.constantFrom(1, 1, 1, 2, ROWS),
    cancelled: fc.constantFrom(false, false, false, true),
    deadlineMs: fc.constantFrom(null, null, null, 1),
  });

  it('every request ends, once, and leaves nothing: with room for one or two adapters, the jobs that hold them never wait for each other', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(ask, { minLength: 1, maxLength: 40 }), fc.integer({ min: 1, max: 2 }), async (asks, room) => {
        const loop = start({ maxBytes: room * ADAPTER_BYTES });
        const ids = asks.map(({ tenant, weight, adapter, image: seed, beams, cancelled, deadlineMs }) => {
          const request = { tenant, weight, adapter: adapter === null ? null : ref(adapter), deadlineMs };
          const pixels = adapter === null || seed === null ? null : image(seed);
          const id = loop.submit(request, { numBeams: beams }, pixels);
          if (cancelled) loop.cancel(id);
          return id;
        });
        await loop.until(() => ids.every((id) => loop.ends(id).length > 0));
        const { gauges } = await loop.settled();
        for (const id of ids) expect(loop.ends(id)).toHaveLength(1);
        expect(gauges).toMatchObject({ adapterLeases: 0, runningRows: 0, runningRequests: 0, waitingRequests: 0 });
        await loop.close();
      }),
      { numRuns: 25, seed: 20231208 },
    );
  });
});
