/** The trainer gives the tokenizer that the trainer of Hugging Face's `tokenizers` gives, and Graft's own Tokenizer reads it. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type BpeOptions, trainBpe } from '../../../../scripts/scenes/bpe.js';
import { Tokenizer } from '../../../../src/backbone/tokenizer.js';
import { writeTokenizer } from '../../../support/tokenizers.js';

interface Captions {
  readonly tokenizer: { readonly model: { readonly vocab: Record<string, number>; readonly merges: readonly string[][] } };
  readonly cases: readonly { readonly text: string; readonly ids: readonly number[] }[];
}
interface Hard {
  readonly lines: readonly string[];
  readonly special: BpeOptions['special'];
  /** Those after the special ones and the bytes. */
  readonly tokens: readonly string[];
  readonly merges: readonly string[][];
}

const fixture = (name: string) => readFile(new URL(`../../../fixtures/tokenizer/bpe/${name}`, import.meta.url), 'utf8');
const lines = (await fixture('captions.txt')).trimEnd().split('\n');
const { tokenizer: expected, cases } = JSON.parse(await fixture('captions.json')) as Captions;
const hard = JSON.parse(await fixture('hard.json')) as Hard[];

/** More than any of the fixtures fills. */
const options: BpeOptions = { vocabulary: 4000, special: ['<s>', '</s>', '<pad>'], maxTokens: 128 };
const bare = options.special.length + 256;

describe('trainBpe', () => {
  it('writes the tokenizer.json that tokenizers writes', () => {
    expect(JSON.parse(JSON.stringify(trainBpe(lines, options).tokenizer))).toEqual(expected);
    expect(expected.model.merges.length).toBeGreaterThan(200);
  });

  it.each(hard.map((corpus, index) => [index, corpus] as const))('breaks ties as tokenizers does, corpus %i', (_, corpus) => {
    const { vocab, merges } = trainBpe(corpus.lines, { ...options, special: corpus.special }).tokenizer.model;
    const tokens = Object.keys(vocab).sort((one, other) => (vocab[one] ?? 0) - (vocab[other] ?? 0));
    expect(merges).toEqual(corpus.merges);
    expect(tokens.slice(bare)).toEqual(corpus.tokens);
    expect(merges.length).toBeGreaterThan(5);
  });

  it('stops where the vocabulary is full', () => {
    const { vocab, merges } = trainBpe(lines, { ...options, vocabulary: 300 }).tokenizer.model;
    expect(Object.values(vocab).sort((one, other) => one - other)).toEqual(Array.from({ length: 300 }, (_, id) => id));
    expect(merges).toEqual(expected.model.merges.slice(0, 300 - bare));
    expect(trainBpe([], options).tokenizer.model).toMatchObject({ merges: [] });
    expect(() => trainBpe(lines, { ...options, vocabulary: bare - 1 })).toThrow(
      new RangeError('Expected a vocabulary of at least 259 but received 258'),
    );
  });

  it('names its special tokens in tokenizer_config.json', () => {
    expect(trainBpe([], { ...options, special: ['<a>', '<b>'] }).tokenizerConfig).toEqual({
      tokenizer_class: 'PreTrainedTokenizerFast',
      bos_token: '<a>',
      eos_token: '<b>',
      clean_up_tokenization_spaces: false,
      model_max_length: 128,
    });
    expect(trainBpe([], options).tokenizerConfig).toMatchObject({ bos_token: '<s>', eos_token: '</s>', pad_token: '<pad>' });
  });
});

describe('the tokenizer', () => {
  let folder = '';
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'graft-bpe-'));
    tokenizer = await Tokenizer.open(await writeTokenizer(folder, { ...trainBpe(lines, options), config: { eos_token_id: 1 } }));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('gives the ids that tokenizers gives', () => {
    expect(tokenizer).toMatchObject({ bosId: 0, eosIds: [1], vocabSize: bare + expected.model.merges.length });
    expect([0, 1, 2, 3].map((id) => tokenizer.isSpecial(id))).toEqual([true, true, true, false]);
    expect(cases.length).toBeGreaterThan(10);
    for (const { text, ids } of cases) expect(tokenizer.encode(text), text).toEqual(ids);
  });

  it('gives back any text', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: 'grapheme' }),
      fc
        .array(fc.constantFrom(...lines.flatMap((line) => line.split(' ')), ' ', '\n', '  '), { maxLength: 30 })
        .map((words) => words.join(' ')),
    );
    fc.assert(
      fc.property(text, (text) => {
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
      }),
      { numRuns: 500 },
    );
  });

  it('says a line of its text in fewer tokens than bytes', () => {
    for (const line of lines) expect(tokenizer.encode(line).length, line).toBeLessThan(Buffer.byteLength(line));
  });
});
