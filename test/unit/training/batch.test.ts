/** What goes into the graph, worked out by hand: where each token lies, what sees it, and which position is to predict what. */
import { describe, expect, it } from 'vitest';
import { readLlama } from '../../../src/backbone/language/llama.js';
import type { Tensor } from '../../../src/runtime/session.js';
import { assemble, type Batch, type BatchShape, dropoutFeeds, featureFeed } from '../../../src/training/batch.js';
import { names, type Program } from '../../../src/training/program.js';
import { Sequences } from '../../../src/training/sequence.js';

const language = readLlama(
  {
    model_type: 'llama',
    hidden_size: 8,
    intermediate_size: 8,
    num_hidden_layers: 1,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 32,
  },
  'test',
);
const IMAGE = { tokens: 2, dim: 3 };
const withImage: BatchShape = { language, image: IMAGE, contexts: ['image', 'text'] };
const textOnly: BatchShape = { language, image: null, contexts: ['text'] };

/** BOS 1, EOS 2; captions of two tokens, of none and of four. */
const plain = new Sequences(
  [
    [1, 10, 11, 2],
    [1, 2],
    [1, 20, 21, 22, 23, 2],
  ],
  [0, 1, 2],
  1,
);
/** The same after a prompt of 7 and 8. */
const prompted = new Sequences(
  [
    [1, 7, 8, 10, 11, 2],
    [1, 7, 8, 2],
  ],
  [0, 1],
  3,
);

function numbers(feed: Tensor | undefined): number[] {
  return Array.from((feed?.data ?? []) as ArrayLike<number | bigint>, Number);
}

/** A feed as rows of its last axis. */
function table({ feeds }: Batch, name: string): number[][] {
  const feed = feeds[name];
  const width = feed?.dims.at(-1) ?? 0;
  const flat = numbers(feed);
  return Array.from({ length: flat.length / width }, (_, row) => flat.slice(row * width, (row + 1) * width));
}

/** `place in the row → token` of every prediction of a batch, by row. */
function predictions(batch: Batch): string[][] {
  const found = Array.from({ length: batch.rows }, (): string[] => []);
  const targets = numbers(batch.feeds[names.targets]);
  numbers(batch.feeds[names.predicting]).forEach((place, index) => {
    found[Math.floor(place / batch.tokens)]?.push(`${place % batch.tokens}→${targets[index]}`);
  });
  return found;
}

describe('assemble', () => {
  it('with an image: BOS, image, caption; the last image token predicts the first caption token, the last caption token EOS', () => {
    const batch = assemble(withImage, plain, [2, 0, 1]);
    expect(batch).toMatchObject({ rows: 3, tokens: 7, predicted: 5 + 3 + 1 });
    expect(table(batch, names.ids)).toEqual([
      [1, 0, 0, 20, 21, 22, 23],
      [1, 0, 0, 10, 11, 0, 0],
      [1, 0, 0, 0, 0, 0, 0],
    ]);
    expect(table(batch, names.positions)).toEqual([0, 1, 2].map(() => [0, 1, 2, 3, 4, 5, 6]));
    expect(table(batch, names.imagePositions)).toEqual([
      [0, 1],
      [0, 2],
      [1, 1],
      [1, 2],
      [2, 1],
      [2, 2],
    ]);
    expect(predictions(batch)).toEqual([['2→20', '3→21', '4→22', '5→23', '6→2'], ['2→10', '3→11', '4→2'], ['2→2']]);
    const [image, text] = [
      [1, 0],
      [0, 1],
    ];
    expect(table(batch, names.gate)).toEqual([0, 1, 2].flatMap(() => [text, image, image, text, text, text, text]));
    expect(batch.feeds[names.gate]?.dims).toEqual([3, 7, 2]);
  });

  it('with a prompt: its tokens are given and not predicted; its last one predicts the first caption token', () => {
    const batch = assemble(withImage, prompted, [0, 1]);
    expect(batch).toMatchObject({ rows: 2, tokens: 7, predicted: 3 + 1 });
    expect(table(batch, names.ids)).toEqual([
      [1, 0, 0, 7, 8, 10, 11],
      [1, 0, 0, 7, 8, 0, 0],
    ]);
    expect(predictions(batch)).toEqual([['4→10', '5→11', '6→2'], ['4→2']]);
  });

  it('without an image: BOS predicts the first token, and all is text', () => {
    const batch = assemble(textOnly, plain, [0, 2]);
    expect(batch).toMatchObject({ rows: 2, tokens: 5, predicted: 3 + 5 });
    expect(table(batch, names.ids)).toEqual([
      [1, 10, 11, 0, 0],
      [1, 20, 21, 22, 23],
    ]);
    expect(predictions(batch)).toEqual([
      ['0→10', '1→11', '2→2'],
      ['0→20', '1→21', '2→22', '3→23', '4→2'],
    ]);
    expect(numbers(batch.feeds[names.gate])).toEqual(Array(10).fill(1));
    expect(batch.feeds).not.toHaveProperty(names.imagePositions);
    expect(predictions(assemble(textOnly, prompted, [1]))).toEqual([['2→2']]);
  });

  it('gates the contexts that there are, in their order, and none where there is none', () => {
    const gate = (contexts: readonly string[]): number[][] => table(assemble({ ...withImage, contexts }, plain, [1]), names.gate);
    expect(gate(['text', 'image'])).toEqual([
      [1, 0],
      [0, 1],
      [0, 1],
    ]);
    expect(gate(['image'])).toEqual([[0], [1], [1]]);
    expect(gate(['text'])).toEqual([[1], [0], [0]]);
    expect(assemble({ ...withImage, contexts: [] }, plain, [1]).feeds).not.toHaveProperty(names.gate);
  });

  it('lets each token see itself and what came before, for every head of a group', () => {
    const batch = assemble(textOnly, plain, [0]);
    const [see, not] = [0, Number.NEGATIVE_INFINITY];
    const triangle = [
      [see, not, not],
      [see, see, not],
      [see, see, see],
    ];
    expect(table(batch, names.mask)).toEqual([...triangle, ...triangle]);
    const alone = assemble({ ...textOnly, language: { ...language, kvHeads: 4 } }, plain, [0]);
    expect(table(alone, names.mask)).toEqual(triangle);
  });

  it('is the same for a row whatever the others are, padding apart', () => {
    const [short] = predictions(assemble(withImage, plain, [0]));
    expect(predictions(assemble(withImage, plain, [0, 2, 0]))).toEqual([
      short,
      predictions(assemble(withImage, plain, [2]))[0],
      short,
    ]);
  });
});

describe('featureFeed', () => {
  it('is bits of float16, row by row', () => {
    const { [names.features]: feed } = featureFeed(
      Uint16Array.from({ length: 12 }, (_, index) => index),
      IMAGE,
    );
    expect(feed).toMatchObject({ type: 'float16', dims: [2, 2, 3] });
    const { buffer } = (feed as Tensor).data as Uint16Array;
    expect(new Uint16Array(buffer)).toEqual(Uint16Array.from({ length: 12 }, (_, index) => index));
  });
});

describe('dropoutFeeds', () => {
  const program = {
    masks: [
      { name: 'keep.0', of: 'features' },
      { name: 'keep.1', of: 'hidden' },
      { name: 'keep.2', of: 'hidden' },
    ],
  } as unknown as Program;
  const batch = assemble(withImage, plain, [0, 2]);
  const draw = (seed: number, step: number, hidden = 0.5) =>
    dropoutFeeds(program, batch, withImage, { features: 0.25, hidden }, seed, step);

  it('has a mask of its own for each place, of its shape and rate', () => {
    const feeds = draw(1, 2);
    expect(Object.entries(feeds).map(([name, { type, dims }]) => [name, type, dims])).toEqual([
      ['keep.0', 'bool', [2, 2, 3]],
      ['keep.1', 'bool', [2, 7, 8]],
      ['keep.2', 'bool', [2, 7, 8]],
    ]);
    expect(feeds['keep.1']?.data).not.toEqual(feeds['keep.2']?.data);
    expect(numbers(draw(1, 2, 0)['keep.1'])).toEqual(Array(112).fill(1));
    expect(numbers(draw(1, 2, 0)['keep.0'])).toContain(0);
  });

  it('depends on seed and step alone', () => {
    expect(draw(1, 2)).toEqual(draw(1, 2));
    expect(draw(1, 3)['keep.1']?.data).not.toEqual(draw(1, 2)['keep.1']?.data);
    expect(draw(2, 2)['keep.1']?.data).not.toEqual(draw(1, 2)['keep.1']?.data);
  });
});
