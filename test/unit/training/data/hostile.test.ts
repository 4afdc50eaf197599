/** Files that nobody means to write. Each row that is wrong costs itself, never its neighbours, and never more memory than a line may take. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BadRow } from '../../../../src/training/data/example.js';
import { readDataset } from '../../../../src/training/data/read.js';

const GOOD = '{"image": "good.jpg", "text": "good"}';
let root: string;
let outside: string;

beforeEach(async () => {
  const top = await realpath(await mkdtemp(join(tmpdir(), 'graft-hostile-')));
  root = join(top, 'data');
  outside = join(top, 'outside.jpg');
  await mkdir(root);
  for (const path of [outside, join(root, 'good.jpg')]) await writeFile(path, '');
});

afterEach(async () => {
  await rm(join(root, '..'), { recursive: true });
});

/** The bad rows of a file in which good rows stand before and after the given one, and both are read. */
async function refusalsOf(row: string | Uint8Array): Promise<readonly BadRow[]> {
  const file = join(root, 'x.jsonl');
  await writeFile(file, Buffer.concat([Buffer.from(`${GOOD}\n`), Buffer.from(row as Uint8Array), Buffer.from(`\n${GOOD}\n`)]));
  const { examples, bad } = await readDataset(file, { normalize: 'caption' });
  expect(examples).toEqual([{ image: join(root, 'good.jpg'), captions: ['good.', 'good.'], origin: 'x.jsonl:1' }]);
  return bad;
}

const row = (fields: Readonly<Record<string, unknown>>): string => JSON.stringify({ image: 'good.jpg', text: 'x', ...fields });

describe('a row', () => {
  it.each<readonly [string, string | Uint8Array, string]>([
    ['that is no JSON', '{"image": "good.jpg", ', 'Expected JSON but received something else'],
    ['with a NUL', '{"image": "good.jpg", "text": "a\0"}', 'Expected JSON but received something else'],
    ['that is a list', '["good.jpg", "x"]', 'Expected an object but received ["good.jpg","x"]'],
    ['that is null', 'null', 'Expected an object but received null'],
    ['of 2 MiB', row({ text: 'x'.repeat(2 * 1024 ** 2) }), 'Expected a line of at most 1048576 bytes but received 20971'],
    ['of 2 MiB of spaces', ' '.repeat(2 * 1024 ** 2), 'Expected a line of at most 1048576 bytes but received 2097152'],
    ['that is no UTF-8', new Uint8Array([0x22, 0xc3, 0x28, 0x22]), 'Expected UTF-8 but received other bytes'],
    ['of UTF-16', Buffer.from(`\ufeff${GOOD}`, 'utf16le'), 'Expected UTF-8 but received other bytes'],
    ['of deep JSON', '['.repeat(500_000), 'Expected JSON of at most 32 levels but received more'],
    ['of deep JSON in a key', `{"text": "x", "more": ${'['.repeat(40)}${']'.repeat(40)}}`, 'Expected JSON of at most 32 levels'],
    ['with a number for an image', row({ image: 3 }), 'Expected image to be a path but received 3'],
    [
      'with a number for a caption',
      row({ captions: ['a', 3] }),
      'Expected captions to be a text or a list of texts but received ["a",3]',
    ],
    ['with an object for a caption', row({ caption: {} }), 'Expected caption to be a text or a list of texts but received {}'],
    ['without a caption', row({ text: null }), 'Expected captions, caption or text but received none of them'],
    ['with a list of no captions', row({ captions: [] }), 'Expected captions to have at least one text but received none'],
    [
      'with one empty caption of two',
      row({ captions: ['a', ' \u00a0'] }),
      'Expected a caption that is not empty but received " ',
    ],
    ['with nothing but a full stop', row({ captions: ['.'] }), 'Expected a caption that is not empty but received "."'],
    ['with an escaped NUL', row({ text: 'a\0b' }), 'none a NUL, but received "a\\u0000b"'],
    ['with half a character', '{"image": "good.jpg", "text": "\\ud83d"}', 'Expected a caption of whole characters'],
    [
      'with its keys hidden in a prototype',
      '{"__proto__": {"image": "good.jpg", "text": "x"}}',
      'Expected captions, caption or text',
    ],
    ['of an image that is not there', row({ image: 'no.jpg' }), 'Expected an image file "no.jpg" but there is none'],
    ['of an image below a file', row({ image: 'good.jpg/no.jpg' }), 'Expected an image file "good.jpg/no.jpg" but there is none'],
    ['of an image that is the folder', row({ image: '' }), 'Expected an image file "" but it is a folder'],
    ['of an image outside', row({ image: '../outside.jpg' }), 'below the folder of images but received "../outside.jpg"'],
    ['of an image outside by detours', row({ image: 'a/../../outside.jpg' }), 'below the folder of images but received'],
    [
      'of an image with a NUL',
      row({ image: 'good.jpg\0' }),
      'Expected an image file "good.jpg\\u0000" but it cannot be looked at',
    ],
    ['of an image with an endless name', row({ image: 'x'.repeat(5000) }), '..." but it cannot be looked at (ENAMETOOLONG)'],
    [
      'of an image with a name for terminals',
      row({ image: '\u001b[2J' }),
      'Expected an image file "\\u001b[2J" but there is none',
    ],
  ])('%s is told, and its neighbours are kept', async (_, content, reason) => {
    expect(await refusalsOf(content)).toEqual([
      { origin: 'x.jsonl:2', reason: expect.stringContaining(reason.replace('..."', '...')) },
    ]);
  });

  it('of an absolute path is told, also where it lies below the folder', async () => {
    for (const image of [outside, join(root, 'good.jpg')])
      expect(await refusalsOf(row({ image }))).toEqual([
        {
          origin: 'x.jsonl:2',
          reason: `Expected the path of an image below the folder of images but received ${JSON.stringify(image)}`,
        },
      ]);
  });

  it('of a folder, a broken link, a loop or a pipe is told', async () => {
    await mkdir(join(root, 'folder.jpg'));
    await symlink(join(root, 'nowhere'), join(root, 'broken.jpg'));
    await symlink(join(root, 'loop.jpg'), join(root, 'loop.jpg'));
    await promisify(execFile)('mkfifo', [join(root, 'pipe.jpg')]);
    for (const [image, fault] of [
      ['folder.jpg', 'it is a folder'],
      ['broken.jpg', 'there is none'],
      ['loop.jpg', 'it cannot be looked at (ELOOP)'],
      ['pipe.jpg', 'it is no regular file'],
    ] as const)
      expect(await refusalsOf(row({ image }))).toEqual([
        { origin: 'x.jsonl:2', reason: `Expected an image file "${image}" but ${fault}` },
      ]);
  });

  it('may have as many captions as fit, again and again', async () => {
    const file = join(root, 'x.jsonl');
    const captions = Array.from({ length: 200_000 }, () => 'a');
    await writeFile(file, `${JSON.stringify({ image: 'good.jpg', captions })}\n`.repeat(2));
    const { examples } = await readDataset(file, { normalize: 'none' });
    expect(examples.map((each) => each.captions.length)).toEqual([400_000]);
  });

  it('without an image is no text where the rows with images are all bad', async () => {
    const file = join(root, 'x.jsonl');
    await writeFile(file, '{"text": "lost"}\n{"image": "../x.jpg", "text": "a"}\n');
    await expect(readDataset(file, { normalize: 'none' })).rejects.toMatchObject({
      faults: [expect.stringContaining('Expected an image, like the other rows'), expect.stringContaining('"../x.jpg"')],
    });
  });

  it('may have a key twice: the last counts', async () => {
    expect(await refusalsOf('{"image": "no.jpg", "text": "x", "image": "gone.jpg"}')).toEqual([
      { origin: 'x.jsonl:2', reason: 'Expected an image file "gone.jpg" but there is none' },
    ]);
  });
});

describe('a line', () => {
  it('may have exactly as many bytes as are allowed', async () => {
    const file = join(root, 'x.txt');
    const [longest, longer] = [1024 ** 2, 1024 ** 2 + 1].map((bytes) => 'x'.repeat(bytes));
    await writeFile(file, `${longer}\n${longest}\n${longer}`);
    const { examples, bad } = await readDataset(file, { normalize: 'none' });
    expect(examples.map(({ captions, origin }) => [captions[0] === longest, origin])).toEqual([[true, 'x.txt:2']]);
    expect(bad.map(({ origin }) => origin)).toEqual(['x.txt:1', 'x.txt:3']);
  });
});

describe('a table', () => {
  it('with a quote that never ends costs what a line may cost, not the rest', async () => {
    const file = join(root, 'metadata.csv');
    const filler = `${'x'.repeat(999)}\n`.repeat(1100);
    await writeFile(file, `file_name,text\ngood.jpg,one\ngood.jpg,"open\n${filler}good.jpg,two\n`);
    const { examples, bad } = await readDataset(file, { normalize: 'none' });
    expect(examples.map(({ captions }) => captions)).toEqual([['one', 'two']]);
    expect(bad[0]).toEqual({ origin: 'metadata.csv:3', reason: expect.stringContaining('Expected a quote to be closed') });
    expect(bad.at(-1)).toEqual({ origin: 'metadata.csv:1103', reason: 'Expected 2 fields but received 1' });
  });
});

describe('a dataset', () => {
  it('that is a pipe or a device is refused, and not waited for', async () => {
    const pipe = join(root, 'x.jsonl');
    await promisify(execFile)('mkfifo', [pipe]);
    for (const format of ['jsonl', 'coco', 'text', 'imagefolder'] as const)
      await expect(readDataset(pipe, { normalize: 'none', format })).rejects.toMatchObject({
        code: 'invalid_data',
        message: `${pipe}: Expected a file but received something else`,
      });
  });

  it('whose file is a folder is refused', async () => {
    await mkdir(join(root, 'captions.jsonl'));
    await expect(readDataset(root, { normalize: 'none' })).rejects.toMatchObject({
      code: 'invalid_data',
      message: expect.stringContaining('captions.jsonl: Expected a file but received something else'),
    });
  });

  it('of nothing but bad rows names the first hundred', async () => {
    const file = join(root, 'x.jsonl');
    await writeFile(file, '0\n'.repeat(5000));
    const { faults } = await readDataset(file, { normalize: 'none' }).then(
      () => expect.unreachable(),
      (error: unknown) => error as { faults: readonly string[] },
    );
    expect(faults).toHaveLength(101);
    expect([faults[0], faults.at(-1)]).toEqual(['x.jsonl:1 Expected an object but received 0', 'and 4900 more faults']);
  });
});
