/**
 * `npm run bench:memory`: whether memory stays bounded. A thousand adapters pass through a cache that holds few of them, twice; then thousands of
 * short requests, of which every third client leaves at a random moment. Resident memory and descriptors must be flat, and nothing may stay behind.
 * Needs a build, and Linux.
 *
 *     npm run bench:memory -- [--adapters 1000] [--cache 64MB] [--requests 10000] [--leaving 0.3] [--concurrency 32]
 */
import { rename } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Gaussian } from '../test/support/tiny.js';
import { CLIENT_LEFT, Client, COMPLETED, captionPayload, jsonPayload, type Outcome, type Payload, tally } from './client.js';
import { Bars, descriptorsOf, isAtRest, jpeg, pause, residentMb, Served, settle, until, variantOf, Workshop } from './server.js';

const { values } = parseArgs({
  options: {
    adapters: { type: 'string', default: '1000' },
    cache: { type: 'string', default: '64MB' },
    requests: { type: 'string', default: '10000' },
    leaving: { type: 'string', default: '0.3' },
    concurrency: { type: 'string', default: '32' },
  },
});
const count = Number(values.adapters);
const requests = Number(values.requests);
/** Adapters with tensors of their own; the others are hard links to theirs, with another manifest. */
const ORIGINALS = 16;
const IMAGES = 8;
/** A client that leaves does so within this time; a request takes about as long. */
const LEAVES_WITHIN_MS = 150;
/** What a garbage collector may leave lying around between two samples of something that does not grow. */
const SLACK_MB = 48;

const bars = new Bars();
const random = new Gaussian(1);
const workshop = await Workshop.open();
try {
  process.stderr.write(`writing ${count} adapters ...\n`);
  const store = path.join(workshop.folder, 'store');
  for (let seed = 0; seed < ORIGINALS; seed++) await workshop.writeAdapter(path.join(store, `original-${seed}`), seed);
  const names = Array.from({ length: count }, (_, index) => `adapter-${index}`);
  for (const [index, name] of names.entries())
    await variantOf(path.join(store, `original-${index % ORIGINALS}`), path.join(store, name), `task ${index}`);

  const server = await Served.start(workshop, { adapterCacheBytes: values.cache, visionCacheBytes: '16MB' });
  const client = new Client(server.url);
  const image = await jpeg(320, 240);
  console.log(`backbone ${workshop.backboneName}, adapter cache ${values.cache}\n`);

  const startMs = performance.now();
  for (const name of names) await rename(path.join(store, name), path.join(workshop.adapters, name));
  await until('all adapters are registered', async () => (await client.get('/health/ready')).body['adapters'] === count);
  console.log(`${count} adapters moved into a served folder, registered after ${(performance.now() - startMs).toFixed(0)} ms`);
  const digests = new Set((await client.get('/v1/adapters')).body.data?.map(({ digest }) => digest));
  bars.check(digests.size === count, `registration: ${digests.size} digests of ${count} adapters`);

  console.log(
    '\n| after | engine MB | front end MB | cache MB | adapters in it | loads | evictions |\n|---|---|---|---|---|---|---|',
  );
  /** Engine MB since the first eviction: from there on it must not grow. */
  const full: number[] = [];
  const sample = async (label: string): Promise<void> => {
    const metrics = await client.metrics();
    const value = (name: string): number => metrics.get(`graft_${name}`) ?? Number.NaN;
    const engine = residentMb(server.engine);
    const cells = [
      engine,
      residentMb(server.pid),
      (value('adapter_cache_bytes{tier="ram"}') / 1e6).toFixed(1),
      value('adapters_resident'),
      value('adapter_loads_total'),
      value('adapter_evictions_total'),
    ];
    console.log(`| ${label} | ${cells.join(' | ')} |`);
    bars.check(
      value('adapter_cache_bytes{tier="ram"}') <= value('adapter_cache_capacity_bytes{tier="ram"}'),
      `${label}: the cache is over its bound`,
    );
    if (value('adapter_evictions_total') > 0) full.push(engine);
  };
  await sample('start');
  for (let round = 1; round <= 2; round++) {
    const outcomes: Outcome[] = [];
    for (let quarter = 0; quarter < 4; quarter++) {
      const asked = names.slice((quarter * count) / 4, ((quarter + 1) * count) / 4);
      const payloads = asked.map((adapter) => () => captionPayload({ image, adapter, max_tokens: '3' }));
      outcomes.push(...(await inTurn(payloads, 4, async (payload) => client.outcome(await payload()))));
      await sample(`round ${round}, ${((quarter + 1) * count) / 4} adapters`);
    }
    bars.check(
      outcomes.every((outcome) => outcome === COMPLETED),
      `adapters in turn, round ${round}: ${tally(outcomes)}`,
    );
  }
  const growth = Math.max(...full) - (full[0] ?? Number.NaN);
  bars.check(growth <= SLACK_MB, `adapters in turn: the engine grew by ${growth} MB after its cache was full`);

  console.log(
    `\n${requests} requests, ${values.concurrency} at a time, ${Number(values.leaving) * 100} % of the clients leave within ${LEAVES_WITHIN_MS} ms`,
  );
  console.log('\n| after | engine MB | front end MB | image MB | descriptors (front, engine, image) |\n|---|---|---|---|---|');
  const pool = await payloadPool(names.slice(0, 40));
  const counted = async (): Promise<number> =>
    [...(await client.metrics())].reduce(
      (sum, [name, value]) => (/^graft_requests_total\{route="\/v1\/(captions|completions)"/.test(name) ? sum + value : sum),
      0,
    );
  const countedBefore = await counted();
  const outcomes: Outcome[] = [];
  const figures: { engine: number; front: number; images: number; descriptors: number }[] = [];
  // The first tenth warms up: buffers, compiled code, the features of the images.
  const parts = [0.1, ...Array.from({ length: 5 }, () => 0.18)];
  for (const part of parts) {
    const load = Array.from({ length: Math.round(part * requests) }, () => pick(pool));
    outcomes.push(...(await inTurn(load, Number(values.concurrency), (payload) => client.outcome(payload, leaving()))));
    client.close();
    await pause(200);
    const { pid, engine, images } = server;
    const pids = [pid, engine, images[0]].filter((each) => each !== undefined);
    const descriptors = pids.map(descriptorsOf);
    const figure = {
      engine: residentMb(engine),
      front: residentMb(pid),
      images: residentMb(images[0]),
      descriptors: descriptors.reduce((a, b) => a + b, 0),
    };
    figures.push(figure);
    console.log(`| ${outcomes.length} | ${figure.engine} | ${figure.front} | ${figure.images} | ${descriptors.join(', ')} |`);
  }
  const rest = await settle(client);
  const answered = (await counted()) - countedBefore;
  console.log(`\nclients saw: ${tally(outcomes)}`);
  console.log(
    `the server ended ${answered} of ${outcomes.length} requests that clients began (a client may leave before it is seen)`,
  );
  console.log(`left behind: ${rest.leases} leases, ${rest.running} running, ${rest.waiting} waiting, ${rest.queued} queued`);
  bars.check(isAtRest(rest), `disconnects: ${JSON.stringify(rest)} left behind`);
  bars.check(
    outcomes.every((outcome) => outcome === COMPLETED || outcome === CLIENT_LEFT),
    `disconnects: clients saw ${tally(outcomes)}`,
  );
  const [first, last] = [figures[0], figures.at(-1)];
  if (first && last) {
    for (const part of ['engine', 'front', 'images'] as const)
      bars.check(last[part] - first[part] <= SLACK_MB, `disconnects: ${part} grew from ${first[part]} to ${last[part]} MB`);
    bars.check(
      last.descriptors <= first.descriptors,
      `disconnects: ${last.descriptors} descriptors, ${first.descriptors} at first`,
    );
  }
  const restarts = (await client.metrics()).get('graft_engine_restarts_total');
  bars.check(restarts === 0, `${restarts} restarts of the engine`);
  client.close();
  bars.check((await server.stop()) === 0, 'the server did not end with 0');
} finally {
  await workshop.close();
}
bars.report();

/** Runs all, `concurrency` at a time. */
async function inTurn<T>(items: readonly T[], concurrency: number, run: (item: T) => Promise<Outcome>): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  const queue = items.values();
  const worker = async (): Promise<void> => {
    for (const item of queue) outcomes.push(await run(item));
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  return outcomes;
}

/** Captions and completions, streamed and whole, of a few images and more adapters than the cache is asked for at once. */
async function payloadPool(names: readonly string[]): Promise<Payload[]> {
  const images = await Promise.all(Array.from({ length: IMAGES }, (_, seed) => jpeg(160, 120, seed)));
  const captions = names.map((adapter, index) =>
    captionPayload({ image: images[index % IMAGES] ?? image(), adapter, max_tokens: '3', stream: String(index % 2 === 0) }),
  );
  const completions = names.map((model, index) =>
    jsonPayload('/v1/completions', {
      model: index % 4 === 0 ? workshop.backboneName : model,
      prompt: 'the cat',
      max_tokens: 3,
      stream: index % 2 === 0,
    }),
  );
  return [...(await Promise.all(captions)), ...completions];
}

function image(): Buffer {
  throw new TypeError('Expected an image');
}

function pick<T>(items: readonly T[]): T {
  const item = items[Math.floor(random.uniform() * items.length)];
  if (item === undefined) throw new RangeError('Expected at least one item');
  return item;
}

/** Some clients leave: before their request is complete, while it waits, or within its reply. */
function leaving(): { signal?: AbortSignal } {
  if (random.uniform() >= Number(values.leaving)) return {};
  const controller = new AbortController();
  setTimeout(() => controller.abort(), random.uniform() * LEAVES_WITHIN_MS);
  return { signal: controller.signal };
}
