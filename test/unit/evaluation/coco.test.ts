import { describe, expect, it } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { evaluateCaptions } from '../../../src/evaluation/captions.js';
import { evaluateCoco } from '../../../src/evaluation/coco.js';

const ANNOTATIONS = {
  info: {},
  images: [{ id: 7 }, { id: 8 }, { id: 9 }],
  annotations: [
    { id: 1, image_id: 7, caption: 'A dog runs.' },
    { id: 2, image_id: 8, caption: 'A cat sleeps on a bench.' },
    { id: 3, image_id: 7, caption: 'The dog runs in the snow.' },
  ],
};
const RESULTS = [
  { image_id: 8, caption: 'a cat on a bench' },
  { image_id: 7, caption: 'a dog in the snow' },
];

function faultsOf(annotations: unknown, results: unknown): readonly string[] {
  try {
    evaluateCoco(annotations, results);
  } catch (error) {
    expect(error).toBeInstanceOf(AppError);
    if (!(error instanceof AppError)) throw error;
    expect(error.code).toBe('invalid_data');
    return error.faults ?? [];
  }
  return [];
}

describe('evaluateCoco', () => {
  it('matches results with the captions of their images', () => {
    const references = new Map([
      [8, ['A cat sleeps on a bench.']],
      [7, ['A dog runs.', 'The dog runs in the snow.']],
    ]);
    const results = new Map([
      [8, 'a cat on a bench'],
      [7, 'a dog in the snow'],
    ]);
    expect(evaluateCoco(ANNOTATIONS, RESULTS)).toEqual(evaluateCaptions(references, results));
  });

  it('takes names for ids, and scores only images that have a result', () => {
    const annotations = {
      images: [{ id: 'a.jpg' }, { id: 'b.jpg' }],
      annotations: [{ image_id: 'a.jpg', caption: 'a dog' }],
    };
    expect(evaluateCoco(annotations, [{ image_id: 'a.jpg', caption: 'a dog' }])).toMatchObject({ images: 1, rougeL: 1 });
  });

  it.each([null, 3, 'text', [], {}])('refuses %j for either file', (value) => {
    expect(faultsOf(value, RESULTS).slice(0, 2)).toEqual([
      'Expected images to be a list of one entry at least but received nothing',
      'Expected annotations to be a list of one entry at least but received nothing',
    ]);
    expect(faultsOf(ANNOTATIONS, value)).toEqual([
      expect.stringMatching(/^Expected results to be a list of one entry at least but received /),
    ]);
  });

  it('says all that is wrong at once', () => {
    const annotations = {
      images: [{ id: 7 }, { id: 1.5 }, 'eight', { id: 9 }],
      annotations: [...ANNOTATIONS.annotations, { image_id: 7, caption: null }, { caption: 'a dog' }, [], { image_id: 7 }],
    };
    const results = [
      ...RESULTS,
      { image_id: 7, caption: 'again' },
      { image_id: 9, caption: 'no references' },
      { image_id: '7', caption: 'another id' },
      { image_id: 9, caption: ['a', 'list'] },
      { image_id: 7, caption: 'x'.repeat(10_001) },
      null,
    ];
    expect(faultsOf(annotations, results)).toEqual([
      'Expected images[1].id to be an integer or a name but received 1.5',
      'Expected images[2].id to be an integer or a name but received nothing',
      'Expected annotations[3].caption to be a string but received null',
      'Expected annotations[4].image_id to be an integer or a name but received nothing',
      'Expected annotations[5].image_id to be an integer or a name but received nothing',
      'Expected annotations[5].caption to be a string but received nothing',
      'Expected annotations[6].caption to be a string but received nothing',
      'Expected results[5].caption to be a string but received a list',
      'Expected results[6].caption to be of at most 10000 characters but received 10001',
      'Expected results[7].image_id to be an integer or a name but received nothing',
      'Expected results[7].caption to be a string but received nothing',
      'Expected results only of images that are listed but received one of 8',
      'Expected one result an image but received another of 7',
      'Expected annotations of image 9 but received none',
      'Expected results only of images that are listed but received one of "7"',
    ]);
  });

  it('reads no member that an object only inherits', () => {
    const result: unknown = Object.create({ image_id: 7, caption: 'a dog' });
    expect(faultsOf(ANNOTATIONS, [result])).toHaveLength(2);
  });

  it('names the first hundred faults and counts the others', () => {
    const faults = faultsOf(
      ANNOTATIONS,
      Array.from({ length: 250 }, () => ({ image_id: 3, caption: 'a dog' })),
    );
    expect(faults).toHaveLength(101);
    expect(faults[100]).toBe('and 150 more faults');
  });
});
