import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { normalize } from '../../../../src/training/data/normalize.js';

const texts = fc.string({ unit: fc.constantFrom(...Array.from("aZ ßİΣ.!?,;:'\t\n\u00a0\u3000\ufeff\u0301🐕")) });

describe('caption', () => {
  it.each([
    ['A black dog is running after a white dog in the snow .', 'a black dog is running after a white dog in the snow.'],
    ['Black dog chasing brown dog through snow', 'black dog chasing brown dog through snow.'],
    ['The kitchen is yellow with white cabinets. ', 'the kitchen is yellow with white cabinets.'],
    [" a child 's \t toy , red ; small : new ", "a child's toy, red; small: new."],
    ['catching air !', 'catching air.'],
    ['ready ? ! ...', 'ready.'],
    ['wait ... what', 'wait... what.'],
    ['it costs 3.50', 'it costs 3.50.'],
    ["Number ' free dinner '", "number' free dinner'."],
    ['ÉTÉ à la plage', 'été à la plage.'],
    [' . .', ''],
    ['\u00a0\n', ''],
    ['', ''],
  ])('%j becomes %j', (text, expected) => {
    expect(normalize(text, 'caption')).toBe(expected);
  });

  it('is lower case, has single spaces, none before punctuation, and one final full stop; and stays as it is', () => {
    fc.assert(
      fc.property(texts, (text) => {
        const caption = normalize(text, 'caption');
        expect(caption.toLowerCase()).toBe(caption);
        expect(caption).not.toMatch(/[^\S ]| {2}|^ | $| [.,!?;:']/);
        expect(caption === '' || /[^ .!?]\.$/.test(caption)).toBe(true);
        expect(normalize(caption, 'caption')).toBe(caption);
      }),
      { numRuns: 1000 },
    );
  });

  it('loses nothing but spaces, case and the marks at the end', () => {
    const bare = (text: string): string =>
      text
        .toLowerCase()
        .replaceAll(/\s/g, '')
        .replace(/[.!?]*$/, '');
    fc.assert(
      fc.property(texts, (text) => {
        expect(bare(normalize(text, 'caption'))).toBe(bare(text));
      }),
    );
  });

  it('takes a long row of marks and spaces in its stride', () => {
    expect(normalize(`a${' .'.repeat(500_000)}b`, 'caption')).toBe(`a${'.'.repeat(500_000)}b.`);
  });
});

it('none: only trims', () => {
  expect(normalize(' \n A Dog  runs . \u00a0', 'none')).toBe('A Dog  runs .');
  expect(normalize(' \t', 'none')).toBe('');
});
