import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { readDataset } from '../../src/training/data/read.js';
import { split } from '../../src/training/data/split.js';
import { hasShared, shared, withShared } from '../support/shared.js';

test.runIf(hasShared)(`Flickr8k reads as what it is, with five captions a photo${withShared}`, async () => {
  for (const [name, count] of [
    ['train', 6000],
    ['dev', 1000],
  ] as const) {
    const { examples, bad } = await readDataset(shared(`flickr8k/${name}`), { normalize: 'caption' });
    expect(bad).toEqual([]);
    expect(examples).toHaveLength(count);
    expect(examples.filter(({ captions }) => captions.length !== 5)).toEqual([]);
    expect(new Set(examples.map(({ image }) => image)).size).toBe(count);
    expect(split(examples, { holdout: 100, seed: 1 }).validation).toHaveLength(100);
  }
});

test.runIf(hasShared)(`captions are spelt as the reference adapter's were${withShared}`, async () => {
  const golden = JSON.parse(await readFile(shared('reference-adapter/golden.json'), 'utf8')) as {
    readonly image: string;
    readonly references: readonly string[];
  }[];
  const { examples, folder } = await readDataset(shared('flickr8k/dev'), { normalize: 'caption' });
  const captions = new Map(examples.map((each) => [each.image, each.captions]));
  expect(golden).toHaveLength(24);
  for (const { image, references } of golden) expect(captions.get(`${folder}/${image}`)).toEqual(references);
});

test.runIf(hasShared)(`COCO's captions and photos read without a bad row${withShared}`, async () => {
  const texts = await readDataset(shared('coco-captions/captions.txt'), { normalize: 'caption' });
  expect(texts.bad).toEqual([]);
  expect(texts.examples).toHaveLength(201_759);
  const photos = await readDataset(shared('photos'), { normalize: 'none' });
  expect(photos.bad).toEqual([]);
  expect(photos.examples).toHaveLength(24);
});
