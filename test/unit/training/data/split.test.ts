import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AppError } from '../../../../src/errors.js';
import type { Example } from '../../../../src/training/data/example.js';
import { split } from '../../../../src/training/data/split.js';

const example = (image: string | null, caption = 'a dog.'): Example => ({ image, captions: [caption], origin: 'x:1' });
const photos = (count: number, folder = '/data'): Example[] =>
  Array.from({ length: count }, (_, index) => example(`${folder}/${index}.jpg`));
const namesOf = (examples: readonly Example[]): (string | null)[] => examples.map(({ image }) => image);
const images = fc.array(
  fc.integer({ min: 0, max: 60 }).map((n) => `/data/${n}.jpg`),
  { maxLength: 80 },
);
const distinct = (list: readonly string[]): number => new Set(list).size;

describe('split', () => {
  it('puts every example on one side, in order, all of an image together, at least one on each', () => {
    const holdouts = fc.oneof(fc.double({ min: 0, max: 1, minExcluded: true, maxExcluded: true, noNaN: true }), fc.constant(1));
    fc.assert(
      fc.property(
        images.filter((list) => distinct(list) > 1),
        holdouts,
        fc.maxSafeInteger(),
        (list, holdout, seed) => {
          const examples = list.map((image) => example(image));
          const { train, validation } = split(examples, { holdout, seed });
          const held = new Set(namesOf(validation));
          expect(train).toEqual(examples.filter(({ image }) => !held.has(image)));
          expect(validation).toEqual(examples.filter(({ image }) => held.has(image)));
          expect(train.length).toBeGreaterThan(0);
          expect(validation.length).toBeGreaterThan(0);
        },
      ),
    );
  });

  it('moves no image when others come: on its side it stays, wherever the new ones stand', () => {
    fc.assert(
      fc.property(images, images, fc.integer(), (list, more, seed) => {
        // A hundred others, so that neither side has to be given its one.
        const before = [...photos(100, '/old'), ...list.map((image) => example(image))];
        const after = [...more.map((image) => example(image)), ...before];
        const options = { holdout: 0.3, seed };
        const [held, heldLater] = [split(before, options), split(after, options)].map(
          (each) => new Set(namesOf(each.validation)),
        );
        for (const { image } of before) expect(heldLater?.has(image)).toBe(held?.has(image));
      }),
    );
  });

  it('meets a share about, and a number exactly', () => {
    const examples = photos(10_000);
    const share = split(examples, { holdout: 0.1, seed: 3 }).validation.length;
    expect(share).toBeGreaterThan(880);
    expect(share).toBeLessThan(1120);
    for (const holdout of [1, 17, 9999]) expect(split(examples, { holdout, seed: 3 }).validation).toHaveLength(holdout);
  });

  it('counts images, not rows', () => {
    const examples = photos(10).flatMap((each) => [each, { ...each }, { ...each }]);
    expect(split(examples, { holdout: 2, seed: 1 }).validation).toHaveLength(6);
  });

  it('is another for another seed, and for ever the same for the same', () => {
    const examples = photos(20);
    const held = (seed: number): string =>
      namesOf(split(examples, { holdout: 5, seed }).validation)
        .map((name) => name?.slice(6, -4))
        .join(' ');
    expect([held(0), held(1)]).toEqual(['1 8 11 14 16', '11 12 16 17 18']);
  });

  it('does not depend on where the folder lies, if it is told', () => {
    const held = (folder: string): (string | null | undefined)[] =>
      namesOf(split(photos(50, folder), { holdout: 0.4, seed: 9, folder }).validation).map((name) => name?.slice(folder.length));
    expect(held('/elsewhere/deep')).toEqual(held('/data'));
  });

  it('goes by the text where there is no image', () => {
    const texts = Array.from({ length: 100 }, (_, index) => example(null, `text ${index % 50}`));
    const { train, validation } = split(texts, { holdout: 10, seed: 1 });
    expect(validation).toHaveLength(20);
    const captions = new Set(train.map((each) => each.captions[0]));
    for (const each of validation) expect(captions.has(each.captions[0])).toBe(false);
  });

  it.each([
    [0, photos(5), 'a share between 0 and 1, or a number from 1, but received 0'],
    [-0.5, photos(5), 'but received -0.5'],
    [1.5, photos(5), 'but received 1.5'],
    [Number.NaN, photos(5), 'but received NaN'],
    [Number.POSITIVE_INFINITY, photos(5), 'but received Infinity'],
    [5, photos(5), 'Expected to hold out fewer than all 5 but received 5'],
    [0.5, [...photos(1), ...photos(1)], 'Expected at least 2 images or texts to hold one out but received 1'],
    [0.5, [], 'but received 0'],
  ])('refuses to hold out %d', (holdout, examples, message) => {
    const attempt = (): unknown => split(examples, { holdout, seed: 0 });
    expect(attempt).toThrow(AppError);
    expect(attempt).toThrow(expect.objectContaining({ code: 'invalid_data', message: expect.stringContaining(message) }));
  });
});
