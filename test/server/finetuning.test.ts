/**
 * Fine-tuning through OpenAI's own client, unchanged: from a file to an adapter that is asked for by name, on the backbone that ships; and what
 * is refused. Another server, on the tiny backbone, has its jobs cancelled and its trainers killed.
 */
import { cp, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import OpenAI, { toFile } from 'openai';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { sceneAt } from '../../scripts/scenes/folder.js';
import { takePicture } from '../../scripts/scenes/picture.js';
import { type RunningServer, startServer } from '../../src/cli/serve.js';
import { loadConfig } from '../../src/config.js';
import { stream } from '../../src/training/random.js';
import { begin, clientOf, colours, type Example, eventsOf, over, rowsOf, stepsOf, upload } from '../support/finetuning.js';
import { get, metric, startTinyServer, type TinyServer, until } from '../support/server.js';

// What trains has a low priority: beside other tests it takes its time.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** A drawn scene. */
async function scene(index: number): Promise<Uint8Array> {
  return (await takePicture(sceneAt(5, index), stream(5, 'picture', index), 128)).jpeg;
}

/** What the adapter of a name says of a picture, as OpenAI's client asks for it. */
async function say(client: OpenAI, model: string, image: Uint8Array): Promise<string | null | undefined> {
  const url = `data:image/jpeg;base64,${Buffer.from(image).toString('base64')}`;
  const messages = [{ role: 'user' as const, content: [{ type: 'image_url' as const, image_url: { url } }] }];
  const { choices } = await client.chat.completions.create({ model, messages });
  return choices[0]?.message.content;
}

async function errorOf(call: Promise<unknown>): Promise<InstanceType<typeof OpenAI.APIError>> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof OpenAI.APIError) return error;
  throw new TypeError(`Expected an error of the API but received ${String(error)}`);
}

describe('on the backbone that ships', () => {
  const CAPTION = 'two small red houses on the grass.';
  let server: RunningServer;
  let client: OpenAI;
  let folder: string;
  let examples: Example[];
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'graft-finetuning-'));
    await cp(path.join(ROOT, 'adapters/english'), path.join(folder, 'adapters/english'), { recursive: true });
    const flags = {
      backbone: path.join(ROOT, 'models/scenes'),
      adapters: 'adapters',
      finetuning: 'finetuning',
      port: '0',
      logLevel: 'silent',
    };
    server = await startServer(await loadConfig({ flags, env: {}, folder }));
    await server.ready;
    client = clientOf(server.url);
    const images = await Promise.all(Array.from({ length: 8 }, (_, index) => scene(index)));
    examples = images.map((image) => ({ image, caption: CAPTION }));
  });
  afterAll(async () => {
    await server.close();
    await rm(folder, { recursive: true });
  });

  test('a few pictures become an adapter that captions at once, from the bare backbone and from another adapter', async () => {
    const training_file = await upload(client, rowsOf(examples));
    const validation_file = await upload(client, rowsOf(examples.slice(0, 2)), 'held-out.jsonl');
    const hyperparameters = { batch_size: 4, learning_rate_multiplier: 10 };
    const method = { type: 'supervised' as const, supervised: { hyperparameters } };
    const shared = { training_file, method, seed: 1, metadata: { team: 'docs' } };
    const wanted = { ...shared, model: 'scenes', validation_file, suffix: 'houses' };
    const job = await begin(client, wanted, { method: 'lora', rank: 8, steps: 60 });
    expect(job).toMatchObject({
      object: 'fine_tuning.job',
      status: 'validating_files',
      model: 'scenes',
      fine_tuned_model: null,
      hyperparameters: { batch_size: 4, learning_rate_multiplier: 10, n_epochs: 30 },
      seed: 1,
      metadata: { team: 'docs' },
    });
    const next = await begin(client, { ...shared, model: 'english' }, { steps: 30 });

    expect(await over(client, job.id)).toMatchObject({ status: 'succeeded', fine_tuned_model: 'houses', error: null });
    expect(await say(client, 'houses', await scene(100))).toBe(CAPTION);
    const events = await eventsOf(client, job.id);
    const steps = stepsOf(events);
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: 60 }, (_, index) => index + 1));
    expect(steps[0]?.loss).toBeGreaterThan(2);
    expect(steps.at(-1)?.loss).toBeLessThan(0.2);
    expect(events.filter(({ data }) => data !== null && 'valid_loss' in (data as object))).toHaveLength(10);
    expect(events.at(-1)?.message).toBe('The job has successfully completed');

    // Without a suffix its name is its job's.
    const second = await over(client, next.id);
    expect(second).toMatchObject({ status: 'succeeded', fine_tuned_model: next.id, trained_tokens: expect.any(Number) });
    expect(await say(client, next.id, await scene(101))).toBe(CAPTION);
    const { data = [] } = (await get(`${server.url}/v1/adapters`)).body;
    expect(data.map(({ name, fault }) => [name, fault])).toEqual([
      ['english', null],
      [next.id, null],
      ['houses', null],
    ]);
    expect(await metric(server.url, 'graft_finetuning_jobs{state="succeeded"}')).toBe(2);
    expect(await metric(server.url, 'graft_finetuning_steps_total')).toBe(90);
    // Nothing of their work is left but what is told of them.
    const left = await readdir(path.join(folder, 'finetuning/jobs'));
    expect(left.filter((name) => !/\.json(l)?$/.test(name))).toEqual([]);
  });
});

describe('a server on a tiny backbone', () => {
  let tiny: TinyServer;
  let client: OpenAI;
  let rows: string;
  beforeAll(async () => {
    tiny = await startTinyServer(['first'], { finetuning: path.join(await mkdtemp(path.join(tmpdir(), 'graft-jobs-')), 'jobs') });
    client = clientOf(tiny.url);
    rows = rowsOf(await colours());
  });
  afterAll(() => tiny.close());

  const start = async (graft: object, suffix: string | null = null) =>
    begin(client, { training_file: await upload(client, rows), model: 'tiny', suffix }, graft);

  /** Once the job has done a step. */
  const running = (id: string) =>
    until(async () => stepsOf((await client.fineTuning.jobs.listEvents(id, { limit: 100 })).data).length > 0);

  test('keeps files as they came, and lists them in pages', async () => {
    const names = ['one.jsonl', 'two.jsonl', 'three.jsonl'];
    const ids: string[] = [];
    for (const name of names) ids.push(await upload(client, rows, name));
    const file = await client.files.retrieve(ids[0] ?? '');
    expect(file).toMatchObject({
      object: 'file',
      filename: 'one.jsonl',
      purpose: 'fine-tune',
      status: 'processed',
      bytes: Buffer.byteLength(rows),
    });
    expect(await (await client.files.content(file.id)).text()).toBe(rows);
    const listed: string[] = [];
    for await (const { id } of client.files.list({ limit: 2 })) listed.push(id);
    expect(listed).toEqual([...ids].reverse());
    expect((await client.files.list({ order: 'asc', limit: 1 })).data.map(({ id }) => id)).toEqual([ids[0]]);
    for (const id of ids) expect(await client.files.delete(id)).toEqual({ id, object: 'file', deleted: true });
    expect((await errorOf(client.files.retrieve(file.id))).status).toBe(404);
    expect((await client.files.list()).data).toEqual([]);
  });

  test('refuses a file with a bad row, by its line, and keeps nothing of it', async () => {
    const bad = `${rows}{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}, {"role": "assistant", "content": "x"}]}\nnonsense\n`;
    const error = await errorOf(upload(client, bad));
    expect(error).toMatchObject({ status: 400, code: 'invalid_request', param: 'file' });
    expect((error.error as { faults: string[] }).faults).toEqual([
      expect.stringMatching(/^line 7: messages\[0\]\.content\[0\]\.image_url\.url: Expected a data URI .* none is fetched$/),
      expect.stringMatching(/^line 8: Expected JSON/),
    ]);
    expect((await client.files.list()).data).toEqual([]);
  });

  test('refuses what is no training file', async () => {
    const file = await toFile(Buffer.from(rows), 'x.jsonl');
    expect(await errorOf(client.files.create({ purpose: 'batch', file }))).toMatchObject({ status: 400, param: 'purpose' });
    const json = await fetch(`${tiny.url}/v1/files`, {
      method: 'POST',
      body: '{}',
      headers: { 'content-type': 'application/json' },
    });
    expect(json.status).toBe(415);
    const form = new FormData();
    form.set('purpose', 'fine-tune');
    const none = await fetch(`${tiny.url}/v1/files`, { method: 'POST', body: form });
    expect(await none.json()).toMatchObject({ error: { message: 'file: Expected a file of JSON lines but received nothing' } });
    form.set('other', new Blob(['x']), 'x.jsonl');
    const other = await fetch(`${tiny.url}/v1/files`, { method: 'POST', body: form });
    expect(await other.json()).toMatchObject({ error: { code: 'unknown_field', param: 'other' } });
  });

  test('refuses jobs that cannot be', async () => {
    const training_file = await upload(client, rows);
    const texts = await upload(client, rowsOf([{ image: null, caption: 'once upon a time' }]));
    const create = (body: object) => errorOf(client.fineTuning.jobs.create({ training_file, model: 'tiny', ...body }));
    expect(await create({ training_file: `file-${'0'.repeat(32)}` })).toMatchObject({ status: 404, param: 'training_file' });
    expect(await create({ model: 'nobody' })).toMatchObject({ status: 404, code: 'adapter_not_found', param: 'model' });
    expect(await create({ validation_file: texts })).toMatchObject({ status: 400, param: 'validation_file' });
    expect(await create({ training_file: texts, model: 'first' })).toMatchObject({ status: 400, param: 'training_file' });
    expect(await create({ suffix: 'a/b' })).toMatchObject({ status: 400, param: 'suffix' });
    expect(await create({ suffix: 'image' })).toMatchObject({ status: 400, param: 'suffix' });
    expect(await create({ suffix: 'first' })).toMatchObject({ status: 409, code: 'conflict', param: 'suffix' });
    expect(await create({ method: { type: 'dpo' } })).toMatchObject({ status: 400, param: 'method' });
    expect(await create({ hyperparameters: { n_epochs: 0 } })).toMatchObject({ status: 400, param: 'hyperparameters' });
    expect(await create({ hyperparameters: { n_epochs: 2 }, graft: { steps: 3 } })).toMatchObject({
      status: 400,
      param: 'graft',
    });
    expect(await create({ integrations: [{ type: 'wandb', wandb: { project: 'x' } }] })).toMatchObject({
      status: 400,
      param: 'integrations',
    });
    expect(await create({ warmth: 1 })).toMatchObject({ status: 400, code: 'unknown_field', param: 'warmth' });
    expect((await client.fineTuning.jobs.list()).data).toEqual([]);
    for (const id of [training_file, texts]) await client.files.delete(id);
  });

  test('cancels a job in the middle, of which nothing stays; the next one has its turn', async () => {
    const long = await start({ steps: 1_000_000 }, 'long');
    const short = await start({ steps: 3 }, 'short');
    await running(long.id);
    expect(await client.fineTuning.jobs.retrieve(long.id)).toMatchObject({
      status: 'running',
      estimated_finish: expect.any(Number),
    });
    expect((await client.fineTuning.jobs.retrieve(short.id)).status).toBe('queued');
    expect(await errorOf(client.files.delete(long.training_file))).toMatchObject({ status: 409, code: 'conflict' });
    const [pid = 0] = tiny.server.pids.trainers;

    expect(await client.fineTuning.jobs.cancel(long.id)).toMatchObject({ status: 'cancelled', fine_tuned_model: null });
    await until(() => !alive(pid));
    expect(await errorOf(client.fineTuning.jobs.cancel(long.id))).toMatchObject({ status: 409, code: 'conflict' });
    await client.files.delete(long.training_file);

    expect(await over(client, short.id)).toMatchObject({ status: 'succeeded', fine_tuned_model: 'short' });
    expect((await client.fineTuning.jobs.list({ limit: 1 })).data.map(({ id }) => id)).toEqual([short.id]);
    expect((await get(`${tiny.url}/v1/adapters`)).body.data?.map(({ name }) => name)).toEqual(['first', 'short']);
    expect((await eventsOf(client, long.id)).at(-1)?.message).toBe('The job was cancelled');
  });

  test('a trainer that is killed costs its job and nothing else', async () => {
    const job = await start({ steps: 1_000_000 });
    await running(job.id);
    const { engine, trainers } = tiny.server.pids;
    process.kill(trainers[0] ?? 0, 'SIGKILL');
    const { status, error } = await over(client, job.id);
    expect(status).toBe('failed');
    expect(error?.message).toBe(
      'The training process ended unexpectedly (SIGKILL); most likely there was not enough memory: a smaller batch_size needs less',
    );
    expect(tiny.server.pids).toMatchObject({ engine, trainers: [] });
    expect((await get(`${tiny.url}/health/ready`)).status).toBe(200);
  });

  test('a job whose training cannot be says why, without a path of the server', async () => {
    const job = await start({ steps: 5, rank: 1000 });
    const { status, error } = await over(client, job.id);
    expect(status).toBe('failed');
    expect(error).toMatchObject({ code: 'invalid_config', message: expect.stringMatching(/Expected rank to be at most \d+/) });
    expect(error?.message).not.toContain(tmpdir());
    expect((await eventsOf(client, job.id)).at(-1)).toMatchObject({ level: 'error', message: error?.message });
  });

  test('leaves out a picture that is cut short, and tells its line', async () => {
    const [first, ...others] = await colours();
    const broken = [...others, { image: first?.image?.subarray(0, -40) ?? null, caption: 'half a dog.' }];
    const training_file = await upload(client, rowsOf(broken));
    const job = await begin(client, { training_file, model: 'tiny' }, { steps: 2 });
    expect((await over(client, job.id)).status).toBe('succeeded');
    const warnings = (await eventsOf(client, job.id)).filter(({ level }) => level === 'warn');
    expect(warnings.map(({ message }) => message)).toEqual([
      'Rows that cannot be used: training_file.jsonl:6 Expected a complete PNG image but received one that is damaged or cut short',
    ]);
  });
});

describe('a server without fine-tuning', () => {
  test('says so', async () => {
    const tiny = await startTinyServer([]);
    try {
      const client = clientOf(tiny.url);
      for (const call of [client.files.list(), client.fineTuning.jobs.list()])
        expect(await errorOf(call)).toMatchObject({
          status: 404,
          code: 'not_found',
          message: expect.stringContaining('--finetuning'),
        });
    } finally {
      await tiny.close();
    }
  });
});

test('a server that has nowhere to put adapters refuses to begin', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'graft-nowhere-'));
  await mkdir(path.join(folder, 'finetuning'));
  const flags = { backbone: path.join(ROOT, 'models/scenes/language'), finetuning: 'finetuning', port: '0', logLevel: 'silent' };
  const cwd = process.cwd();
  process.chdir(folder);
  try {
    await expect(startServer(await loadConfig({ flags, env: {}, folder }))).rejects.toThrow(
      'finetuning: Expected --store or --adapters',
    );
  } finally {
    process.chdir(cwd);
    await rm(folder, { recursive: true });
  }
});

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
