/** Whose files and jobs are whose: to everybody else they are what never was, word for word. */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type RunningServer, startServer } from '../../src/cli/serve.js';
import { loadConfig } from '../../src/config.js';
import { AppError } from '../../src/errors.js';
import { Tenant } from '../../src/tenants/tenant.js';
import type { Tenants } from '../../src/tenants/tenants.js';
import { begin, clientOf, colours, over, rowsOf, upload } from '../support/finetuning.js';
import { makeTinyFolder, tinyFlags } from '../support/server.js';

// What trains has a low priority: beside other tests it takes its time.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

const ALL = [new Tenant({ name: 'acme' }), new Tenant({ name: 'globex' }), new Tenant({ name: 'ops', isAdmin: true })];
const TENANTS: Tenants = {
  isOpen: false,
  authenticate: (key) => {
    const tenant = ALL.find(({ name }) => key === `key-of-${name}`);
    if (!tenant) throw new AppError('invalid_api_key', 'Expected a key but received another');
    return tenant;
  },
};

let folder: string;
let server: RunningServer;
let rows: string;
beforeAll(async () => {
  folder = await makeTinyFolder(['first']);
  rows = rowsOf(await colours());
  const maxTrainingBytes = String(3 * (Buffer.byteLength(rows) + 64 * 1024));
  const flags = {
    ...tinyFlags(folder),
    finetuning: path.join(folder, 'finetuning'),
    store: path.join(folder, 'store'),
    maxTrainingBytes,
  };
  server = await startServer(await loadConfig({ flags, env: {}, folder }), {}, { tenants: TENANTS });
  await server.ready;
});
afterAll(async () => {
  await server.close();
  await rm(folder, { recursive: true });
});

const as = (tenant: string): OpenAI => clientOf(server.url, `key-of-${tenant}`);

/** An answer's status and body, with the id taken out: all that could tell one refusal from another. */
async function refusal(tenant: string, method: string, route: string, id: string): Promise<[number, string]> {
  const headers = { authorization: `Bearer key-of-${tenant}` };
  const response = await fetch(`${server.url}/v1/${route.replace('ID', id)}`, { method, headers });
  return [response.status, (await response.text()).replaceAll(id, 'ID')];
}

describe('a file and a job of one tenant', () => {
  let file: string;
  let job: string;
  beforeAll(async () => {
    file = await upload(as('acme'), rows);
    job = (await begin(as('acme'), { training_file: file, model: 'tiny', suffix: 'dogs' }, { steps: 1 })).id;
    await over(as('acme'), job);
  });
  afterAll(() => as('acme').files.delete(file));

  test.each([
    ['GET', 'files/ID', 'file'],
    ['GET', 'files/ID/content', 'file'],
    ['DELETE', 'files/ID', 'file'],
    ['GET', 'fine_tuning/jobs/ID', 'job'],
    ['POST', 'fine_tuning/jobs/ID/cancel', 'job'],
    ['GET', 'fine_tuning/jobs/ID/events', 'job'],
  ] as const)('%s %s: another tenant gets the 404 of what never was', async (method, route, kind) => {
    const [id, never] = kind === 'file' ? [file, `file-${'a'.repeat(32)}`] : [job, `ftjob-${'a'.repeat(32)}`];
    const answer = await refusal('globex', method, route, id);
    expect(answer[0]).toBe(404);
    expect(answer).toEqual(await refusal('globex', method, route, never));
    // It is there, and its owner and an operator see it.
    for (const tenant of ['acme', 'ops']) {
      expect((await as(tenant).files.retrieve(file)).id).toBe(file);
      expect((await as(tenant).fineTuning.jobs.retrieve(job)).status).toBe('succeeded');
    }
  });

  test('are in nobody else’s lists, are no place in them, and nothing to begin with', async () => {
    const other = as('globex');
    expect((await other.files.list()).data).toEqual([]);
    expect((await other.fineTuning.jobs.list()).data).toEqual([]);
    await expect(other.fineTuning.jobs.list({ after: job })).rejects.toMatchObject({ status: 400, param: 'after' });
    const create = (body: object) => begin(other, { training_file: file, model: 'tiny', ...body }, {});
    await expect(create({})).rejects.toMatchObject({ status: 404, param: 'training_file' });
    const training_file = await upload(other, rows);
    await expect(create({ training_file, model: 'acme/dogs' })).rejects.toMatchObject({ status: 404, code: 'adapter_not_found' });
    await other.files.delete(training_file);
    expect((await as('ops').fineTuning.jobs.list()).data.map(({ id }) => id)).toContain(job);
  });

  test('make an adapter of that tenant’s own in the store, and another of the same name a version of it', async () => {
    const client = as('acme');
    const done = await client.fineTuning.jobs.retrieve(job);
    expect(done).toMatchObject({ fine_tuned_model: 'acme/dogs', organization_id: 'acme', graft: { version: 1 } });
    expect((await client.models.retrieve('acme/dogs')).id).toBe('acme/dogs');
    await expect(as('globex').models.retrieve('acme/dogs')).rejects.toMatchObject({ status: 404 });
    const next = await begin(client, { training_file: file, model: 'acme/dogs', suffix: 'dogs' }, { steps: 1 });
    expect(await over(client, next.id)).toMatchObject({
      status: 'succeeded',
      graft: { version: 2, from: { name: 'acme/dogs' } },
    });
    const headers = { authorization: 'Bearer key-of-acme' };
    const adapter: unknown = await (await fetch(`${server.url}/v1/adapters/acme/dogs`, { headers })).json();
    expect(adapter).toMatchObject({ current: 2, versions: [{ version: 1 }, { version: 2 }] });
  });
});

describe('a tenant has bounds of its own:', () => {
  test('room for its files', async () => {
    const client = as('globex');
    const files = [await upload(client, rows), await upload(client, rows), await upload(client, rows)];
    await expect(upload(client, rows)).rejects.toMatchObject({ status: 413, code: 'payload_too_large', param: 'file' });
    // Others have theirs, and what was refused takes no room.
    await as('acme').files.delete(await upload(as('acme'), rows));
    await client.files.delete(files.pop() ?? '');
    files.push(await upload(client, rows));
    for (const file of files) await client.files.delete(file);
  });

  test('jobs that wait', async () => {
    const client = as('globex');
    const training_file = await upload(client, rows);
    const create = () => begin(client, { training_file, model: 'tiny' }, { steps: 1_000_000 });
    const jobs: string[] = [];
    for (let index = 0; index < 20; index++) jobs.push((await create()).id);
    await expect(create()).rejects.toMatchObject({ status: 429, code: 'queue_full' });
    for (const id of jobs.reverse()) await client.fineTuning.jobs.cancel(id);
    expect((await begin(client, { training_file, model: 'tiny' }, { steps: 1 })).object).toBe('fine_tuning.job');
  });
});

test('without a key there is nothing', async () => {
  await expect(clientOf(server.url, 'none').files.list()).rejects.toMatchObject({ status: 401, code: 'invalid_api_key' });
});
