/** From image files to features: every image is decoded as serving decodes it, encoded by the frozen encoder, and kept in a store. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encoderFingerprint } from '../adapter/fingerprint.js';
import type { VisionPart } from '../backbone/backbone.js';
import { FEATURES, openEncoder, PIXELS } from '../backbone/vision/encoder.js';
import type { Alteration } from '../images/alter.js';
import { decodePixels } from '../images/decode.js';
import type { ImageLimits } from '../images/protocol.js';
import { imageFault } from '../images/refusal.js';
import { Session, uint8 } from '../runtime/session.js';
import { float16FromFloat32 } from '../tensor/convert.js';
import type { BadRow, Example } from './data/example.js';
import { stream } from './random.js';
import { type FeatureStore, featureKey } from './store.js';

/** A dataset is its owner's own: these only tell a mistake from an image. */
const MAX_PIXELS = 200_000_000;
const TIMEOUT_MS = 60_000;
/** Images that are read and decoded ahead of the encoder. */
const AHEAD = 4;
/** Changes with what the encoder's graph computes, or with the store's format. */
const VERSION = 1;

export interface AugmentOptions {
  readonly flip: boolean;
  readonly crop: boolean;
  /** Views of each image, the plain one included. */
  readonly views: number;
  readonly seed: number;
}

/** A view of an image: the name that its features are kept under, and how it is made. */
export interface View {
  readonly name: string;
  readonly alteration: Alteration | null;
}

/** The folder of this encoder's features: another checkpoint, choice of features, recipe or normalisation has another one. */
export async function featureFolder(cache: string, part: VisionPart): Promise<string> {
  const { recipe, normalisation, model } = part;
  const checkpoint = await encoderFingerprint(part.folder, model.features);
  const space = JSON.stringify({ version: VERSION, checkpoint, recipe, normalisation });
  return join(cache, 'features', createHash('sha256').update(space).digest('hex').slice(0, 16));
}

/** The plain view first. Crops keep 70 % of each edge or more, as the same views for the same seed for ever. */
export function viewsOf({ flip, crop, views, seed }: AugmentOptions): View[] {
  const plain: View = { name: 'plain', alteration: null };
  if (!flip && !crop) return [plain];
  const others = Array.from({ length: views - 1 }, (_, index): View => {
    const random = stream(seed, 'view', index);
    const mirror = flip && (!crop || random() < 0.5);
    const [height, width] = crop ? [0.7 + 0.3 * random(), 0.7 + 0.3 * random()] : [1, 1];
    const part = crop ? { height, width, top: (1 - height) * random(), left: (1 - width) * random() } : null;
    const alteration = { mirror, crop: part };
    return { name: JSON.stringify(alteration), alteration };
  });
  // Without crops there is one other view, however many are asked for.
  return [plain, ...(crop ? others : others.slice(0, 1))];
}

export interface EncodeResult {
  /** Keys of each example's views; empty for one whose image cannot be used. */
  readonly keys: readonly (readonly string[])[];
  readonly bad: readonly BadRow[];
  /** Views that were not in the store before. */
  readonly encoded: number;
}

/** Sees that the store has the features of every example's views. Stops between two images where `signal` says so. */
export async function encodeImages(
  examples: readonly Example[],
  part: VisionPart,
  store: FeatureStore,
  options: {
    readonly views: readonly View[];
    readonly threads: number;
    readonly maxPixels?: number;
    readonly signal?: AbortSignal;
    readonly onProgress?: (done: number, total: number) => void;
  },
): Promise<EncodeResult> {
  const bad: BadRow[] = [];
  const keys: string[][] = examples.map(() => []);
  const encoder = new LazyEncoder(part, options.threads);
  const { views, maxPixels = MAX_PIXELS } = options;
  const limits: ImageLimits = { maxPixels, timeoutMs: TIMEOUT_MS };
  let encoded = 0;

  /** Everything before the encoder: it runs ahead, while the encoder works on another image. */
  const prepare = async (example: Example) => {
    const bytes = await readFile(example.image as string);
    return Promise.all(
      views.map(async ({ name, alteration }) => {
        const key = featureKey(bytes, name);
        if (store.has(key)) return { key, pixels: null };
        return { key, pixels: (await decodePixels(bytes, part.recipe, limits, alteration ?? undefined)).data };
      }),
    );
  };
  const ahead = new Map<number, ReturnType<typeof prepare>>();
  const start = (index: number): void => {
    const example = examples[index];
    if (!example?.image) return;
    const prepared = prepare(example);
    prepared.catch(() => undefined); // Awaited below.
    ahead.set(index, prepared);
  };
  try {
    for (let index = 0; index < AHEAD; index++) start(index);
    for (const [index, example] of examples.entries()) {
      options.signal?.throwIfAborted();
      start(index + AHEAD);
      const prepared = await ahead.get(index)?.catch((error: unknown) => {
        const reason = imageFault(error);
        if (reason === undefined) throw error;
        bad.push({ origin: example.origin, reason });
      });
      ahead.delete(index);
      // Outside of what may be the image's fault: a store that cannot be written is not.
      for (const { key, pixels } of prepared ?? []) {
        if (pixels && !store.has(key)) {
          await store.add(key, float16FromFloat32(await encoder.encode(pixels)));
          encoded++;
        }
        keys[index]?.push(key);
      }
      options.onProgress?.(index + 1, examples.length);
    }
    await store.flush();
    return { keys, bad, encoded };
  } finally {
    await Promise.allSettled(ahead.values());
    await encoder.close();
  }
}

/** Opened with the first image that the store lacks. */
class LazyEncoder {
  readonly #part: VisionPart;
  readonly #threads: number;
  #session: Session | undefined;

  constructor(part: VisionPart, threads: number) {
    this.#part = part;
    this.#threads = threads;
  }

  /** pixels [height, width, 3] → [imageTokens · imageDim]. One image a run: its numbers then do not depend on its neighbours. */
  async encode(pixels: Uint8Array): Promise<Float32Array> {
    this.#session ??= await this.#open();
    const { height, width } = this.#part.recipe;
    const results = await this.#session.run({ [PIXELS]: uint8(pixels, [1, height, width, 3]) }, { [FEATURES]: null });
    return results[FEATURES]?.data as Float32Array;
  }

  async #open(): Promise<Session> {
    const { graph, weights } = await openEncoder(this.#part);
    return Session.open(graph.toModel(), { folder: weights.root, threads: this.#threads });
  }

  async close(): Promise<void> {
    await this.#session?.close();
  }
}
