/** Whose files and jobs are whose: to everybody else they are what never was, word for word. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import express from 'express';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AppError } from '../../src/errors.js';
import { Finetuning } from '../../src/finetuning/finetuning.js';
import type { Publisher } from '../../src/finetuning/publisher.js';
import { errorHandler } from '../../src/http/errors.js';
import { openExchange } from '../../src/http/exchange.js';
import { fileRoutes } from '../../src/http/files.js';
import { finetuningRoutes } from '../../src/http/finetuning.js';
import { mount } from '../../src/http/route.js';
import { HttpServer } from '../../src/http/server.js';
import type { Services } from '../../src/http/services.js';
import { Tenant } from '../../src/tenants/tenant.js';
import type { Tenants } from '../../src/tenants/tenants.js';
import { clientOf, colours, over, rowsOf, upload } from '../support/finetuning.js';
import { makeTinyBackbone } from '../support/tiny.js';

const KEYS = new Map(
  [new Tenant({ name: 'acme' }), new Tenant({ name: 'globex' }), new Tenant({ name: 'ops', isAdmin: true })].map((tenant) => [
    `key-of-${tenant.name}`,
    tenant,
  ]),
);
const TENANTS: Tenants = {
  isOpen: false,
  authenticate: (key = '') => {
    const tenant = KEYS.get(key);
    if (!tenant) throw new AppError('invalid_api_key', 'Expected a key but received another');
    return tenant;
  },
};

let folder: string;
let finetuning: Finetuning;
let server: HttpServer;
let rows: string;
const published: [string, string][] = [];
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-tenants-'));
  await makeTinyBackbone(path.join(folder, 'backbone'));
  await mkdir(path.join(folder, 'finetuning'));
  rows = rowsOf(await colours());
  const publisher: Publisher = {
    check: () => Promise.resolve(),
    publish: (name, _, by) => {
      published.push([name, by]);
      return Promise.resolve({ version: published.length, digest: `sha256:${'0'.repeat(64)}` });
    },
  };
  const settings = {
    folder: path.join(folder, 'finetuning'),
    backbone: path.join(folder, 'backbone'),
    seesImages: true,
    maxTrainingBytes: Buffer.byteLength(rows) * 3,
    maxImageBytes: 1e6,
    maxImagePixels: 1e6,
    threads: 1,
    jobs: 1,
    env: process.env,
  };
  const quiet = () => undefined;
  finetuning = new Finetuning(settings, publisher, { changed: quiet, stepped: quiet, ended: quiet, note: quiet });
  await finetuning.start();
  const config = { maxTrainingBytes: settings.maxTrainingBytes, requestTimeoutMs: 60_000 };
  // Only what these routes look at.
  const services = { config, backbone: 'tiny', finetuning } as unknown as Services;
  const app = express().use(openExchange);
  mount(app, TENANTS, [...fileRoutes(services), ...finetuningRoutes(services)]);
  app.use(errorHandler);
  server = await HttpServer.listen(app, { host: '127.0.0.1', port: 0 });
});
afterAll(async () => {
  await finetuning.close();
  server.close();
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
    job = (await as('acme').fineTuning.jobs.create({ training_file: file, model: 'tiny', ...{ graft: { steps: 1 } } })).id;
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
});

describe('files and jobs of a tenant', () => {
  test('are in nobody else’s lists, and no place in them', async () => {
    const file = await upload(as('acme'), rows);
    const { id } = await as('acme').fineTuning.jobs.create({ training_file: file, model: 'tiny', suffix: 'dogs', ...{ graft: { steps: 1 } } });
    const job = await over(as('acme'), id);
    expect(job).toMatchObject({ fine_tuned_model: 'acme/dogs', organization_id: 'acme' });
    expect(published.at(-1)).toEqual(['acme/dogs', 'acme']);
    const other = as('globex');
    expect((await other.files.list()).data).toEqual([]);
    expect((await other.fineTuning.jobs.list()).data).toEqual([]);
    await expect(other.fineTuning.jobs.list({ after: id })).rejects.toMatchObject({ status: 400, param: 'after' });
    const create = other.fineTuning.jobs.create({ training_file: file, model: 'tiny' });
    await expect(create).rejects.toMatchObject({ status: 404, param: 'training_file' });
    expect((await as('ops').fineTuning.jobs.list()).data.map((each) => each.id)).toContain(id);
    await as('acme').files.delete(file);
  });

  test('have bounds of their own: room for files, and jobs that wait', async () => {
    const client = as('globex');
    const files = [await upload(client, rows), await upload(client, rows), await upload(client, rows)];
    await expect(upload(client, rows)).rejects.toMatchObject({ status: 413, code: 'payload_too_large', param: 'file' });
    // Others have theirs, and what was refused takes no room.
    await as('acme').files.delete(await upload(as('acme'), rows));
    await client.files.delete(files[0] ?? '');
    await client.files.delete(await upload(client, rows));

    const create = () => client.fineTuning.jobs.create({ training_file: files[1] ?? '', model: 'tiny', ...{ graft: { steps: 1_000_000 } } });
    const jobs = [];
    for (let index = 0; index < 20; index++) jobs.push(await create());
    await expect(create()).rejects.toMatchObject({ status: 429, code: 'queue_full' });
    for (const { id } of jobs.reverse()) await client.fineTuning.jobs.cancel(id);
  });

  test('need a key', async () => {
    await expect(clientOf(server.url, 'none').files.list()).rejects.toMatchObject({ status: 401, code: 'invalid_api_key' });
  });
});
