/**
 * `npm run bench:resilience`: what clients get when a process is killed under them, how soon the next caption succeeds, and whether anything stays
 * behind: leases, rows, waiting requests, file descriptors. Then the same for the image process, and for SIGTERM. Needs a build, and Linux.
 *
 *     npm run bench:resilience -- [--rounds 5] [--clients 16] [--gap 10500]
 */
import { connect } from 'node:net';
import { parseArgs } from 'node:util';
import { Client, COMPLETED, captionPayload, EVENT_RETRY, type Outcome, type Payload, STATUS_RETRY, tally } from './client.js';
import { Bars, descriptorsOf, isAtRest, jpeg, pause, type Rest, Served, settle, until, Workshop } from './server.js';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    clients: { type: 'string', default: '16' },
    // Longer than the time after which an image process's earlier death is forgotten: each kill is then a first one.
    gap: { type: 'string', default: '10500' },
  },
});
const rounds = Number(values.rounds);
const clients = Number(values.clients);
/** Decodes inside one image process; the others wait in the front end. */
const INSIDE = 2;
/** Large enough that sixteen of them keep the image process busy for a second or more. */
const LARGE = { width: 6000, height: 4000 };

const bars = new Bars();
const workshop = await Workshop.open();
try {
  const names = await workshop.writeAdapters(4);
  const photos = await Promise.all(Array.from({ length: clients }, (_, seed) => jpeg(320, 240, seed)));
  const large = await Promise.all(Array.from({ length: clients }, (_, seed) => jpeg(LARGE.width, LARGE.height, seed)));
  /** Hot and long, so that it runs until it is told to stop; another adapter each, another image each. */
  const long = (index: number, stream: boolean, images = photos): Promise<Payload> =>
    captionPayload({
      image: images[index % images.length] ?? Buffer.alloc(0),
      adapter: names[index % names.length] ?? '',
      stream: String(stream),
      temperature: '2',
      max_tokens: '256',
    });
  const streams = await Promise.all(photos.map((_, index) => long(index, true)));
  const whole = await Promise.all(photos.slice(0, clients / 2).map((_, index) => long(index, false)));
  const uploads = await Promise.all(
    large.map((image, index) => captionPayload({ image, adapter: names[index % names.length] ?? '', max_tokens: '5' })),
  );
  const short = await captionPayload({ image: photos[0] ?? Buffer.alloc(0), adapter: names[0] ?? '', max_tokens: '5' });

  const server = await Served.start(workshop, { maxBatch: '32' });
  console.log(`backbone ${workshop.backboneName}, ${clients} clients\n`);
  const probe = async <T>(act: (client: Client) => Promise<T>): Promise<T> => {
    const client = new Client(server.url);
    try {
      return await act(client);
    } finally {
      client.close();
    }
  };
  await probe((client) => client.outcome(short));
  const descriptors = await quietDescriptors(server);

  console.log(`Engine process killed under ${streams.length} streams and ${whole.length} whole requests`);
  console.log('| round | streams | whole requests | a caption succeeds after ms | left behind | restarts | descriptors |');
  console.log('|---|---|---|---|---|---|---|');
  for (let round = 1; round <= rounds; round++) {
    await probe(async (client) => {
      const open = begin(client, streams);
      const asked = whole.map((payload) => client.outcome(payload));
      await open.allBegun;
      await until('all requests run', async () => {
        const running = (await client.metrics()).get('graft_num_requests_running') ?? 0;
        return running >= streams.length + whole.length || (await isAnySettled(asked));
      });
      const { engine } = server;
      process.kill(engine as number, 'SIGKILL');
      const killedMs = performance.now();
      const tries: Outcome[] = [];
      // What comes while it starts again waits for it; what comes before its end is noticed is lost with it.
      await until(
        'a caption succeeds again',
        async () => tries.push(await client.outcome(short)) > 0 && tries.at(-1) === COMPLETED,
      );
      const nextMs = performance.now() - killedMs;
      const [streamed, replied] = [await open.outcomes, await Promise.all(asked)];
      const rest = await settle(client);
      const restarts = (await client.metrics()).get('graft_engine_restarts_total');
      const held = (await client.get('/v1/adapters')).body.data?.reduce((sum, { leases = 0 }) => sum + leases, 0);
      client.close();
      const now = await quietDescriptors(server);
      console.log(
        `| ${round} | ${tally(streamed)} | ${tally(replied)} | ${nextMs.toFixed(0)} (tries: ${tries.length}) | ${told(rest)} | ${restarts} | ${now} (first ${descriptors}) |`,
      );
      bars.check(only(streamed, [COMPLETED, EVENT_RETRY]), `engine, round ${round}: a stream got ${tally(streamed)}`);
      bars.check(only(replied, [COMPLETED, STATUS_RETRY]), `engine, round ${round}: a request got ${tally(replied)}`);
      bars.check(only(tries, [COMPLETED, STATUS_RETRY]), `engine, round ${round}: captions got ${tally(tries)}`);
      bars.check(isAtRest(rest) && held === 0, `engine, round ${round}: ${told(rest)}, ${held} leases in /v1/adapters`);
      bars.check(restarts === round, `engine, round ${round}: ${restarts} restarts`);
      bars.check(now <= descriptors, `engine, round ${round}: ${now} descriptors, ${descriptors} at first`);
    });
  }

  const image = `${LARGE.width} × ${LARGE.height} JPEG`;
  console.log(`\nImage process killed under ${uploads.length} uploads of a ${image}, while 4 streams run`);
  console.log('| round | uploads | streams | a caption sent then takes ms | left behind | restarts | descriptors |');
  console.log('|---|---|---|---|---|---|---|');
  for (let round = 1; round <= rounds; round++) {
    await pause(Number(values.gap));
    await probe(async (client) => {
      const open = begin(client, streams.slice(0, 4));
      await open.allBegun;
      const asked = uploads.map((payload) => client.outcome(payload));
      await until(
        'the uploads wait',
        async () => ((await client.metrics()).get('graft_queue_length') ?? 0) >= uploads.length / 2,
      );
      const [pid] = server.images;
      process.kill(pid as number, 'SIGKILL');
      const killedMs = performance.now();
      const tries: Outcome[] = [];
      await until('a caption succeeds', async () => tries.push(await client.outcome(short)) > 0 && tries.at(-1) === COMPLETED);
      const nextMs = performance.now() - killedMs;
      const [streamed, replied] = [await open.outcomes, await Promise.all(asked)];
      const rest = await settle(client);
      const restarts = (await client.metrics()).get('graft_image_process_restarts_total');
      client.close();
      const now = await quietDescriptors(server);
      console.log(
        `| ${round} | ${tally(replied)} | ${tally(streamed)} | ${nextMs.toFixed(0)} (tries: ${tries.length}) | ${told(rest)} | ${restarts} | ${now} (first ${descriptors}) |`,
      );
      const lost = replied.filter((outcome) => outcome === STATUS_RETRY).length;
      bars.check(only(replied, [COMPLETED, STATUS_RETRY]), `image, round ${round}: an upload got ${tally(replied)}`);
      bars.check(lost <= INSIDE, `image, round ${round}: ${lost} uploads lost where at most ${INSIDE} were inside`);
      bars.check(only(streamed, [COMPLETED]), `image, round ${round}: a stream got ${tally(streamed)}`);
      bars.check(only(tries, [COMPLETED, STATUS_RETRY]), `image, round ${round}: captions got ${tally(tries)}`);
      bars.check(isAtRest(rest), `image, round ${round}: ${told(rest)}`);
      bars.check(restarts === round, `image, round ${round}: ${restarts} restarts`);
      bars.check(now <= descriptors, `image, round ${round}: ${now} descriptors, ${descriptors} at first`);
    });
  }

  console.log(`\nSIGTERM under ${streams.length} streams and ${whole.length} whole requests`);
  const client = new Client(server.url);
  const open = begin(client, streams);
  const asked = whole.map((payload) => client.outcome(payload));
  await open.allBegun;
  const children = [server.engine, ...server.images].filter((pid) => pid !== undefined);
  const signalledMs = performance.now();
  const exit = server.stop('SIGTERM');
  await pause(100);
  const refused = await isRefused(server.url);
  const outcomes = [...(await open.outcomes), ...(await Promise.all(asked))];
  const code = await exit;
  client.close();
  console.log(`requests: ${tally(outcomes)}`);
  console.log(
    `new connections: ${refused ? 'refused' : 'ACCEPTED'}; exit code ${code} after ${(performance.now() - signalledMs).toFixed(0)} ms`,
  );
  bars.check(only(outcomes, [COMPLETED]), `SIGTERM: requests got ${tally(outcomes)}`);
  bars.check(refused, 'SIGTERM: a new connection was accepted');
  bars.check(code === 0, `SIGTERM: exit code ${code}`);
  bars.check(!children.some(isAlive), 'SIGTERM: a child process outlived the server');
} finally {
  await workshop.close();
}
bars.report();

/** Starts streams; `allBegun` resolves when each has its first event, or has ended without one. */
function begin(client: Client, payloads: readonly Payload[]): { allBegun: Promise<unknown>; outcomes: Promise<Outcome[]> } {
  const begun: Promise<unknown>[] = [];
  const outcomes = payloads.map((payload) => {
    let onFirstByte = (): void => {};
    const first = new Promise<void>((resolve) => {
      onFirstByte = resolve;
    });
    const outcome = client.outcome(payload, { onFirstByte });
    begun.push(Promise.race([first, outcome]));
    return outcome;
  });
  return { allBegun: Promise.all(begun), outcomes: Promise.all(outcomes) };
}

function isAnySettled(promises: readonly Promise<unknown>[]): Promise<boolean> {
  return Promise.race([...promises.map((promise) => promise.then(() => true)), pause(0).then(() => false)]);
}

function only(outcomes: readonly Outcome[], allowed: readonly Outcome[]): boolean {
  return outcomes.every((outcome) => allowed.includes(outcome));
}

function told({ leases, running, waiting, queued }: Rest): string {
  return `${leases} leases, ${running} running, ${waiting} waiting, ${queued} queued`;
}

/** The front end's descriptors once the connections of earlier clients are gone. */
async function quietDescriptors(server: Served): Promise<number> {
  let last = descriptorsOf(server.pid);
  for (let same = 0; same < 5; ) {
    await pause(50);
    const now = descriptorsOf(server.pid);
    same = now === last ? same + 1 : 0;
    last = now;
  }
  return last;
}

function isRefused(url: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(false);
    });
    socket.once('error', () => resolve(true));
  });
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
