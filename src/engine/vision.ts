/**
 * The vision encoder and its memory. An image's features depend on its pixels alone, so they are kept by digest, bounded in bytes,
 * and no adapter ever touches them. Images are encoded one at a time: a run's numbers then do not depend on what else is waiting.
 */
import { LRUCache } from 'lru-cache';
import type { VisionPart } from '../backbone/backbone.js';
import { FEATURES, openEncoder, PIXELS } from '../backbone/vision/encoder.js';
import { AppError } from '../errors.js';
import { Session, type Tensor, uint8 } from '../runtime/session.js';

export interface ImagePixels {
  readonly data: Uint8Array; // [height, width, 3]
  readonly height: number;
  readonly width: number;
  /** Names the pixels: equal digests, equal pixels. */
  readonly digest: string;
}

export class VisionEncoder {
  readonly #part: VisionPart;
  readonly #session: Session;
  readonly #features: LRUCache<string, Float32Array>;
  hits = 0;
  misses = 0;

  private constructor(part: VisionPart, session: Session, cacheBytes: number) {
    this.#part = part;
    this.#session = session;
    this.#features = new LRUCache({ maxSize: Math.max(1, cacheBytes), sizeCalculation: (features) => features.byteLength });
  }

  static async open(part: VisionPart, threads: number, cacheBytes: number): Promise<VisionEncoder> {
    const { graph, weights } = await openEncoder(part);
    return new VisionEncoder(part, await Session.open(graph.toModel(), { folder: weights.root, threads }), cacheBytes);
  }

  /** Features [imageTokens, imageDim] if they are remembered; counts as a hit. */
  cached(digest: string): Float32Array | undefined {
    const features = this.#features.get(digest);
    if (features) this.hits++;
    return features;
  }

  /** Encodes and remembers. */
  async encode(pixels: ImagePixels): Promise<Float32Array> {
    const { height, width } = this.#part.recipe;
    if (pixels.height !== height || pixels.width !== width || pixels.data.length !== height * width * 3) {
      throw new AppError(
        'internal',
        `Expected pixels of ${width}×${height} but received ${pixels.width}×${pixels.height} in ${pixels.data.length} bytes`,
      );
    }
    this.misses++;
    const result = await this.#session.run({ [PIXELS]: uint8(pixels.data, [1, height, width, 3]) }, { [FEATURES]: null });
    const features = (result[FEATURES] as Tensor).data as Float32Array;
    this.#features.set(pixels.digest, features);
    return features;
  }

  get bytes(): number {
    return this.#features.calculatedSize;
  }

  get entries(): number {
    return this.#features.size;
  }

  close(): Promise<void> {
    return this.#session.close();
  }
}
