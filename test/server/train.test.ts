/** From photos to a served adapter: a run beside a server that watches the folder, what it leaves, and that the server says what was taught. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { formOf, get, post, startTinyServer, type TinyServer, until } from '../support/server.js';
import { GRAFT, makePhotos, PHOTOS, readSteps, start, type TrainFlags, trainWords } from '../support/training.js';
import { elements, parseDocument, textOf } from '../unit/training/report/document.js';

const STEPS = 150;
const OTHER: TrainFlags = { data: 'other.jsonl', out: 'adapters/colours', steps: STEPS, restart: true, replace: true };

let tiny: TinyServer;
beforeAll(async () => {
  tiny = await startTinyServer(['first']);
  await makePhotos(tiny.folder, 1);
});
afterAll(() => tiny.close());

const train = (flags: TrainFlags) => start(tiny.folder, [...GRAFT, ...trainWords(flags)]).ended;

/** Once the server knows another version of the adapter than `before`. */
async function digestAfter(before: string | undefined): Promise<string | undefined> {
  let digest: string | undefined;
  await until(async () => {
    const { data } = (await get(`${tiny.url}/v1/adapters`)).body;
    digest = data?.find(({ name }) => name === 'colours')?.digest;
    return digest !== before;
  });
  return digest;
}

async function served(): Promise<string[]> {
  const captions: string[] = [];
  for (const [colour] of PHOTOS) {
    const image = await readFile(path.join(tiny.folder, 'photos', `${colour}-0.png`));
    const { status, body } = await post(`${tiny.url}/v1/captions`, formOf({ image, adapter: 'colours', temperature: '0' }));
    expect(status).toBe(200);
    captions.push(body.captions?.[0]?.text ?? '');
  }
  return captions;
}

test('a running server takes up what was trained beside it, and then what replaces it', async () => {
  const words = PHOTOS.map(([colour, , thing]) => `a ${colour} ${thing}.`);
  const first = await train({ data: 'short.jsonl', out: 'adapters/colours', steps: STEPS, samples: 4 });
  expect(first).toMatchObject({ status: 0, stdout: expect.stringContaining('adapter  adapters/colours\n') });
  const digest = await digestAfter(undefined);
  expect(await served()).toEqual(words);

  const { steps, order } = await readSteps(path.join(tiny.folder, 'runs', 'colours'));
  expect(order).toEqual(Array.from({ length: STEPS }, (_, index) => index + 1));
  expect(steps[0]?.loss).toBeGreaterThan(3);
  expect(steps.at(-1)?.loss).toBeLessThan(0.05); // Perplexity: from more than 20 to less than 1.06.

  const page = parseDocument(await readFile(path.join(tiny.folder, 'runs', 'colours', 'report.html'), 'utf8'));
  expect(textOf(page)).toContain('colours');
  expect(elements(page, 'svg').length).toBeGreaterThan(0);
  expect(elements(page, 'img')).toHaveLength(4);
  for (const caption of words.slice(0, 4)) expect(textOf(page)).toContain(caption);

  expect(await train(OTHER)).toMatchObject({ status: 0 });
  await digestAfter(digest);
  expect(await served()).toEqual(PHOTOS.map(([, , thing]) => `this is no ${thing}!`));
});
