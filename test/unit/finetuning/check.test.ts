/** Training files as a whole: what their rows have in common, and the lines that are wrong; off the event loop as well. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { checkRows } from '../../../src/finetuning/check.js';
import { RowChecker } from '../../../src/finetuning/checker.js';
import { unpack } from '../../../src/finetuning/unpack.js';
import { readDataset } from '../../../src/training/data/read.js';

const LIMITS = { maxImageBytes: 10_000 };

let folder: string;
let red: Buffer;
let blue: Buffer;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-rows-'));
  const plain = (background: string) =>
    sharp({ create: { width: 8, height: 8, channels: 3, background } })
      .png()
      .toBuffer();
  [red, blue] = [await plain('#c00'), await plain('#00c')];
});
afterAll(() => rm(folder, { recursive: true }));

const line = (caption: string, image?: Buffer, prompt = ''): string => {
  const url = `data:image/png;base64,${image?.toString('base64')}`;
  const content = [...(image ? [{ type: 'image_url', image_url: { url } }] : []), { type: 'text', text: prompt }];
  return JSON.stringify({
    messages: [
      { role: 'user', content },
      { role: 'assistant', content: caption },
    ],
  });
};

async function file(...lines: readonly (string | Buffer)[]): Promise<string> {
  const place = path.join(folder, 'rows.jsonl');
  await writeFile(place, Buffer.concat(lines.map((each) => Buffer.concat([Buffer.from(each), Buffer.from('\n')]))));
  return place;
}

async function faultsOf(checking: Promise<unknown>): Promise<readonly string[]> {
  const error = await checking.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof AppError)) throw new TypeError(`Expected an AppError but received ${String(error)}`);
  expect(error).toMatchObject({ code: 'invalid_request', param: 'file' });
  return error.faults ?? [error.message];
}

describe('checkRows', () => {
  test('says what the rows have in common; blank lines are none', async () => {
    const place = await file(line('a dog.', red, 'What?'), '', '  ', line('a cat.', blue, 'What?'));
    expect(await checkRows(place, LIMITS)).toEqual({ rows: 2, hasImages: true, prompt: 'What?' });
    expect(await checkRows(await file(line('once upon a time')), LIMITS)).toEqual({ rows: 1, hasImages: false, prompt: '' });
  });

  test('names each line that is wrong, and all that is', async () => {
    const place = await file(
      line('a dog.', red, 'What?'),
      'no JSON',
      '',
      line('a cat.', red, 'Who?'),
      line('a bird.', undefined, 'Where?'),
      Buffer.from([0xff, 0xfe]),
      `{"messages": "${'x'.repeat(1_100_000)}"}`,
    );
    const faults = await faultsOf(checkRows(place, LIMITS));
    expect(faults).toEqual([
      expect.stringMatching(/^line 2: Expected JSON but received something else/),
      'line 4: Expected the prompt of the first row, "What?", but received "Who?"',
      'line 5: Expected an image, as in the first row, but received no image',
      'line 5: Expected the prompt of the first row, "What?", but received "Where?"',
      'line 6: Expected UTF-8 but received other bytes',
      expect.stringMatching(/^line 7: Expected a line of at most 1061912 bytes but received 11\d{5}$/),
    ]);
  });

  test('stops where enough is wrong', async () => {
    const faults = await faultsOf(checkRows(await file(...Array<string>(1000).fill('x')), LIMITS));
    expect(faults).toHaveLength(21);
    expect(faults.at(-1)).toBe('the lines after that were not looked at');
  });

  test('wants a row', async () => {
    expect(await faultsOf(checkRows(await file('', ''), LIMITS))).toEqual(['file: Expected at least one row but received none']);
  });
});

describe('RowChecker', () => {
  test('finds the same in a thread of its own, one file after the other', async () => {
    const checker = new RowChecker(LIMITS);
    const good = path.join(folder, 'good.jsonl');
    await writeFile(good, `${line('a dog.', red)}\n`);
    const bad = await file('x');
    const [first, faults, again] = await Promise.all([checker.check(good), faultsOf(checker.check(bad)), checker.check(good)]);
    expect(first).toEqual({ rows: 1, hasImages: true, prompt: '' });
    expect(again).toEqual(first);
    expect(faults).toEqual([expect.stringMatching(/^line 1: Expected JSON/)]);
  });
});

describe('unpack', () => {
  test('writes what the trainer reads: each picture once, and every row at its line', async () => {
    const place = await file(line('a dog.', red), '', line('a red dog.', red), line('a sky.', blue));
    const data = path.join(folder, 'data', 'training_file.jsonl');
    await unpack(place, data, LIMITS, new AbortController().signal);
    const { examples, bad } = await readDataset(data, { normalize: 'none' });
    expect(bad).toEqual([]);
    expect(examples.map(({ captions, origin }) => ({ captions, origin }))).toEqual([
      { captions: ['a dog.', 'a red dog.'], origin: 'training_file.jsonl:1' },
      { captions: ['a sky.'], origin: 'training_file.jsonl:4' },
    ]);
    expect(await Promise.all(examples.map(({ image }) => readFile(image ?? '')))).toEqual([red, blue]);
    expect(await readdir(path.join(folder, 'data', 'images'))).toHaveLength(2);
  });
});
