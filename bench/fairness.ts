/**
 * `npm run bench:fairness`: what one tenant's flood does to another's latency. A real server with the backbone that ships; the victim asks for one
 * caption after another, alone and then beside a flood of other images, with several adapters, some of them cold every time. Server, flood and victim
 * are processes of their own on one machine, so the victim also pays for the flood's uploads. Quiet and flooded phases take turns: the ratio is the result.
 *
 *     npm run bench:fairness -- [--seconds 4] [--repetitions 5] [--flood 64] [--victim 1] [--pause 0] [--only "1 : 1"] [--bar 1.5] [--threads 2]
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { sceneAt } from '../scripts/scenes/folder.js';
import { takePicture } from '../scripts/scenes/picture.js';
import { startServer } from '../src/cli/serve.js';
import { loadConfig } from '../src/config.js';
import { Tenant } from '../src/tenants/tenant.js';
import type { Tenants } from '../src/tenants/tenants.js';
import { stream } from '../src/training/random.js';
import { Client, COMPLETED, captionPayload, type Outcome, type Payload, tally } from './client.js';
import { Bars, pause, variantOf } from './server.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '4' },
    repetitions: { type: 'string', default: '5' },
    flood: { type: 'string', default: '64' },
    victim: { type: 'string', default: '1' },
    pause: { type: 'string', default: '0' },
    only: { type: 'string' },
    bar: { type: 'string', default: '1.5' },
    threads: { type: 'string' },
  },
});
const seconds = Number(values.seconds);

const SHIPPED = fileURLToPath(new URL('../adapters', import.meta.url));
const PIXELS = 256;
const VICTIM = { adapter: 'alt', pictures: 120, seed: 1 };
const FLOOD = { adapters: ['colours', 'counting', 'french', 'german'], pictures: 480, seed: 2 };
/** One of so many requests of the flood names an adapter that is not in memory. */
const COLD_EVERY = 8;
/** Room for the warm adapters and few more; far fewer images than there are. */
const FLAGS = { adapterCacheBytes: '16MB', visionCacheBytes: '1MB', port: '0', logLevel: 'error' };
/** Key of the victim and of the flood; the key is the tenant's name, and its end the weight. */
const VARIANTS = [
  { name: 'one tenant', victim: 'same-1', flood: 'same-1', isJudged: false },
  { name: '1 : 1', victim: 'victim-1', flood: 'flood-1', isJudged: true },
  { name: '4 : 1', victim: 'victim-4', flood: 'flood-1', isJudged: true },
  { name: '1 : 4', victim: 'victim-1', flood: 'flood-4', isJudged: false },
];

/** What the other processes are started for. */
type Errand = { readonly role: 'server'; readonly adapters: string } | { readonly role: 'flood'; readonly url: string };

interface Round {
  readonly quiet: readonly number[];
  readonly flooded: readonly number[];
  readonly aloneRate: number;
  readonly besideRate: number;
}

const errand = process.env['GRAFT_BENCH_ERRAND'];
if (errand === undefined) await measure();
else await run(JSON.parse(errand) as Errand);

async function measure(): Promise<void> {
  const bars = new Bars();
  const folder = await mkdtemp(path.join(tmpdir(), 'graft-fairness-'));
  try {
    const adapters = path.join(folder, 'adapters');
    await cp(SHIPPED, adapters, { recursive: true });
    for (let index = 0; index < FLOOD.pictures / COLD_EVERY; index++)
      await variantOf(
        path.join(adapters, FLOOD.adapters[index % FLOOD.adapters.length] ?? ''),
        path.join(adapters, `cold-${index}`),
        `task ${index}`,
      );
    const server = await startErrand({ role: 'server', adapters });
    const [url] = (await ask(server, 'url')) as [string];
    const flood = await startErrand({ role: 'flood', url });
    const victim = await payloadsOf(VICTIM.seed, VICTIM.pictures, () => VICTIM.adapter);
    console.log(
      `${values.flood} requests of the flood and ${values.victim} of the victim in flight, ${seconds} s a phase; milliseconds, medians of ${values.repetitions} repetitions\n`,
    );
    console.log(
      '| weights, victim : flood | quiet p50 | p95 | beside the flood p50 | p95 | p50 ratio | p95 ratio | each repetition | flood/s alone | beside the victim | victim/s |',
    );
    console.log('|---|---|---|---|---|---|---|---|---|---|---|');
    await latencies(url, VARIANTS[0]?.victim ?? '', victim, 3);
    for (const variant of VARIANTS.filter(({ name }) => values.only === undefined || name === values.only)) {
      const rounds: Round[] = [];
      for (let round = 0; round < Number(values.repetitions); round++) rounds.push(await repeat(url, flood, victim, variant));
      report(variant, rounds, bars);
    }
    const [outcomes] = (await ask(flood, 'outcomes')) as [Outcome[]];
    bars.check(
      outcomes.every((outcome) => outcome === COMPLETED),
      `the flood saw ${tally(outcomes)}`,
    );
    flood.disconnect();
    await ask(server, 'close');
    server.disconnect();
  } finally {
    await rm(folder, { recursive: true });
  }
  bars.report();
}

async function repeat(
  url: string,
  flood: ChildProcess,
  payloads: readonly Payload[],
  keys: (typeof VARIANTS)[number],
): Promise<Round> {
  const quiet = await latencies(url, keys.victim, payloads, seconds);
  await ask(flood, `start ${keys.flood}`);
  await pause(1000);
  const aloneRate = await rateOf(flood, () => pause(seconds * 1000));
  let flooded: number[] = [];
  const besideRate = await rateOf(flood, async () => {
    flooded = await latencies(url, keys.victim, payloads, seconds);
  });
  await ask(flood, 'stop');
  return { quiet, flooded, aloneRate, besideRate };
}

function report({ name, isJudged }: (typeof VARIANTS)[number], rounds: readonly Round[], bars: Bars): void {
  const median = (of: (round: Round) => number): number => quantile(rounds.map(of), 0.5);
  const ratios = (q: number): number[] => rounds.map(({ quiet, flooded }) => quantile(flooded, q) / quantile(quiet, q));
  const p95 = quantile(ratios(0.95), 0.5);
  const cells = [
    ...[0.5, 0.95].map((q) => median(({ quiet }) => quantile(quiet, q)).toFixed(1)),
    ...[0.5, 0.95].map((q) => median(({ flooded }) => quantile(flooded, q)).toFixed(1)),
    quantile(ratios(0.5), 0.5).toFixed(2),
    `**${p95.toFixed(2)}**`,
    ratios(0.95)
      .map((ratio) => ratio.toFixed(2))
      .join(', '),
    median(({ aloneRate }) => aloneRate).toFixed(1),
    median(({ besideRate }) => besideRate).toFixed(1),
    median(({ flooded }) => flooded.length / seconds).toFixed(1),
  ];
  console.log(`| ${name} | ${cells.join(' | ')} |`);
  if (isJudged)
    bars.check(
      p95 <= Number(values.bar),
      `${name}: p95 beside the flood is ${p95.toFixed(2)} times the quiet one, more than ${values.bar}`,
    );
}

/** Milliseconds of one caption after another, for so long. */
async function latencies(url: string, key: string, payloads: readonly Payload[], forSeconds: number): Promise<number[]> {
  const client = new Client(url, key);
  const taken: number[] = [];
  const endMs = performance.now() + forSeconds * 1000;
  let next = 0;
  const worker = async (): Promise<void> => {
    while (performance.now() < endMs) {
      const startMs = performance.now();
      const outcome = await client.outcome(payloads[next++ % payloads.length] as Payload);
      if (outcome !== COMPLETED) throw new Error(`Expected the victim's captions to come but received ${outcome}`);
      taken.push(performance.now() - startMs);
      if (values.pause !== '0') await pause(Number(values.pause));
    }
  };
  await Promise.all(Array.from({ length: Number(values.victim) }, worker));
  client.close();
  return taken;
}

/** Captions of the flood a second, meanwhile. */
async function rateOf(flood: ChildProcess, meanwhile: () => Promise<void>): Promise<number> {
  const startMs = performance.now();
  const [before] = (await ask(flood, 'count')) as [number];
  await meanwhile();
  const [after] = (await ask(flood, 'count')) as [number];
  return ((after - before) * 1000) / (performance.now() - startMs);
}

function quantile(numbers: readonly number[], q: number): number {
  return [...numbers].sort((a, b) => a - b)[Math.ceil(q * numbers.length) - 1] ?? Number.NaN;
}

/** Captions to ask for, each of another picture. */
async function payloadsOf(seed: number, count: number, adapterOf: (index: number) => string): Promise<Payload[]> {
  const payloads: Payload[] = [];
  for (let index = 0; index < count; index++) {
    const { jpeg } = await takePicture(sceneAt(seed, index), stream(seed, 'picture', index), PIXELS);
    payloads.push(await captionPayload({ image: jpeg, adapter: adapterOf(index) }));
  }
  return payloads;
}

/** Starts this file as another process; resolves once it is ready. */
async function startErrand(what: Errand): Promise<ChildProcess> {
  const env = { ...process.env, GRAFT_BENCH_ERRAND: JSON.stringify(what) };
  const child = fork(fileURLToPath(import.meta.url), process.argv.slice(2), { env });
  process.once('exit', () => child.kill('SIGKILL'));
  await once(child, 'message');
  return child;
}

async function ask(child: ChildProcess, message: string): Promise<unknown[]> {
  const answer = once(child, 'message');
  child.send(message);
  return (await answer) as unknown[];
}

/** The other processes: they say that they are ready, and answer what they are asked. */
async function run(what: Errand): Promise<void> {
  const answers = what.role === 'server' ? await serve(what.adapters) : await floods(what.url);
  process.on('message', (message) => {
    const [name = '', argument = ''] = String(message).split(' ');
    void Promise.resolve(answers[name]?.(argument)).then((answer) => process.send?.(answer ?? 'done'));
  });
  process.send?.('ready');
}

type Answers = Readonly<Record<string, (argument: string) => unknown>>;

async function serve(adapters: string): Promise<Answers> {
  const { threads } = values;
  const config = await loadConfig({ flags: { ...FLAGS, adapters, ...(threads && { threads }) }, env: {}, folder: adapters });
  const known = new Map<string, Tenant>();
  const tenants: Tenants = {
    isOpen: false,
    authenticate: (key = '') => {
      const tenant = known.get(key) ?? new Tenant({ name: key, isAdmin: true, weight: Number(key.split('-')[1]) });
      known.set(key, tenant);
      return tenant;
    },
  };
  const server = await startServer(config, {}, { tenants });
  await server.ready;
  return { url: () => server.url, close: () => server.close() };
}

async function floods(url: string): Promise<Answers> {
  const { adapters, pictures, seed } = FLOOD;
  const adapterOf = (index: number): string =>
    index % COLD_EVERY === 0 ? `cold-${index / COLD_EVERY}` : (adapters[index % adapters.length] ?? '');
  const payloads = await payloadsOf(seed, pictures, adapterOf);
  const outcomes: Outcome[] = [];
  let next = 0;
  let stop = async (): Promise<void> => undefined;
  const start = (key: string): void => {
    const client = new Client(url, key);
    const over = new AbortController();
    const worker = async (): Promise<void> => {
      while (!over.signal.aborted) outcomes.push(await client.outcome(payloads[next++ % payloads.length] as Payload));
    };
    const workers = Array.from({ length: Number(values.flood) }, worker);
    stop = async () => {
      over.abort();
      await Promise.all(workers);
      client.close();
    };
  };
  return { start, stop: () => stop(), count: () => outcomes.length, outcomes: () => outcomes };
}
