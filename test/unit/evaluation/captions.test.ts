import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { evaluateCaptions } from '../../../src/evaluation/captions.js';

const COUNTS = z.array(z.number());
const SETS = z
  .array(
    z.object({
      name: z.string(),
      references: z.record(z.string(), z.array(z.string())),
      results: z.record(z.string(), z.string()),
      scores: z.object({
        bleu1: z.number(),
        bleu2: z.number(),
        bleu3: z.number(),
        bleu4: z.number(),
        rougeL: z.number(),
        cider: z.number(),
        bleu: z.object({ testLength: z.number(), referenceLength: z.number(), guess: COUNTS, correct: COUNTS }),
        images: z.number(),
      }),
    }),
  )
  .parse(JSON.parse(readFileSync(new URL('../../fixtures/evaluation/scores.json', import.meta.url), 'utf8')))
  .map(({ references, results, ...rest }) => ({
    ...rest,
    references: new Map(Object.entries(references)),
    results: new Map(Object.entries(results)),
  }));

const METRICS = ['bleu1', 'bleu2', 'bleu3', 'bleu4', 'rougeL', 'cider'] as const;

const caption = fc
  .array(fc.constantFrom('a', 'b', 'c', 'dog', 'cat'), { minLength: 1, maxLength: 8 })
  .map((words) => words.join(' '));
const images = fc.array(fc.record({ result: caption, references: fc.array(caption, { minLength: 1, maxLength: 4 }) }), {
  minLength: 1,
  maxLength: 6,
});

type Image = { readonly result: string; readonly references: readonly string[] };

function evaluate(set: readonly Image[]) {
  return evaluateCaptions(
    new Map(set.map(({ references }, id) => [id, references])),
    new Map(set.map(({ result }, id) => [id, result])),
  );
}

describe('evaluateCaptions', () => {
  it.each(SETS)('gives the scores of coco-caption: $name', ({ references, results, scores }) => {
    const received = evaluateCaptions(references, results);
    expect(received.bleu).toEqual(scores.bleu);
    expect(received.images).toBe(scores.images);
    for (const metric of METRICS) expect(Math.abs(received[metric] - scores[metric]), metric).toBeLessThan(1e-10);
  });

  it('tells the sets apart', () => {
    for (const metric of METRICS) expect(new Set(SETS.map(({ scores }) => scores[metric].toFixed(6))).size).toBeGreaterThan(4);
  });

  it('keeps every metric within its bounds', () => {
    fc.assert(
      fc.property(images, (set) => {
        const scores = evaluate(set);
        for (const metric of METRICS) {
          expect(scores[metric]).toBeGreaterThanOrEqual(0);
          expect(scores[metric]).toBeLessThanOrEqual((metric === 'cider' ? 10 : 1) + 1e-9);
        }
      }),
    );
  });

  it('gives BLEU-1 and ROUGE-L of one to captions that are references', () => {
    fc.assert(
      fc.property(images, (set) => {
        const scores = evaluate(set.map(({ references }) => ({ references, result: references[0] ?? '' })));
        expect(scores.bleu1).toBeCloseTo(1, 6);
        expect(scores.rougeL).toBeCloseTo(1, 9);
        expect(scores.bleu.correct).toEqual(scores.bleu.guess);
      }),
    );
  });

  it('does not mind the order of images and of references', () => {
    fc.assert(
      fc.property(images, (set) => {
        const scores = evaluate(set);
        const reversed = evaluate(set.map((image) => ({ ...image, references: image.references.toReversed() })).toReversed());
        expect(reversed.bleu).toEqual(scores.bleu);
        for (const metric of METRICS) expect(reversed[metric]).toBeCloseTo(scores[metric], 9);
      }),
    );
  });

  it('leaves out images without a result', () => {
    const [{ references, results } = { references: new Map(), results: new Map() }] = SETS;
    const some = new Map([...results].slice(0, 7));
    const theirs = new Map([...references].slice(0, 7));
    expect(evaluateCaptions(references, some)).toEqual(evaluateCaptions(theirs, some));
    expect(evaluateCaptions(references, some)).not.toEqual(evaluateCaptions(references, results));
  });

  it('refuses to score nothing, and against nothing', () => {
    expect(() => evaluateCaptions(new Map(), new Map())).toThrow(RangeError);
    expect(() => evaluateCaptions(new Map(), new Map([[1, 'a dog']]))).toThrow(/reference of image 1 /);
    expect(() => evaluateCaptions(new Map([[1, []]]), new Map([[1, 'a dog']]))).toThrow(RangeError);
  });
});
