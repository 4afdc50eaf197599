/**
 * `npm run bench:soak`: a server with two tenants, for a long time, while everything changes: fifty adapters are asked for by clients of whom many
 * leave, versions are uploaded, split, rolled back and deleted, and the file of tenants is written anew every few seconds. No answer may be a 5xx,
 * nothing may stay behind (leases, rows, descriptors), and memory must be flat. Needs a build, and Linux.
 *
 *     npm run bench:soak -- [--minutes 10] [--clients 8] [--leaving 0.3]
 */

import { createHash, randomBytes } from 'node:crypto';
import { rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Gaussian } from '../test/support/tiny.js';
import { adapterForm } from '../test/support/upload.js';
import { CLIENT_LEFT, Client, COMPLETED, captionPayload, type Outcome, type Payload, tally } from './client.js';
import { Bars, descriptorsOf, isAtRest, jpeg, pause, residentMb, Served, settle, Workshop } from './server.js';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    clients: { type: 'string', default: '8' },
    leaving: { type: 'string', default: '0.3' },
  },
});
const durationMs = Number(values.minutes) * 60_000;
const ADAPTERS = 50;
const IMAGES = 12;
/** Names that each tenant publishes under. */
const SLOTS = 4;
const RELOAD_EVERY_MS = 5_000;
const PUBLISH_EVERY_MS = 1_500;
const LEAVES_WITHIN_MS = 150;
/** What a garbage collector may leave lying around between two samples of something that does not grow. */
const SLACK_MB = 64;
const TENANTS = ['acme', 'corner'] as const;

const bars = new Bars();
const random = new Gaussian(1);
const keys = Object.fromEntries(['ops', ...TENANTS].map((name) => [name, `graft_${randomBytes(32).toString('base64url')}`]));
const workshop = await Workshop.open();
const tenantsFile = path.join(workshop.folder, 'tenants.yaml');

/** The file is replaced, never half there; another weight each time, so that it is another. */
async function writeTenants(turn: number): Promise<void> {
  const lines = Object.entries(keys).map(([name, key]) => {
    const sha256 = createHash('sha256').update(key).digest('hex');
    const rights = name === 'ops' ? 'admin: true' : `adapters: ["adapter-*"], weight: ${1 + ((turn + name.length) % 3)}`;
    return `  ${name}: { keys: [{ id: soak, sha256: ${sha256} }], ${rights} }`;
  });
  await writeFile(`${tenantsFile}.tmp`, `tenants:\n${lines.join('\n')}\n`);
  await rename(`${tenantsFile}.tmp`, tenantsFile);
}

const pick = <T>(items: readonly T[]): T => items[Math.floor(random.uniform() * items.length)] as T;

try {
  const names = await workshop.writeAdapters(ADAPTERS);
  const originals = await Promise.all(
    Array.from({ length: 6 }, async (_, index) => {
      const folder = path.join(workshop.folder, `original-${index}`);
      await workshop.writeAdapter(folder, 1000 + index);
      return folder;
    }),
  );
  await writeTenants(0);
  const server = await Served.start(workshop, {
    tenants: tenantsFile,
    store: path.join(workshop.folder, 'store'),
    adapterCacheBytes: '24MB',
    visionCacheBytes: '16MB',
  });
  const operator = new Client(server.url, keys['ops']);
  console.log(`backbone ${workshop.backboneName}, ${values.minutes} minutes, ${values.clients} clients a tenant\n`);

  const images = await Promise.all(Array.from({ length: IMAGES }, (_, seed) => jpeg(320, 240, seed)));
  const endMs = performance.now() + durationMs;
  const isOver = (): boolean => performance.now() >= endMs;
  const outcomes: Outcome[] = [];
  const changes: Outcome[] = [];

  /** Asks for what everybody sees, and for what its own tenant publishes and deletes meanwhile. */
  const client = async (tenant: string): Promise<void> => {
    const own = new Client(server.url, keys[tenant]);
    while (!isOver()) {
      const isOwn = random.uniform() < 0.2;
      const adapter = isOwn ? `${tenant}/slot-${Math.floor(random.uniform() * SLOTS)}` : pick(names);
      const fields = { image: pick(images), adapter, max_tokens: '12', stream: String(random.uniform() < 0.5), temperature: '1' };
      const payload: Payload = await captionPayload(fields);
      const leaves = random.uniform() < Number(values.leaving);
      const options = leaves ? { signal: AbortSignal.timeout(1 + Math.floor(random.uniform() * LEAVES_WITHIN_MS)) } : {};
      const outcome = await own.outcome(payload, options);
      outcomes.push(isOwn && outcome === '404 adapter_not_found' ? 'its own name was not there' : outcome);
    }
    own.close();
  };

  const send = async (tenant: string, method: string, at: string, body?: FormData | object): Promise<void> => {
    const isForm = body instanceof FormData;
    const response = await fetch(`${server.url}/v1/adapters/${at}`, {
      method,
      headers: { authorization: `Bearer ${keys[tenant]}`, ...(isForm || !body ? {} : { 'content-type': 'application/json' }) },
      ...(body ? { body: isForm ? body : JSON.stringify(body) } : {}),
    });
    await response.text();
    changes.push(`${response.status} for ${method}${/:\w+$/.exec(at)?.[0] ?? ''}`);
  };

  /** Publishes, splits, rolls back and deletes; some of it is refused, because of what it did before. */
  const publisher = async (tenant: string): Promise<void> => {
    for (let turn = 0; !isOver(); turn++) {
      const name = `${tenant}/slot-${turn % SLOTS}`;
      await send(tenant, 'PUT', name, await adapterForm(pick(originals)));
      if (turn % 3 === 0) await send(tenant, 'POST', `${name}:split`, { versions: { 1: 50, 2: 50 } });
      if (turn % 3 === 1) await send(tenant, 'POST', `${name}:rollback`, {});
      if (turn % 5 === 4) await send(tenant, 'DELETE', name);
      await pause(PUBLISH_EVERY_MS);
    }
  };

  const reloader = async (): Promise<void> => {
    for (let turn = 1; !isOver(); turn++) {
      await pause(RELOAD_EVERY_MS);
      await writeTenants(turn);
    }
  };

  const samples: { front: number; engine: number; images: number; descriptors: number }[] = [];
  const sampler = async (): Promise<void> => {
    console.log('| minute | requests | changes | front MB | engine MB | image MB | descriptors |\n|---|---|---|---|---|---|---|');
    const everyMs = Math.max(5_000, durationMs / 20);
    for (let at = 1; !isOver(); at++) {
      await pause(Math.min(everyMs, Math.max(0, endMs - performance.now())));
      const pids = [server.pid, server.engine, server.images[0]].filter((pid) => pid !== undefined);
      const sample = {
        front: residentMb(server.pid),
        engine: residentMb(server.engine),
        images: residentMb(server.images[0]),
        descriptors: pids.map(descriptorsOf).reduce((a, b) => a + b, 0),
      };
      samples.push(sample);
      const minute = ((at * everyMs) / 60_000).toFixed(1);
      console.log(
        `| ${minute} | ${outcomes.length} | ${changes.length} | ${sample.front} | ${sample.engine} | ${sample.images} | ${sample.descriptors} |`,
      );
    }
  };

  const clients = TENANTS.flatMap((tenant) => Array.from({ length: Number(values.clients) }, () => client(tenant)));
  await Promise.all([...clients, ...TENANTS.map(publisher), reloader(), sampler()]);

  const rest = await settle(operator);
  console.log(`\nclients saw: ${tally(outcomes)}`);
  console.log(`publishers saw: ${tally(changes.toSorted())}`);
  console.log(`left behind: ${rest.leases} leases, ${rest.running} running, ${rest.waiting} waiting, ${rest.queued} queued`);
  const fine: readonly Outcome[] = [COMPLETED, CLIENT_LEFT, 'its own name was not there'];
  bars.check(
    outcomes.every((outcome) => fine.includes(outcome)),
    `clients saw ${tally(outcomes.filter((outcome) => !fine.includes(outcome)))}`,
  );
  bars.check(
    changes.every((outcome) => /^(2\d\d|400|404|409) /.test(outcome)),
    `publishers saw ${tally(changes)}`,
  );
  bars.check(isAtRest(rest), `${JSON.stringify(rest)} left behind`);
  // The first fifth warms up: buffers, compiled code, caches.
  const [first, last] = [samples[Math.floor(samples.length / 5)], samples.at(-1)];
  if (first && last) {
    for (const part of ['front', 'engine', 'images'] as const)
      bars.check(last[part] - first[part] <= SLACK_MB, `${part} grew from ${first[part]} to ${last[part]} MB`);
    const slack = 2 * Number(values.clients);
    bars.check(
      last.descriptors <= first.descriptors + slack,
      `descriptors grew from ${first.descriptors} to ${last.descriptors}`,
    );
  }
  operator.close();
  bars.check((await server.stop()) === 0, 'the server ends by itself');
} finally {
  await workshop.close();
}
bars.report();
