import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { tokenize } from '../../../src/evaluation/tokens.js';

const CASES = z
  .array(z.object({ caption: z.string(), words: z.array(z.string()) }))
  .parse(JSON.parse(readFileSync(new URL('../../fixtures/evaluation/tokens.json', import.meta.url), 'utf8')));

describe('tokenize', () => {
  it.each(CASES)('gives the words of PTBTokenizer: $caption', ({ caption, words }) => {
    expect(tokenize(caption)).toEqual(words);
  });

  it('gives words without spaces, in lower case, for any text', () => {
    const pieces = fc.constantFrom(...CASES.flatMap(({ caption }) => caption.split(/(?=[ '.-])/)));
    const text = fc.array(fc.oneof(pieces, fc.string({ unit: 'binary' })), { maxLength: 12 }).map((parts) => parts.join(''));
    fc.assert(
      fc.property(text, (caption) => {
        for (const word of tokenize(caption)) {
          expect(word).not.toMatch(/^$|[ \t\r\n]/);
          expect(word).toBe(word.toLowerCase());
        }
      }),
      { numRuns: 500 },
    );
  });

  it('takes no notice of what stands before a word', () => {
    fc.assert(
      fc.property(fc.constantFrom(...CASES), fc.constantFrom(...CASES), (a, b) => {
        expect(tokenize(`${a.caption} word ${b.caption}`)).toEqual([...tokenize(`${a.caption} word`), ...tokenize(b.caption)]);
      }),
    );
  });

  it('comes to an end on text made to be searched again and again', () => {
    const units = [
      'a.',
      'a,',
      'a-',
      'a,.',
      'a/',
      "y'",
      "n't",
      'A. ',
      'a@',
      '<a ',
      '&a',
      'http://',
      'www.',
      '...',
      '5.',
      '\ud83d',
      'a.;',
    ];
    for (const unit of units) {
      const few = tokenize(`x ${unit.repeat(1_000)} x`).join('').length;
      const many = tokenize(`x ${unit.repeat(50_000)} x`).join('').length;
      expect(many, unit).toBeGreaterThanOrEqual(few);
    }
    expect(tokenize('a'.repeat(1_000_000))).toEqual(['a'.repeat(1_000_000)]);
  });
});
