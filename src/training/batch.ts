/** Sequences as the inputs of a program (program.ts): ids, positions, gates and what is to be predicted. */
import type { LanguageModel } from '../backbone/language/model.js';
import { bool, float16, float32, int64, type Tensor } from '../runtime/session.js';
import { keepMask } from './dropout.js';
import { names, type Program } from './program.js';
import type { Sequences } from './sequence.js';

export interface BatchShape {
  readonly language: LanguageModel;
  readonly image: { readonly tokens: number; readonly dim: number } | null;
  /** The gate's contexts, in order; empty where the program has no gate. */
  readonly contexts: readonly string[];
}

export interface Batch {
  readonly rows: number;
  readonly tokens: number;
  /** Positions that have a loss. */
  readonly predicted: number;
  readonly feeds: Readonly<Record<string, Tensor>>;
}

/** A batch without features; rows are padded to the longest. */
export function assemble({ language, image, contexts }: BatchShape, sequences: Sequences, indexes: ArrayLike<number>): Batch {
  const rows = indexes.length;
  const ids = Array.from(indexes, (index) => sequences.ids(index));
  const images = image?.tokens ?? 0;
  const tokens = images + ids.reduce((longest, { length }) => Math.max(longest, length - 1), 0);
  const input = new BigInt64Array(rows * tokens);
  const positions = new BigInt64Array(rows * tokens);
  const imagePositions = new BigInt64Array(rows * images * 2);
  const predicted = ids.reduce((sum, { length }) => sum + length - sequences.given, 0);
  const predicting = new BigInt64Array(predicted);
  const targets = new BigInt64Array(predicted);
  let at = 0;
  ids.forEach((row, index) => {
    const start = index * tokens;
    for (let token = 0; token < tokens; token++) positions[start + token] = BigInt(token);
    for (let token = 0; token < images; token++)
      imagePositions.set([BigInt(index), BigInt(token + 1)], (index * images + token) * 2);
    for (let token = 0; token < row.length - 1; token++) input[start + place(token, images)] = BigInt(row[token] as number);
    for (let token = sequences.given; token < row.length; token++, at++) {
      // The token before it predicts it; after BOS alone that is the last image token.
      predicting[at] = BigInt(start + images + token - 1);
      targets[at] = BigInt(row[token] as number);
    }
  });
  const feeds: Record<string, Tensor> = {
    [names.ids]: int64(input, [rows, tokens]),
    [names.positions]: int64(positions, [rows, tokens]),
    [names.mask]: causalMask(tokens, language.heads / language.kvHeads),
    [names.predicting]: int64(predicting, [predicted]),
    [names.targets]: int64(targets, [predicted]),
  };
  if (image) feeds[names.imagePositions] = int64(imagePositions, [rows * images, 2]);
  if (contexts.length > 0) feeds[names.gate] = gate(contexts, rows, tokens, images);
  return { rows, tokens, predicted, feeds };
}

/** Place of a text token in a row: BOS first, the others after the image. */
function place(token: number, images: number): number {
  return token === 0 ? 0 : token + images;
}

/** 0 where a token sees another, −infinity where that comes later; repeated for every head of a group. */
function causalMask(tokens: number, heads: number): Tensor {
  const mask = new Float32Array(heads * tokens * tokens);
  for (let row = 0; row < heads * tokens; row++)
    mask.fill(Number.NEGATIVE_INFINITY, row * tokens + (row % tokens) + 1, (row + 1) * tokens);
  return float32(mask, [heads * tokens, tokens]);
}

/** 1 at each token's own context. */
function gate(contexts: readonly string[], rows: number, tokens: number, images: number): Tensor {
  const values = new Float32Array(rows * tokens * contexts.length);
  const [image, text] = [contexts.indexOf('image'), contexts.indexOf('text')];
  for (let at = 0; at < rows * tokens; at++) {
    const token = at % tokens;
    const context = token >= 1 && token <= images ? image : text;
    if (context >= 0) values[at * contexts.length + context] = 1;
  }
  return float32(values, [rows, tokens, contexts.length]);
}

/** The features of a batch's images, as bits of float16, row by row. */
export function featureFeed(features: Uint16Array, { tokens, dim }: { tokens: number; dim: number }): Record<string, Tensor> {
  return { [names.features]: float16(features, [features.length / (tokens * dim), tokens, dim]) };
}

/** The masks of dropout for a batch: functions of the seed and of where in the run it stands. */
export function dropoutFeeds(
  { masks }: Program,
  { rows, tokens }: Batch,
  { language, image }: BatchShape,
  rates: { readonly features: number; readonly hidden: number },
  seed: number,
  ...place: readonly number[]
): Record<string, Tensor> {
  return Object.fromEntries(
    masks.map(({ name, of }) => {
      const shape = of === 'hidden' ? [rows, tokens, language.hiddenSize] : [rows, image?.tokens ?? 0, image?.dim ?? 0];
      return [name, bool(keepMask(shape, rates[of], seed, name, ...place), shape)];
    }),
  );
}
