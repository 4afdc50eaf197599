/** A backbone, loaded and ready to compute: the decoder with its batch, and the vision side that feeds it. */
import type { LoadedAdapter } from '../adapter/adapter.js';
import type { BackboneDescription } from '../backbone/backbone.js';
import { AppError } from '../errors.js';
import { Batch, type Member } from './batch.js';
import { Decoder, type DecoderOptions } from './decoder.js';
import { Projection } from './projection.js';
import { VisionEncoder } from './vision.js';

export interface EngineOptions extends Pick<DecoderOptions, 'threads' | 'weights' | 'weightsCache'> {
  /** Rows that can run at once. */
  readonly maxBatch: number;
  /** Tokens a row can hold; null: what the checkpoint was made for, at most DEFAULT_CONTEXT. */
  readonly contextLength: number | null;
  readonly visionCacheBytes: number;
}

/** A checkpoint may allow far more than a caption needs, and every row reserves its cache. */
const DEFAULT_CONTEXT = 2048;

export class Engine<M extends Member = Member> {
  readonly backbone: BackboneDescription;
  readonly contextLength: number;
  readonly decoder: Decoder;
  readonly batch: Batch<M>;
  readonly vision: VisionEncoder | null;
  readonly #projection: Projection | null;

  private constructor(
    backbone: BackboneDescription,
    decoder: Decoder,
    vision: VisionEncoder | null,
    projection: Projection | null,
  ) {
    this.backbone = backbone;
    this.contextLength = decoder.kv.shape.maxLength;
    this.decoder = decoder;
    this.batch = new Batch(decoder);
    this.vision = vision;
    this.#projection = projection;
  }

  static async open<M extends Member>(backbone: BackboneDescription, options: EngineOptions): Promise<Engine<M>> {
    const { language, vision } = backbone;
    if (options.contextLength !== null && options.contextLength > language.maxPositions) {
      throw new AppError(
        'invalid_config',
        `Expected a context length of at most ${language.maxPositions}, which ${language.family} at ${backbone.languageFolder} was made for, but received ${options.contextLength}`,
      );
    }
    const maxLength = options.contextLength ?? Math.min(language.maxPositions, DEFAULT_CONTEXT);
    const decoder = await Decoder.open(backbone, { ...options, rows: options.maxBatch, maxLength });
    if (!vision) return new Engine<M>(backbone, decoder, null, null);
    const encoder = await VisionEncoder.open(vision, options.threads, options.visionCacheBytes);
    const projection = await Projection.open(vision.model.imageDim, language.hiddenSize, options.threads);
    return new Engine<M>(backbone, decoder, encoder, projection);
  }

  /** Image features as an adapter's token embeddings, [imageTokens, hiddenSize]. */
  async embedImage(adapter: LoadedAdapter, features: Float32Array): Promise<Float32Array> {
    if (!adapter.projector || !this.#projection) {
      throw new AppError(
        'invalid_request',
        `Expected an adapter with a projector for a request with an image but ${adapter.name} has none: it takes text only`,
        { param: 'adapter' },
      );
    }
    return this.#projection.project(adapter.projector, features);
  }

  async close(): Promise<void> {
    await this.decoder.close();
    await this.vision?.close();
    await this.#projection?.close();
  }
}
