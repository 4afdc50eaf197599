/** Perplexity of a model on a portion of the data: e to the mean loss of its caption tokens. */
import type { Tensor } from '../runtime/session.js';
import { assemble, type BatchShape, featureFeed } from './batch.js';
import type { TrainedModel } from './model.js';
import type { Portion } from './portion.js';
import type { FeatureStore } from './store.js';

export interface Score {
  /** Nats a token. */
  readonly loss: number;
  readonly perplexity: number;
  readonly tokens: number;
}

export async function evaluate(
  model: TrainedModel,
  shape: BatchShape,
  portion: Portion,
  store: FeatureStore | null,
  batch: number,
): Promise<Score> {
  const { sequences, keys } = portion;
  const lengths = sequences.lengths();
  // Equally long rows together: hardly any padding.
  const order = Array.from({ length: sequences.count }, (_, index) => index).sort(
    (a, b) => (lengths[a] as number) - (lengths[b] as number),
  );
  let sum = 0;
  let tokens = 0;
  for (let start = 0; start < order.length; start += batch) {
    const indexes = order.slice(start, start + batch);
    const { feeds, ...rest } = assemble(shape, sequences, indexes);
    const features = await featuresOf(
      shape,
      store,
      indexes.map((index) => keys[sequences.examples[index] as number]?.[0] ?? ''),
    );
    const losses = await model.score({ ...rest, feeds }, features);
    for (const loss of losses) sum += loss;
    tokens += losses.length;
  }
  const loss = sum / tokens;
  return { loss, perplexity: Math.exp(loss), tokens };
}

/** The features of these keys as a program's input; nothing for text. */
export async function featuresOf(
  { image }: BatchShape,
  store: FeatureStore | null,
  keys: readonly string[],
): Promise<Record<string, Tensor>> {
  return image && store ? featureFeed(await store.read(keys), image) : {};
}
