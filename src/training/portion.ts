/** A part of the data, ready to be trained on or measured on: its captions as tokens, its images as features in the store. */
import { createHash } from 'node:crypto';
import type { VisionPart } from '../backbone/backbone.js';
import type { Tokenizer } from '../backbone/tokenizer.js';
import type { BadRow, Example } from './data/example.js';
import { encodeImages, type View } from './features.js';
import { type SequenceOptions, type Sequences, tokenize } from './sequence.js';
import type { FeatureStore } from './store.js';

export interface Portion {
  readonly examples: readonly Example[];
  readonly sequences: Sequences;
  /** Keys of each example's features, the plain view first; empty for text. */
  readonly keys: readonly (readonly string[])[];
}

export interface PortionOptions {
  readonly tokenizer: Tokenizer;
  readonly rows: SequenceOptions;
  /** null for text alone. */
  readonly images: { readonly part: VisionPart; readonly store: FeatureStore; readonly views: readonly View[] } | null;
  readonly threads: number;
  readonly maxPixels: number;
  readonly signal: AbortSignal;
  readonly onImages: (done: number) => void;
}

/** Encodes the images of examples and tokenises their captions. What cannot be used is left out and told in `bad`. */
export async function readPortion(
  examples: readonly Example[],
  options: PortionOptions,
): Promise<{ portion: Portion; bad: BadRow[] }> {
  const { tokenizer, rows, images, threads, maxPixels, signal, onImages } = options;
  const encoded =
    images &&
    (await encodeImages(examples, images.part, images.store, {
      views: images.views,
      threads,
      maxPixels,
      signal,
      onProgress: onImages,
    }));
  const usable = examples.flatMap((_, index) => (encoded && encoded.keys[index]?.length === 0 ? [] : [index]));
  const kept = usable.map((index) => examples[index] as Example);
  const { sequences, bad } = tokenize(kept, tokenizer, rows);
  const keys = encoded ? usable.map((index) => encoded.keys[index] ?? []) : [];
  return { portion: { examples: kept, sequences, keys }, bad: [...(encoded?.bad ?? []), ...bad] };
}

/** Names what portions hold: equal digests, equal sequences, each of the same image. */
export function digestPortions(portions: readonly Portion[]): string {
  const hash = createHash('sha256');
  for (const { sequences, keys } of portions) {
    hash.update(JSON.stringify([sequences.count, keys.length]));
    // One by one: of millions of images there is no single text.
    for (const views of keys) hash.update(JSON.stringify(views));
    sequences.examples.forEach((owner, index) => {
      const ids = sequences.ids(index);
      hash.update(new Uint8Array(Int32Array.of(owner, ids.length, ...ids).buffer));
    });
  }
  return `sha256:${hash.digest('hex')}`;
}
