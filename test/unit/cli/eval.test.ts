/** `graft eval` on the tiny backbone with photos of plain colours, and `graft eval captions`: what is printed, written and refused. */
import { spawnSync } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { Captioner } from '../../../src/cli/captioner.js';
import { evaluateFiles } from '../../../src/cli/eval/captions.js';
import { evaluateAdapter } from '../../../src/cli/eval.js';
import { AppError } from '../../../src/errors.js';
import { readDataset } from '../../../src/training/data/read.js';
import { makeTinyFolder } from '../../support/server.js';
import { makePhotos, PHOTOS } from '../../support/training.js';

const MAIN = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));
const NODE = ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href, MAIN];

let folder: string;
let stderr = '';
beforeAll(async () => {
  folder = await makeTinyFolder(['one']);
  await makePhotos(folder, 1);
});
afterEach(() => {
  vi.restoreAllMocks();
});
afterAll(() => rm(folder, { recursive: true }));

type Flags = Readonly<Record<string, unknown>>;
type Json = Readonly<Record<string, unknown>>;

const COMMON: Flags = { backbone: 'backbone', adapter: 'adapters/one', data: 'captions.jsonl', maxTokens: 12, threads: 1 };

/** What the command prints; what it says meanwhile is in `stderr`. */
async function print(flags: Flags): Promise<string> {
  stderr = '';
  vi.spyOn(console, 'error').mockImplementation((text: unknown) => {
    stderr += `${String(text)}\n`;
  });
  return evaluateAdapter({ ...COMMON, ...flags }, folder);
}
const report = async (flags: Flags): Promise<Json> => JSON.parse(await print({ ...flags, json: true })) as Json;

async function faultsOf(work: Promise<unknown>): Promise<readonly string[]> {
  const error: unknown = await work.catch((thrown: unknown) => thrown);
  if (error instanceof AppError) return error.faults ?? [error.message];
  throw new Error(`Expected faults but received ${String(error)}`);
}
const read = async (name: string): Promise<unknown> => JSON.parse(await readFile(path.join(folder, name), 'utf8'));
const write = (name: string, value: unknown): Promise<void> =>
  writeFile(path.join(folder, name), typeof value === 'string' ? value : JSON.stringify(value));

/** Perplexity from the captioner's losses, which captioner.test.ts proves; each caption in a call of its own. */
async function perplexityOf(captions: 'first' | 'all'): Promise<{ perplexity: number; tokens: number; captions: number }> {
  const opened = await Captioner.open({
    backbone: path.join(folder, 'backbone'),
    adapter: path.join(folder, 'adapters/one'),
    threads: 1,
    batch: 1,
  });
  const { examples } = await readDataset(path.join(folder, 'captions.jsonl'), { normalize: 'none' });
  const losses: number[] = [];
  let count = 0;
  for (const example of examples) {
    const image = await opened.embed(example.image as string);
    const { sequences } = opened.tokenize([example], captions);
    for (let index = 0; index < sequences.count; index++) {
      const [own] = await opened.losses([{ ids: sequences.ids(index), image }]);
      losses.push(...(own as Float64Array));
      count++;
    }
  }
  await opened.close();
  const perplexity = Math.exp(losses.reduce((sum, loss) => sum + loss, 0) / losses.length);
  return { perplexity, tokens: losses.length, captions: count };
}

describe('captioned images', () => {
  it('get the scores that COCO’s two files give, which it writes', async () => {
    const outcome = await report({ results: 'out/results.json', references: 'out/references.json' });
    const scores = JSON.parse(
      await evaluateFiles({ results: 'out/results.json', references: 'out/references.json', json: true }, folder),
    ) as Json;
    expect(outcome).toMatchObject(scores);
    expect(Object.keys(outcome).sort()).toEqual(
      ['backbone', 'adapter', 'data', 'perplexity', 'loss', 'tokens', 'captions', 'bad_rows', ...Object.keys(scores)].sort(),
    );
    expect(outcome).toMatchObject({
      backbone: 'tiny',
      adapter: 'one',
      data: 'captions.jsonl',
      images: 8,
      captions: 8,
      bad_rows: 0,
    });
  });

  it('and files that coco-caption takes: ids in both, and the keys that it copies', async () => {
    // Batches so small that the data are several parts.
    await report({ results: 'out/results.json', references: 'out/references.json', batch: 1 });
    const results = (await read('out/results.json')) as readonly Json[];
    const references = (await read('out/references.json')) as Record<string, readonly Json[]>;
    expect(Object.keys(references).sort()).toEqual(['annotations', 'images', 'info', 'licenses', 'type']);
    expect(references['type']).toBe('captions');
    expect(references['images']).toEqual(
      PHOTOS.map(([colour], index) => ({ id: index + 1, file_name: `photos/${colour}-0.png` })),
    );
    expect(references['annotations']?.map(({ id }) => id)).toEqual(Array.from({ length: 11 }, (_, index) => index + 1));
    expect(references['annotations']?.slice(0, 3)).toEqual([
      { id: 1, image_id: 1, caption: 'a red dog.' },
      { id: 2, image_id: 1, caption: 'the dog is very red, as it seems.' },
      { id: 3, image_id: 2, caption: 'a green cat.' },
    ]);
    expect(results).toEqual(
      PHOTOS.map(([colour], index) => ({
        image_id: index + 1,
        file_name: `photos/${colour}-0.png`,
        caption: expect.any(String) as string,
      })),
    );
  });

  it.each(['first', 'all'] as const)(
    'perplexity is of all tokens of %s captions together, whatever the batch',
    async (captions) => {
      const expected = await perplexityOf(captions);
      expect(expected.captions).toBe(captions === 'first' ? 8 : 11);
      for (const batch of [1, 16]) {
        const { perplexity, loss, ...rest } = await report({ captions, batch });
        expect(perplexity).toBeCloseTo(expected.perplexity, 3);
        expect(Math.exp(loss as number)).toBe(perplexity);
        expect(rest).toMatchObject({ tokens: expected.tokens, captions: expected.captions });
      }
    },
  );

  it('are spelt as asked, limited as asked, and captioned by beams as asked', async () => {
    await write('shout.jsonl', JSON.stringify({ image: 'photos/red-0.png', captions: ['A RED DOG !'] }));
    await write('plain.jsonl', JSON.stringify({ image: 'photos/red-0.png', captions: ['a red dog.'] }));
    const [shout, plain] = [await report({ data: 'shout.jsonl', normalize: 'caption' }), await report({ data: 'plain.jsonl' })];
    expect(shout['perplexity']).toBe(plain['perplexity']);
    expect(await report({ limit: 3 })).toMatchObject({ images: 3, captions: 3 });

    await report({ results: 'greedy.json' });
    await report({ results: 'beams.json', numBeams: 4 });
    await report({ results: 'short.json', maxTokens: 1 });
    const captions = async (name: string) => ((await read(name)) as readonly Json[]).map(({ caption }) => caption);
    expect(await captions('beams.json')).not.toEqual(await captions('greedy.json'));
    expect((await captions('short.json')).join('').length).toBeLessThan((await captions('greedy.json')).join('').length);
  });

  it('that cannot be used are told and left out, and the ids of the others are their places', async () => {
    await write('photos/broken.png', 'no image');
    const row = (image: string, ...captions: string[]) => JSON.stringify({ image, captions });
    const rows = [
      row('photos/broken.png', 'a broken dog.'),
      row('photos/nowhere.png', 'no dog.'),
      row('photos/red-0.png', `a ${'very '.repeat(60)}long dog.`),
      row('photos/blue-0.png', 'a blue boat.'),
    ];
    await write('bad.jsonl', rows.join('\n'));
    const outcome = await report({ data: 'bad.jsonl', results: 'bad.json' });
    expect(outcome).toMatchObject({ images: 2, captions: 1, bad_rows: 3 });
    expect(stderr).toContain(
      '1 row cannot be used:\n  bad.jsonl:2  Expected an image file "photos/nowhere.png" but there is none\n',
    );
    expect(stderr).toContain('2 rows cannot be used:\n  bad.jsonl:1  Expected a JPEG, PNG or WebP image');
    expect(stderr).toContain('  bad.jsonl:3  Expected a row of at most 128 tokens but received');
    // The row without a file is no example: the places are those of the others.
    expect(((await read('bad.json')) as readonly Json[]).map(({ image_id: id }) => id)).toEqual([2, 3]);

    await write('none.jsonl', [rows[0], rows[2]].join('\n'));
    expect(await faultsOf(print({ data: 'none.jsonl' }))).toEqual([
      expect.stringMatching(/^none.jsonl:1 Expected a JPEG/),
      expect.stringMatching(/^none.jsonl:2 Expected a row of at most 128 tokens/),
    ]);
  });

  it('as a table', async () => {
    const table = await print({ limit: 1, captions: 'all' });
    expect(table.split('\n').map((line) => line.replace(/\d+\.\d+/, 'N').replace(/ +/g, ' '))).toEqual([
      'one on captions.jsonl: 1 image, 2 references, greedy',
      '',
      ...['perplexity', 'BLEU-1', 'BLEU-2', 'BLEU-3', 'BLEU-4', 'ROUGE-L', 'CIDEr'].map((label) => ` ${label} N`),
      '',
      expect.stringMatching(/^Perplexity is of \d+ tokens in 2 captions, each with its end: N nats a token\.$/),
      'CIDEr of one image is 0 by definition: it weighs words by how few of the images have them.',
    ]);
  });
});

describe('text', () => {
  it('has a perplexity and nothing else, of an adapter and of the bare backbone', async () => {
    const adapted = await report({ data: 'stories.txt' });
    expect(Object.keys(adapted).sort()).toEqual(
      ['adapter', 'backbone', 'bad_rows', 'captions', 'data', 'loss', 'perplexity', 'tokens'].sort(),
    );
    const bare = await report({ data: 'stories.txt', adapter: undefined });
    expect(bare).toMatchObject({ adapter: null, captions: 8, tokens: adapted['tokens'] });
    expect(bare['perplexity']).not.toBe(adapted['perplexity']);
    expect(await report({ data: 'stories.txt', adapter: undefined, backbone: 'backbone/language', batch: 1 })).toMatchObject({
      backbone: 'language',
      perplexity: expect.closeTo(bare['perplexity'] as number, 3) as number,
    });
    expect(await print({ data: 'stories.txt', adapter: undefined, limit: 2 })).toMatch(
      /^tiny on stories.txt: 2 lines\n\n {2}perplexity {2}\d+\.\d{3}\n\nPerplexity is of \d+ tokens in 2 lines,/,
    );
  });

  it('has no captions to write, and a bare backbone none to give', async () => {
    expect(await faultsOf(print({ data: 'stories.txt', results: 'x.json' }))).toEqual([
      'Expected images with --results and --references, since text gets no captions, but the data has text only',
    ]);
    expect(await faultsOf(print({ adapter: undefined }))).toEqual([
      '--adapter: Expected an adapter, since the data has images and a bare backbone cannot see, but received none',
    ]);
  });
});

describe('refuses before it begins', () => {
  it('every wrong option at once', async () => {
    const faults = await faultsOf(print({ backbone: undefined, data: undefined, numBeams: '0', limit: 'x', captions: 'second' }));
    expect(faults.map((fault) => fault.split(':')[0])).toEqual(['--backbone', '--data', '--captions', '--num-beams', '--limit']);
  });

  it('files that it could not write', async () => {
    await mkdir(path.join(folder, 'taken'), { recursive: true });
    expect(await faultsOf(print({ results: 'taken', references: 'captions.jsonl/x.json' }))).toEqual([
      `--results: Expected a file to write but received a folder, ${path.join(folder, 'taken')}`,
      expect.stringMatching(/^--references: Expected a file to write but received .*x\.json \((EEXIST|ENOTDIR)\)$/),
    ]);
    expect(await faultsOf(print({ results: 'x.json', references: 'x.json' }))).toEqual([
      `--references: Expected another file than --results, ${path.join(folder, 'x.json')}`,
    ]);
  });

  it('files that would be lost: the data, and references of somebody else', async () => {
    const annotations = JSON.stringify({ info: {}, images: [], annotations: [] });
    await write('captions_val.json', annotations);
    expect(await faultsOf(print({ results: 'captions.jsonl' }))).toEqual([
      `--results: Expected a file to write but received the data itself, ${path.join(folder, 'captions.jsonl')}`,
    ]);
    expect(await faultsOf(print({ references: 'captions_val.json' }))).toEqual([
      `--references: Expected a file to write, new or of an earlier graft eval, but ${path.join(folder, 'captions_val.json')} is something else`,
    ]);
    expect(await readFile(path.join(folder, 'captions_val.json'), 'utf8')).toBe(annotations);
    const data = path.join(folder, 'captions.jsonl');
    expect(await faultsOf(print({ data: '.', results: 'captions.jsonl' }))).toEqual([
      `--results: Expected a file to write, new or of other results, but ${data} is something else`,
    ]);
    expect(await readFile(data, 'utf8')).toMatch(/^\{"image":/);
  });
});

describe('graft eval captions', () => {
  const REFERENCES = {
    images: [{ id: 1 }, { id: 2 }],
    annotations: [
      { image_id: 1, caption: 'a dog runs on the grass' },
      { image_id: 2, caption: 'two cats sleep' },
    ],
  };
  const score = (references: string, results: string): Promise<readonly string[]> =>
    faultsOf(evaluateFiles({ references, results }, folder));

  it('prints scores, of one image with a word on CIDEr', async () => {
    await write('references.json', REFERENCES);
    await write('results.json', [{ image_id: 1, caption: 'A dog runs on the grass!' }]);
    expect(await evaluateFiles({ references: 'references.json', results: 'results.json' }, folder)).toBe(
      [
        '1 image',
        '',
        '  BLEU-1   1.000',
        '  BLEU-2   1.000',
        '  BLEU-3   1.000',
        '  BLEU-4   1.000',
        '  ROUGE-L  1.000',
        '  CIDEr    0.000',
        '',
        'CIDEr of one image is 0 by definition: it weighs words by how few of the images have them.',
      ].join('\n'),
    );
    await write('results.json', [
      { image_id: 1, caption: 'a dog runs on the grass' },
      { image_id: 2, caption: 'two dogs' },
    ]);
    const json = JSON.parse(await evaluateFiles({ references: 'references.json', results: 'results.json', json: true }, folder));
    expect(json).toMatchObject({
      images: 2,
      bleu_1: expect.closeTo((7 / 8) * Math.exp(1 - 9 / 8), 6) as number,
      bleu_counts: { testlen: 8, reflen: 9, guess: [8, 6, 4, 3], correct: [7, 5, 4, 3] },
    });
    expect(Object.keys(json as Json)).toEqual([
      'bleu_1',
      'bleu_2',
      'bleu_3',
      'bleu_4',
      'rouge_l',
      'cider',
      'images',
      'bleu_counts',
    ]);
    expect((json as Json)['cider']).toBeGreaterThan(0);
  });

  it('says in one error what is wrong with both files', async () => {
    await write('broken.json', '{"images": [');
    await mkdir(path.join(folder, 'a-folder'), { recursive: true });
    const [first, second] = await score('broken.json', 'nowhere.json');
    expect(first).toMatch(/broken\.json: Expected JSON but received something else/);
    expect(second).toBe(`Expected a file at ${path.join(folder, 'nowhere.json')} but there is none`);
    expect(await score('a-folder', 'broken.json')).toEqual([
      `${path.join(folder, 'a-folder')}: Expected a file but received something else`,
      expect.stringContaining('broken.json: Expected JSON'),
    ]);
  });

  it('bears with no nesting, repeated key or bytes that are no text', async () => {
    await write('results.json', [{ image_id: 1, caption: 'x' }]);
    await write('deep.json', `${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}`);
    expect(await score('deep.json', 'results.json')).toEqual([
      expect.stringMatching(/deep\.json: Expected JSON of at most 32 levels but received more$/),
    ]);
    await write('twice.json', '[{"image_id": 1, "caption": "x", "caption": "y"}]');
    expect(await score('references.json', 'twice.json')).toEqual([
      expect.stringMatching(/twice\.json: Expected each key once but received "caption" again$/),
    ]);
    await writeFile(path.join(folder, 'bytes.json'), Buffer.from([0x5b, 0xff, 0x5d]));
    expect(await score('references.json', 'bytes.json')).toEqual([expect.stringMatching(/bytes\.json: Expected UTF-8/)]);
  });

  it('says what is no COCO in good JSON', async () => {
    await write('references.json', REFERENCES);
    await write('results.json', [{ image_id: 3, caption: 'x' }, { image_id: 1 }]);
    expect(await score('references.json', 'results.json')).toEqual([
      'Expected results[1].caption to be a string but received nothing',
      'Expected results only of images that are listed but received one of 3',
    ]);
  });
});

describe('the command', () => {
  const graft = (...args: string[]) =>
    spawnSync(process.execPath, [...NODE, 'eval', ...args], {
      cwd: folder,
      encoding: 'utf8',
      env: { PATH: process.env['PATH'] },
    });

  it('prints one JSON object and ends with 0, wherever --json stands', async () => {
    await write('references.json', { images: [{ id: 1 }], annotations: [{ image_id: 1, caption: 'a dog' }] });
    await write('results.json', [{ image_id: 1, caption: 'a dog' }]);
    const files = ['--references', 'references.json', '--results', 'results.json'];
    for (const args of [
      ['captions', ...files, '--json'],
      ['--json', 'captions', ...files],
    ]) {
      const { status, stdout, stderr: said } = graft(...args);
      expect({ status, said }).toEqual({ status: 0, said: '' });
      expect(JSON.parse(stdout)).toMatchObject({ images: 1 });
    }
    const flags = [
      '--backbone',
      'backbone',
      '--adapter',
      'adapters/one',
      '--data',
      'captions.jsonl',
      '--max-tokens',
      '4',
      '--json',
    ];
    const whole = graft(...flags);
    expect(whole.status).toBe(0);
    expect(JSON.parse(whole.stdout)).toMatchObject({ images: 8 });
    expect(whole.stderr).toMatch(/^eval 8\/8 ppl \d+\.\d\d\n$/);
  });

  it('says what is missing or wrong, never a stack, and ends with 1', () => {
    const nothing = graft();
    expect(nothing).toMatchObject({ status: 1, stdout: '' });
    expect(nothing.stderr).toBe(
      'graft: The options are wrong\n  --backbone: Expected a path but received nothing\n  --data: Expected a path but received nothing\n',
    );
    expect(graft('captions', '--results', 'results.json')).toMatchObject({
      status: 1,
      stdout: '',
      stderr: 'graft: The options are wrong: --references: Expected a path but received nothing\n',
    });
    expect(graft('captoins')).toMatchObject({ status: 1, stdout: '' });
    const misfit = graft('--backbone', 'backbone/language', '--adapter', 'adapters/one', '--data', 'captions.jsonl');
    expect(misfit).toMatchObject({ status: 1, stdout: '' });
    expect(misfit.stderr).not.toMatch(/^\s+at /m);
  });

  it.each([[[]], [['captions']]])('teaches with --help: %j', (command: string[]) => {
    const { status, stdout } = graft(...command, '--help');
    expect(status).toBe(0);
    expect((stdout.match(/^ {2}\$ graft eval /gm) ?? []).length).toBeGreaterThanOrEqual(2);
    expect(stdout).toContain('--references <value>');
  });
});
