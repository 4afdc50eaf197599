/**
 * Jobs outlive their server: killed in the middle of one, or told to stop, the next one goes on from its checkpoint, and what waited waits again.
 * What comes out is, byte for byte, what a job that nobody disturbed makes.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { digestFolder } from '../../src/adapter/digest.js';
import { begin, clientOf, colours, eventsOf, over, rowsOf, stepsOf, upload } from '../support/finetuning.js';
import { makeTinyFolder, startTinyServer, tinyFlags, until } from '../support/server.js';
import { GRAFT } from '../support/training.js';

// What trains has a low priority: beside other tests it takes its time.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

const STEPS = 600;
/** Steps that become events. */
const TOLD = [1, ...Array.from({ length: 100 }, (_, index) => 6 * (index + 1))];
const JOB = { model: 'tiny', suffix: 'dogs', seed: 3 };

let folder: string;
let rows: string;
let running: ChildProcess | undefined;
beforeAll(async () => {
  folder = await makeTinyFolder(['first']);
  rows = rowsOf(await colours());
});
afterAll(() => rm(folder, { recursive: true }));
afterEach(() => running?.kill('SIGKILL'));

/** `graft serve` as a process of its own, once it is ready. */
async function serve(place: string): Promise<{ child: ChildProcess; url: string }> {
  const flags = Object.entries({
    ...tinyFlags(folder),
    adapters: path.join(folder, place, 'adapters'),
    finetuning: path.join(folder, place, 'finetuning'),
  });
  const words = flags.flatMap(([key, value]) => [`--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`, value]);
  await mkdir(path.join(folder, place, 'adapters'), { recursive: true });
  const [program = '', ...graft] = GRAFT;
  const child = spawn(program, [...graft, 'serve', ...words], { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] });
  running = child;
  let printed = '';
  child.stdout.setEncoding('utf8');
  for await (const chunk of child.stdout.iterator({ destroyOnReturn: false })) {
    printed += chunk as string;
    const url = /graft is ready on (\S+) \(/.exec(printed)?.[1];
    if (url) return { child, url };
  }
  throw new Error(`Expected a ready server but it printed ${printed}`);
}

async function digestOf(place: string, name: string): Promise<string> {
  return (await digestFolder(path.join(folder, place, 'adapters', name))).digest;
}

test.each(['SIGKILL', 'SIGTERM'] as const)(
  'ended by %s in the middle of a job',
  async (signal) => {
    const place = signal.toLowerCase();
    const before = await serve(place);
    const first = clientOf(before.url);
    const training_file = await upload(first, rows);
    const { id } = await begin(first, { ...JOB, training_file }, { steps: STEPS });
    const { id: waiting } = await begin(first, { model: 'tiny', training_file, suffix: 'cats' }, { steps: 2 });
    // Past some checkpoints.
    await until(async () => stepsOf((await first.fineTuning.jobs.listEvents(id, { limit: 100 })).data).length >= 10);
    const ended = once(before.child, 'exit');
    before.child.kill(signal);
    await ended;

    const after = await serve(place);
    const second = clientOf(after.url);
    expect(['queued', 'running']).toContain((await second.fineTuning.jobs.retrieve(id)).status);
    expect((await second.fineTuning.jobs.retrieve(waiting)).status).toBe('queued');
    expect(await over(second, id)).toMatchObject({ status: 'succeeded', fine_tuned_model: 'dogs' });
    expect(await over(second, waiting)).toMatchObject({ status: 'succeeded', fine_tuned_model: 'cats' });

    const events = await eventsOf(second, id);
    const messages = events.map(({ message }) => message);
    expect(messages).toContain('The server ended while this job was running: it goes on when it has its turn again');
    const resumed = messages.flatMap((message) => /^Training goes on after step (\d+) of 600$/.exec(message)?.[1] ?? []);
    expect(resumed).toHaveLength(1);
    expect(Number(resumed[0])).toBeGreaterThanOrEqual(40);
    expect(stepsOf(events).map(({ step }) => step)).toEqual(TOLD);
    const exit = once(after.child, 'exit');
    after.child.kill('SIGTERM');
    await exit;

    const undisturbed = await serve(`whole-${place}`);
    const third = clientOf(undisturbed.url);
    const whole = await begin(third, { ...JOB, training_file: await upload(third, rows) }, { steps: STEPS });
    expect((await over(third, whole.id)).status).toBe('succeeded');
    expect(await digestOf(place, 'dogs')).toBe(await digestOf(`whole-${place}`, 'dogs'));
  },
  300_000,
);

test('bytes that are others than those that came fail the job that needs them', async () => {
  const finetuning = path.join(folder, 'rotten');
  const tiny = await startTinyServer([], { finetuning });
  try {
    const client = clientOf(tiny.url);
    const training_file = await upload(client, rows);
    const stored = path.join(finetuning, 'files', `${training_file}.jsonl`);
    await writeFile(stored, (await readFile(stored, 'utf8')).replace('dog', 'cat'));
    const { id } = await client.fineTuning.jobs.create({ ...JOB, training_file });
    expect(await over(client, id)).toMatchObject({
      status: 'failed',
      error: {
        code: 'invalid_data',
        param: 'training_file',
        message: expect.stringContaining('Expected the bytes that were uploaded'),
      },
    });
  } finally {
    await tiny.close();
  }
});

test('a second server waits for the folder of the first', async () => {
  const finetuning = path.join(folder, 'shared');
  const [one, two] = [await startTinyServer([], { finetuning }), await startTinyServer([], { finetuning })];
  try {
    const client = clientOf(one.url);
    const id = await upload(client, rows);
    await expect(clientOf(two.url).files.list()).rejects.toMatchObject({ status: 503 });
    await one.close();
    await until(async () => (await fetch(`${two.url}/v1/files/${id}`)).status === 200);
  } finally {
    await two.close();
  }
});
