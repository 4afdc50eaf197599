/**
 * What comes with Graft does what README says: started without a word it serves the drawn scenes, each adapter does its own task well on
 * pictures that nobody trained on, none does another's, and without an adapter there is nothing.
 */
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TASK_NAMES, type Task } from '../../scripts/scenes/captions.js';
import { Examination } from '../../scripts/scenes/examine.js';
import { ADAPTERS } from '../../scripts/scenes/recipe.js';
import { type RunningServer, startServer } from '../../src/cli/serve.js';
import { loadConfig } from '../../src/config.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const BACKBONE = path.join(ROOT, 'models/scenes');
const ADAPTER_FOLDER = path.join(ROOT, 'adapters');
const MEGABYTE = 1e6;
/** Other scenes than those of the table in models/scenes/README.md. */
const SEED = 1234;
const PICTURES = 60;

/** Well below the table in models/scenes/README.md, for these are few pictures; far above what can be guessed. */
const LEAST: Readonly<Record<Task, number>> = {
  english: 68,
  french: 68,
  german: 70,
  pirate: 68,
  alt: 82,
  counting: 85,
  relations: 78,
  colours: 86,
  tags: 80,
};

async function bytesIn(folder: string): Promise<number> {
  const names = await readdir(folder, { recursive: true });
  const sizes = await Promise.all(names.map(async (name) => (await stat(path.join(folder, name))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

test('is small enough for a repository', async () => {
  expect(await bytesIn(BACKBONE)).toBeLessThan(12 * MEGABYTE);
  for (const { task } of ADAPTERS) expect(await bytesIn(path.join(ADAPTER_FOLDER, task)), task).toBeLessThan(0.5 * MEGABYTE);
});

describe('graft serve without a word', () => {
  let server: RunningServer;
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'graft-nowhere-'));
    server = await startServer(await loadConfig({ flags: { port: '0', logLevel: 'silent' }, env: {}, folder }));
    await server.ready;
  });
  afterAll(async () => {
    await server.close();
    await rm(folder, { recursive: true });
  });

  test('has every adapter in order, of all three methods', async () => {
    const { data } = (await (await fetch(`${server.url}/v1/adapters`)).json()) as {
      data: { name: string; method: string; fault: string | null }[];
    };
    // A developer may have adapters of other backbones there as well.
    const own = data.filter(({ name }) => TASK_NAMES.some((task) => task === name));
    expect(own.map(({ name }) => name).sort()).toEqual([...TASK_NAMES].sort());
    expect(own.filter(({ fault }) => fault !== null)).toEqual([]);
    expect(new Set(own.map(({ method }) => method))).toEqual(new Set(['lora', 'bitfit', 'ia3']));
  });

  test('answers as README shows it', async () => {
    const readme = await readFile(path.join(ROOT, 'README.md'), 'utf8');
    const [, image, adapters] = /^\$ curl \S+\/v1\/captions -F image=@(\S+) -F adapters=(\S+)/m.exec(readme) ?? [];
    const shown = [...readme.matchAll(/"adapter":\{"name":"([^"]+)".*?"captions":\[\{"text":"([^"]+)"/gs)];
    expect(shown).toHaveLength(3);
    const form = new FormData();
    form.set('image', new Blob([new Uint8Array(await readFile(path.join(ROOT, image ?? '')))]), 'scene.jpg');
    form.set('adapters', adapters ?? '');
    const response = await fetch(`${server.url}/v1/captions`, { method: 'POST', body: form });
    const { data } = (await response.json()) as { data: { adapter: { name: string }; captions: { text: string }[] }[] };
    expect(data.map(({ adapter, captions }) => [adapter.name, captions[0]?.text])).toEqual(
      shown.map(([, name, text]) => [name, text]),
    );
  });

  test('answers a chat as docs/api.md shows it', async () => {
    const page = await readFile(path.join(ROOT, 'docs/api.md'), 'utf8');
    const [, french] = /^\/\/ (dans .+)$/m.exec(page) ?? [];
    const [, english] = /"message":\{"role":"assistant","content":"([^"]+)"/.exec(page) ?? [];
    const image = await readFile(path.join(ROOT, 'models/scenes/example.jpg'), 'base64');
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none needed' });
    for (const [model, text] of Object.entries({ french, english })) {
      const content = [{ type: 'image_url' as const, image_url: { url: `data:image/jpeg;base64,${image}` } }];
      const { choices } = await client.chat.completions.create({ model, messages: [{ role: 'user', content }] });
      expect(choices[0]?.message.content).toBe(text);
    }
  });
});

describe(`on ${PICTURES} scenes that are in no set`, () => {
  let examination: Examination;
  const captions = new Map<Task, string[]>();
  beforeAll(async () => {
    examination = await Examination.draw({ count: PICTURES, seed: SEED, size: 256, threads: 2 }, () => undefined);
    for (const { task } of ADAPTERS) captions.set(task, await examination.captions(BACKBONE, path.join(ADAPTER_FOLDER, task)));
  }, 60_000);
  afterAll(() => examination.close());

  test.each(Object.entries(LEAST) as [Task, number][])(
    '%s is right in all that it says of at least %d in a hundred',
    (task, least) => {
      const { all = 0, words = 0 } = examination.mark(task, captions.get(task) ?? []);
      expect(words).toBeGreaterThanOrEqual(0.95);
      expect(100 * all).toBeGreaterThanOrEqual(least);
    },
  );

  test('no adapter does the task of one in another language or form', () => {
    for (const [one, others] of Object.entries({ english: ['french', 'german'], french: ['english', 'tags'], tags: ['german'] }))
      for (const other of others) expect(examination.mark(other as Task, captions.get(one as Task) ?? []).all).toBe(0);
  });

  test('without an adapter it is useless', async () => {
    const bare = await examination.captions(BACKBONE, null);
    for (const { task } of ADAPTERS) expect(examination.mark(task, bare).all).toBeLessThan(0.1);
  });
});
