/** From captions to ids: what the model is given is what serving will give it, and what it is to learn ends. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Tokenizer } from '../../../src/backbone/tokenizer.js';
import type { Example } from '../../../src/training/data/example.js';
import { type SequenceOptions, Sequences, tokenize } from '../../../src/training/sequence.js';
import { hasShared, shared, withShared } from '../../support/shared.js';
import { makeTinyBackbone } from '../../support/tiny.js';
import { byteFallbackTokenizer, byteLevelTokenizer, writeTokenizer } from '../../support/tokenizers.js';

const EOS = 2;
let folder: string;
/** By name: tiny and sentencepiece write ▁ before words, bytelevel Ġ within GPT-2's words. */
const tokenizers = new Map<string, Tokenizer>();
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'graft-sequence-'));
  await makeTinyBackbone(join(folder, 'tiny'));
  await writeTokenizer(join(folder, 'fallback'), { tokenizer: byteFallbackTokenizer() });
  await writeTokenizer(join(folder, 'level'), { tokenizer: byteLevelTokenizer() });
  await writeTokenizer(join(folder, 'endless'), { tokenizer: byteFallbackTokenizer(), config: { bos_token_id: 1 } });
  tokenizers.set('tiny', await Tokenizer.open(join(folder, 'tiny', 'language')));
  tokenizers.set('sentencepiece', await Tokenizer.open(join(folder, 'fallback')));
  tokenizers.set('bytelevel', await Tokenizer.open(join(folder, 'level')));
  tokenizers.set('endless', await Tokenizer.open(join(folder, 'endless')));
  if (hasShared) tokenizers.set('tinystories', await Tokenizer.open(shared('tinystories-656k')));
});
afterAll(() => rm(folder, { recursive: true }));

function tokenizerOf(name: string): Tokenizer {
  const tokenizer = tokenizers.get(name);
  if (!tokenizer) throw new Error(`Expected a tokenizer ${name}`);
  return tokenizer;
}

const KINDS = ['tiny', 'sentencepiece', 'bytelevel'];
const OPTIONS: SequenceOptions = { prompt: '', imageTokens: 4, maxTokens: 64, captions: 'all' };
const example = (...captions: string[]): Example => ({ image: '/x.png', captions, origin: `captions.jsonl:${captions.length}` });
const rows = (sequences: Sequences): number[][] =>
  Array.from({ length: sequences.count }, (_, index) => [...sequences.ids(index)]);

const PROMPTS = ['', 'a', 'the cat', 'the ', 'is it a dog? ', 'a photo of\n', 'the  ', 'caption:', ' ', 'th', 'a the'];
const CAPTIONS = ['the cat', 'a dog and the cat.', 'e', 'at the end', ' the cat', 'x'];
const pairs = PROMPTS.flatMap((prompt) => CAPTIONS.map((caption): [string, string] => [prompt, caption]));

/** What generation would have printed after the prompt: both decoded as one text, less the prompt's own. */
function continuation(tokenizer: Tokenizer, prompt: string, ids: readonly number[]): string {
  const given = tokenizer.encode(prompt);
  return tokenizer.decode([...given, ...ids]).slice(tokenizer.decode(given).length);
}

describe.each([...KINDS, ...(hasShared ? ['tinystories'] : [])])(`encodeAfter of %s${withShared}`, (kind) => {
  it('is the caption, apart from the prompt by a space', () => {
    const tokenizer = tokenizerOf(kind);
    for (const [prompt, caption] of pairs) {
      const ids = tokenizer.encodeAfter(prompt, caption);
      expect(ids).not.toContain(tokenizer.bosId);
      const text = continuation(tokenizer, prompt, ids);
      expect(text.trim(), JSON.stringify([prompt, caption])).toBe(caption.trim());
      // Words must not grow together.
      if (prompt !== '') expect(`${tokenizer.decode(tokenizer.encode(prompt))}${text}`).toMatch(/\s\S*$/);
    }
  });

  it('is what the whole text would be, wherever the prompt’s ids begin that', () => {
    const tokenizer = tokenizerOf(kind);
    let begun = 0;
    for (const [prompt, caption] of pairs) {
      const given = tokenizer.encode(prompt);
      const whole = tokenizer.encode(prompt === '' || /\s$/.test(prompt) ? `${prompt}${caption}` : `${prompt} ${caption}`);
      if (whole.slice(0, given.length).join() !== given.join()) continue;
      begun++;
      expect([...given, ...tokenizer.encodeAfter(prompt, caption)]).toEqual(whole);
    }
    expect(begun).toBeGreaterThan(pairs.length / 3);
  });
});

describe.each(KINDS)('tokenize with %s', (kind) => {
  it('keeps the prompt id for id and ends every row', () => {
    const tokenizer = tokenizerOf(kind);
    for (const prompt of PROMPTS) {
      const given = tokenizer.encode(prompt);
      const { sequences, bad } = tokenize([example(...CAPTIONS)], tokenizer, { ...OPTIONS, prompt });
      expect(bad).toEqual([]);
      expect(sequences.given).toBe(given.length);
      expect(rows(sequences)).toEqual(CAPTIONS.map((caption) => [...given, ...tokenizer.encodeAfter(prompt, caption), EOS]));
      for (const row of rows(sequences)) expect(row.slice(0, given.length)).toEqual(given);
    }
  });
});

describe('tokenize', () => {
  it('gives a row for each caption, or for the first of each, and says whose it is', () => {
    const tokenizer = tokenizerOf('tiny');
    const examples = [example('a dog', 'the cat'), example('e'), example('a', 'b', 'c')];
    const all = tokenize(examples, tokenizer, OPTIONS).sequences;
    expect([...all.examples]).toEqual([0, 0, 1, 2, 2, 2]);
    expect(rows(all)).toEqual(['a dog', 'the cat', 'e', 'a', 'b', 'c'].map((caption) => [...tokenizer.encode(caption), EOS]));
    const first = tokenize(examples, tokenizer, { ...OPTIONS, captions: 'first' }).sequences;
    expect([...first.examples]).toEqual([0, 1, 2]);
    expect([first.count, all.count]).toEqual([3, 6]);
    expect([...first.lengths()]).toEqual(rows(first).map(({ length }) => length - 1));
  });

  it('leaves out the captions that do not fit, to the token, and tells where they came from', () => {
    const tokenizer = tokenizerOf('tiny');
    const caption = 'xyxyxyxy';
    const length = tokenizer.encode(caption).length;
    const run = (maxTokens: number, prompt = '') =>
      tokenize([example('x', caption), example(caption)], tokenizer, { ...OPTIONS, prompt, maxTokens });
    // BOS, image and caption; EOS is only predicted.
    expect(run(length + 4)).toMatchObject({ bad: [], sequences: { count: 3 } });
    const { sequences, bad } = run(length + 3);
    expect([...sequences.examples]).toEqual([0]);
    expect(bad).toEqual([
      { origin: 'captions.jsonl:2', reason: `Expected a row of at most ${length + 3} tokens but received ${length + 4}` },
      { origin: 'captions.jsonl:1', reason: `Expected a row of at most ${length + 3} tokens but received ${length + 4}` },
    ]);
    const room = tokenizer.encode('xx').length + tokenizer.encodeAfter('xx', caption).length + 4;
    expect(run(room, 'xx').sequences.count).toBe(3);
    expect(run(room - 1, 'xx').sequences.count).toBe(1);
  });

  it('takes text without images, which leaves more room', () => {
    const tokenizer = tokenizerOf('tiny');
    const texts = [{ image: null, captions: ['xyxyxyxy'], origin: 'a.txt:1' }];
    const maxTokens = tokenizer.encode('xyxyxyxy').length;
    expect(tokenize(texts, tokenizer, { ...OPTIONS, imageTokens: 0, maxTokens }).sequences.count).toBe(1);
    expect(tokenize(texts, tokenizer, { ...OPTIONS, imageTokens: 1, maxTokens }).sequences.count).toBe(0);
  });

  it('refuses a prompt that leaves no room, and a checkpoint that knows no end', () => {
    const tokenizer = tokenizerOf('tiny');
    const length = tokenizer.encode('xyxyxy').length;
    const options = { ...OPTIONS, prompt: 'xyxyxy' };
    expect(() => tokenize([], tokenizer, { ...options, maxTokens: length + 3 })).toThrow(
      `Expected a prompt of at most ${length - 1} tokens (of ${length + 3}, the image takes 4) but received ${length}`,
    );
    expect(tokenize([], tokenizer, { ...options, maxTokens: length + 4 }).sequences.count).toBe(0);
    expect(() => tokenize([], tokenizer, { ...OPTIONS, maxTokens: 4 })).toThrow(
      'Expected rows of more than the 4 tokens that an image takes but received at most 4',
    );
    expect(() => tokenize([], tokenizerOf('endless'), OPTIONS)).toThrow('end-of-sequence');
  });
});

describe('Sequences', () => {
  it('keeps rows of different length apart, also none', () => {
    const ids = [
      [1, 5, 2],
      [1, 2],
      [1, 6, 7, 8, 2],
    ];
    const sequences = new Sequences(ids, [4, 0, 4], 1);
    expect(rows(sequences)).toEqual(ids);
    expect([...sequences.examples]).toEqual([4, 0, 4]);
    expect([...sequences.lengths()]).toEqual([2, 1, 4]);
    expect(new Sequences([], [], 1)).toMatchObject({ count: 0 });
  });
});
