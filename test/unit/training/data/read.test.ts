/**
 * Datasets in every format: what Hugging Face's datasets and pycocotools read from the committed files, and what each format's own
 * rows may look like. What is hostile or broken is in hostile.test.ts.
 */
import { copyFile, mkdir, mkdtemp, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Example } from '../../../../src/training/data/example.js';
import { readDataset } from '../../../../src/training/data/read.js';

const FIXTURES = fileURLToPath(new URL('../../../fixtures/training/data/', import.meta.url));
const NONE = { normalize: 'none' } as const;
const expected = JSON.parse(await readFile(join(FIXTURES, 'expected.json'), 'utf8')) as Record<string, [string, string[]][]>;
let root: string;

beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), 'graft-dataset-')));
});

afterEach(async () => {
  await rm(root, { recursive: true });
});

async function put(name: string, content: string | Uint8Array = ''): Promise<string> {
  const path = join(root, name);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content);
  return path;
}

const lines = (...rows: readonly unknown[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
const plain = (examples: readonly Example[], folder = root): unknown[] =>
  examples.map(({ image, captions }) => [image?.slice(folder.length + 1), captions]);

describe('beside other readers', () => {
  it.each(['metadata.jsonl', 'metadata.csv', 'instances.json'])('%s reads as they read it', async (name) => {
    await copyFile(join(FIXTURES, name), join(root, name));
    for (const [image] of expected[name] ?? []) await put(image);
    const { examples, bad } = await readDataset(join(root, name), NONE);
    expect(plain(examples)).toEqual(expected[name]);
    expect(bad).toEqual([]);
    expect(examples).toHaveLength(4);
  });

  it.each(['metadata.jsonl', 'metadata.csv'])('a folder with %s is an imagefolder', async (name) => {
    await copyFile(join(FIXTURES, name), join(root, name));
    for (const [image] of expected[name] ?? []) await put(image);
    expect(plain((await readDataset(root, NONE)).examples)).toEqual(expected[name]);
  });
});

describe('JSON lines', () => {
  it('takes captions, caption and text, one or a list, with lines counted over blank ones, CRLF and a byte order mark', async () => {
    for (const image of ['a.jpg', 'b/c.jpg', 'd.jpg']) await put(image);
    const rows = [
      { image: 'a.jpg', captions: ['One .', 'Two'], license: 'x' },
      { image: './b/../b/c.jpg', caption: ' Three' },
      { image: 'd.jpg', text: ['Four', 'four'], caption: null },
    ];
    const content = rows.map((row) => JSON.stringify(row)).join('\r\n\r\n  \r\n');
    await put('captions.jsonl', `\ufeff${content}`);
    const dataset = await readDataset(root, { normalize: 'caption' });
    expect(dataset).toEqual({
      folder: root,
      examples: [
        { image: join(root, 'a.jpg'), captions: ['one.', 'two.'], origin: 'captions.jsonl:1' },
        { image: join(root, 'b/c.jpg'), captions: ['three.'], origin: 'captions.jsonl:4' },
        { image: join(root, 'd.jpg'), captions: ['four.', 'four.'], origin: 'captions.jsonl:7' },
      ],
      bad: [],
    });
  });

  it('joins the rows of one image, however its path is written', async () => {
    await put('a.jpg');
    await put('x.jsonl', lines({ image: 'a.jpg', text: '1' }, { image: './a.jpg', captions: ['2', '3'] }));
    const { examples } = await readDataset(join(root, 'x.jsonl'), NONE);
    expect(examples).toEqual([{ image: join(root, 'a.jpg'), captions: ['1', '2', '3'], origin: 'x.jsonl:1' }]);
  });

  it('takes rows without an image where no row has one, equal ones too', async () => {
    const file = await put('x.jsonl', lines({ text: 'one' }, { image: null, text: 'two' }, { text: 'one' }));
    const { examples, bad } = await readDataset(file, NONE);
    expect(examples.map(({ image, captions }) => [image, captions])).toEqual([
      [null, ['one']],
      [null, ['two']],
      [null, ['one']],
    ]);
    expect(bad).toEqual([]);
  });

  it('refuses a row without an image where others have one', async () => {
    await put('a.jpg');
    const file = await put('x.jsonl', lines({ text: 'lost' }, { image: 'a.jpg', text: 'one' }));
    const { examples, bad } = await readDataset(file, NONE);
    expect(examples).toHaveLength(1);
    expect(bad).toEqual([{ origin: 'x.jsonl:1', reason: 'Expected an image, like the other rows, but received none' }]);
  });

  it('finds the images in another folder, if it is told', async () => {
    await put('photos/a.jpg');
    const file = await put('rows/x.jsonl', lines({ image: 'a.jpg', text: 'one' }));
    const { examples, folder } = await readDataset(file, { ...NONE, images: join(root, 'photos') });
    expect(examples[0]?.image).toBe(join(root, 'photos/a.jpg'));
    expect(folder).toBe(join(root, 'photos'));
  });

  it('follows links to images: caches of downloads are made of them', async () => {
    await put('blobs/1');
    await symlink(join(root, 'blobs/1'), join(root, 'a.jpg'));
    const file = await put('x.jsonl', lines({ image: 'a.jpg', text: 'one' }));
    expect((await readDataset(file, NONE)).examples[0]?.image).toBe(join(root, 'a.jpg'));
  });

  it('keeps lines whole where they cross the chunks that a file is read in', async () => {
    const texts = Array.from({ length: 300 }, (_, index) => `${index}:${'ä🐕'.repeat(index * 5)}`);
    const file = await put('x.jsonl', lines(...texts.map((text) => ({ text }))));
    const { examples } = await readDataset(file, NONE);
    expect(examples.map(({ captions }) => captions[0])).toEqual(texts);
  });

  it('is chosen over an imagefolder in the same folder, unless that is asked for', async () => {
    await put('a.jpg');
    await put('captions.jsonl', lines({ image: 'a.jpg', text: 'lines' }));
    await put('metadata.jsonl', lines({ file_name: 'a.jpg', text: 'folder' }));
    const read = async (format?: 'imagefolder'): Promise<unknown> =>
      (await readDataset(root, { ...NONE, format })).examples[0]?.captions;
    expect([await read(), await read('imagefolder')]).toEqual([['lines'], ['folder']]);
  });
});

describe('tables', () => {
  it('reads strays from the standard as they stand, and tells rows of another width', async () => {
    await put('a.jpg');
    const file = await put('metadata.csv', 'text,file_name\n\n5" tall,a.jpg\n"a" b,a.jpg\nonly one\n"",a.jpg\n"x,a.jpg\n');
    const { examples, bad } = await readDataset(file, NONE);
    expect(plain(examples)).toEqual([['a.jpg', ['5" tall', 'a b']]]);
    expect(bad).toEqual([
      { origin: 'metadata.csv:5', reason: 'Expected 2 fields but received 1' },
      { origin: 'metadata.csv:6', reason: 'Expected a caption that is not empty but received ""' },
      { origin: 'metadata.csv:7', reason: expect.stringContaining('Expected a quote to be closed') },
    ]);
  });

  it('needs the columns', async () => {
    const file = await put('metadata.csv', 'file,text\na.jpg,one\n');
    await expect(readDataset(file, NONE)).rejects.toMatchObject({
      code: 'invalid_data',
      message: `${file}: Expected the columns file_name and text but received file, text`,
    });
  });
});

describe('imagefolder', () => {
  it('needs the image in every row', async () => {
    await put('a.jpg');
    await put('metadata.jsonl', lines({ file_name: 'a.jpg', text: 'one' }, { text: 'two' }, { image: 'a.jpg', text: 'three' }));
    const { examples, bad } = await readDataset(root, NONE);
    expect(examples).toHaveLength(1);
    expect(bad).toEqual([
      { origin: 'metadata.jsonl:2', reason: 'Expected file_name but received none' },
      { origin: 'metadata.jsonl:3', reason: 'Expected file_name but received none' },
    ]);
  });
});

describe('COCO', () => {
  it('finds the images in the folder `images`, and tells what cannot be used', async () => {
    await put('images/1.jpg');
    const file = await put(
      'captions.json',
      JSON.stringify({
        images: [
          { id: 1, file_name: '1.jpg' },
          { id: 2, file_name: '2.jpg' },
          { id: 3, file_name: '1.jpg' },
          { id: 1, file_name: '3.jpg' },
          { file_name: '4.jpg' },
          { id: 5 },
          'x',
        ],
        annotations: [
          { image_id: 1, caption: 'One' },
          { image_id: 2, caption: 'no image' },
          { image_id: 9, caption: 'who' },
          { image_id: 1 },
          7,
          { image_id: 1, caption: 'Two' },
          { image_id: '1', caption: 'a text is no number' },
        ],
      }),
    );
    const { examples, bad, folder } = await readDataset(file, NONE);
    expect(examples).toEqual([{ image: join(root, 'images/1.jpg'), captions: ['One', 'Two'], origin: 'annotations[0]' }]);
    expect(folder).toBe(join(root, 'images'));
    expect(bad).toEqual([
      { origin: 'images[3]', reason: 'Expected each id once but received 1 again' },
      { origin: 'images[4]', reason: 'Expected an image with an id but received {"file_name":"4.jpg"}' },
      { origin: 'images[5]', reason: 'Expected file_name to be a path but received nothing' },
      { origin: 'images[6]', reason: 'Expected an image with an id but received "x"' },
      { origin: 'annotations[1]', reason: 'Expected an image file "2.jpg" but there is none' },
      { origin: 'annotations[2]', reason: 'Expected the id of an image but received 9' },
      { origin: 'annotations[3]', reason: 'Expected caption to be a text but received nothing' },
      { origin: 'annotations[4]', reason: 'Expected an object but received 7' },
      { origin: 'annotations[6]', reason: 'Expected the id of an image but received "1"' },
      { origin: 'images[2]', reason: 'Expected at least one caption but received none' },
    ]);
  });

  it.each([
    ['[]', 'Expected COCO captions, an object, but received something else'],
    ['{"images": [] ', 'Expected JSON but received'],
    ['{"images": [], "annotations": {}}', 'with a list of annotations, but received {}'],
    ['{"annotations": []}', 'with a list of images, but received nothing'],
    ['{"images": [], "annotations": []}', 'Expected at least one row but received none'],
    ['['.repeat(100_000), 'Expected JSON of at most 32 levels'],
    [new Uint8Array([0x7b, 0xff, 0x7d]), 'Expected UTF-8 but received other bytes'],
  ])('refuses content %#', async (content, message) => {
    const file = await put('captions.json', content);
    await expect(readDataset(file, NONE)).rejects.toMatchObject({
      code: 'invalid_data',
      message: expect.stringContaining(message),
    });
  });
});

it('plain text: one text a line', async () => {
  const file = await put('texts.TXT', 'One\r\n\n  {"text": 1} \nlast');
  const { examples, bad } = await readDataset(file, NONE);
  expect(examples).toEqual([
    { image: null, captions: ['One'], origin: 'texts.TXT:1' },
    { image: null, captions: ['{"text": 1}'], origin: 'texts.TXT:3' },
    { image: null, captions: ['last'], origin: 'texts.TXT:4' },
  ]);
  expect(bad).toEqual([]);
});

describe('what is there', () => {
  it('takes the format that is asked for over the name', async () => {
    const file = await put('texts.jsonl', 'not JSON\n');
    expect((await readDataset(file, { ...NONE, format: 'text' })).examples[0]?.captions).toEqual(['not JSON']);
  });

  it.each([
    ['absent', undefined, /^Expected a dataset at .*absent but there is none$/],
    ['empty', undefined, /with captions\.jsonl or metadata\.jsonl or metadata\.csv at .*empty but received one without$/],
    ['empty', 'jsonl', /^Expected a folder with captions\.jsonl at .*empty but received one without$/],
    ['empty', 'coco', /^Expected a file \(coco\) at .*empty but received a folder$/],
    ['x.parquet', undefined, /of \.jsonl \(jsonl\), \.json \(coco\), \.txt \(text\), but received .*x\.parquet$/],
    ['none.jsonl', undefined, /none\.jsonl: Expected at least one row but received none$/],
    [
      'bad.jsonl',
      undefined,
      /bad\.jsonl: Expected at least one row that can be used but received only others: bad\.jsonl:1 Expected .*; bad\.jsonl:3 /,
    ],
  ] as const)('refuses %s, format %s', async (name, format, message) => {
    await mkdir(join(root, 'empty'));
    await put('x.parquet');
    await put('none.jsonl', '\n \n');
    await put('bad.jsonl', '1\n\n{}\n');
    await expect(readDataset(join(root, name), { ...NONE, format })).rejects.toMatchObject({
      code: 'invalid_data',
      message: expect.stringMatching(message),
    });
  });

  it('refuses a folder of images that is none', async () => {
    const file = await put('x.jsonl', lines({ text: 'one' }));
    await expect(readDataset(file, { ...NONE, images: file })).rejects.toMatchObject({
      code: 'invalid_data',
      message: `Expected a folder of images at ${file} but there is none`,
    });
  });
});
