/**
 * Captions many images with one adapter, and scores captions that people wrote, through the engine that serves: what a report shows and
 * `graft eval` measures is what requests will get. The engine runs in this process: a tool has nothing else to do meanwhile.
 */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { LoadedAdapter } from '../adapter/adapter.js';
import { readAdapter } from '../adapter/format.js';
import { inspectFolder } from '../adapter/summary.js';
import { type BackboneDescription, describeBackbone } from '../backbone/backbone.js';
import { readBackbone } from '../backbone/manifest.js';
import { Tokenizer } from '../backbone/tokenizer.js';
import type { Member } from '../engine/batch.js';
import { Engine, type EngineOptions } from '../engine/engine.js';
import { decay } from '../engine/sampler.js';
import { GREEDY, type Sampling, strategyFor, widthOf } from '../engine/strategy.js';
import { AppError } from '../errors.js';
import { decodePixels } from '../images/decode.js';
import { TextStream } from '../serving/text.js';
import type { BadRow, Example } from '../training/data/example.js';
import { type SequenceOptions, type Sequences, tokenize } from '../training/sequence.js';

/** The caller's own files: the limits only tell a mistake from an image. */
const LIMITS = { maxPixels: 200_000_000, timeoutMs: 60_000 };
/** Tokens of the longest caption, where nobody says. */
const MAX_TOKENS = 48;
const VISION_CACHE_BYTES = 64e6;
/** Of one run that scores: with a large vocabulary, the logits of a few captions are larger than all else. */
const MAX_LOGITS = 64 * 1024 ** 2;

export interface CaptionerOptions extends Pick<EngineOptions, 'threads' | 'weights' | 'weightsCache'> {
  readonly backbone: string;
  /** An adapter's folder; null: the bare backbone, which cannot see. */
  readonly adapter: string | null;
  /** Rows at once. */
  readonly batch: number;
  readonly maxTokens?: number;
  /** 1: greedy. */
  readonly numBeams?: number;
}

/** A caption to score: BOS, prompt, caption and EOS, as `tokenize` gives them. */
export interface ScoredRow {
  readonly ids: Int32Array;
  /** What `embed` gives; null for text alone. */
  readonly image: Float32Array | null; // [imageTokens, hiddenSize]
}

interface Job extends Member {
  readonly index: number;
}

/** One call of `caption` or `losses` at a time: the rows of the cache are that call's. */
export class Captioner {
  readonly #engine: Engine<Job>;
  readonly #adapter: LoadedAdapter | null;
  readonly #tokenizer: Tokenizer;
  readonly #prompt: string;
  readonly #promptIds: readonly number[];
  readonly #sampling: Sampling;
  readonly #rows: number;
  #busy = false;

  private constructor(
    engine: Engine<Job>,
    adapter: LoadedAdapter | null,
    tokenizer: Tokenizer,
    prompt: string,
    sampling: Sampling,
    rows: number,
  ) {
    this.#engine = engine;
    this.#adapter = adapter;
    this.#tokenizer = tokenizer;
    this.#prompt = prompt;
    this.#promptIds = tokenizer.encode(prompt);
    this.#sampling = sampling;
    this.#rows = rows;
  }

  /** Opens backbone and adapter. Throws AppError where they are not in order, or do not fit. */
  static async open({
    backbone,
    adapter,
    batch,
    maxTokens = MAX_TOKENS,
    numBeams = 1,
    ...options
  }: CaptionerOptions): Promise<Captioner> {
    const description = await describeBackbone(await readBackbone(backbone));
    const { loaded, prompt } =
      adapter === null ? { loaded: null, prompt: '' } : await readPrompted(resolve(adapter), description.target);
    const tokenizer = await Tokenizer.open(description.languageFolder);
    const engine = await Engine.open<Job>(description, {
      ...options,
      maxBatch: Math.max(batch, numBeams),
      contextLength: null,
      visionCacheBytes: VISION_CACHE_BYTES,
    });
    try {
      await engine.decoder.prepare(loaded);
    } catch (error) {
      await engine.close();
      throw error;
    }
    return new Captioner(engine, loaded, tokenizer, prompt, { ...GREEDY, maxTokens, numBeams }, batch);
  }

  get backbone(): BackboneDescription {
    return this.#engine.backbone;
  }

  /**
   * An image file as the adapter's token embeddings, [imageTokens, hiddenSize]. Throws AppError `invalid_image`, `unsupported_image` or
   * `image_too_large` for a file that is none.
   */
  async embed(image: string): Promise<Float32Array> {
    const { vision, backbone } = this.#engine;
    if (!vision || !backbone.vision)
      throw new AppError('invalid_config', `Expected a backbone with a vision encoder but ${backbone.name} takes text only`);
    if (this.#adapter === null)
      throw new AppError('invalid_config', 'Expected an adapter for images but received none: a bare backbone cannot see');
    const pixels = await decodePixels(await readImage(image), backbone.vision.recipe, LIMITS);
    return this.#engine.embedImage(this.#adapter, vision.cached(pixels.digest) ?? (await vision.encode(pixels)));
  }

  /**
   * The caption of each image, a file or what `embed` gave, in order; `onProgress` is told how many are done. Throws what a file is
   * refused for, and `context_length_exceeded` where image and prompt leave no room for a caption.
   */
  caption(images: readonly (string | Float32Array)[], onProgress?: (done: number) => void): Promise<string[]> {
    return this.#alone(async () => {
      const { batch } = this.#engine;
      const width = widthOf(this.#sampling);
      const captions: string[] = [];
      const running = new Set<Job>();
      let next = 0;
      let done = 0;
      try {
        while (next < images.length || running.size > 0) {
          const joining: Job[] = [];
          // One at a time joins: the prefill of many would hold up nobody here, but would need the memory of all.
          const image = images[next];
          if (image !== undefined && batch.freeRows >= width) joining.push(await this.#job(next++, image));
          for (const job of joining) running.add(job);
          const { finished, failed } = await batch.step(joining);
          for (const { error } of failed) throw error;
          for (const job of finished) {
            captions[job.index] = this.#textOf(job.strategy.choices()[0]?.tokenIds ?? []);
            running.delete(job);
            done++;
          }
          if (finished.length > 0) onProgress?.(done);
        }
      } finally {
        for (const job of running) batch.remove(job);
      }
      return captions;
    });
  }

  /** The captions of examples as rows to score; those that do not fit are left out and told. Throws AppError where the prompt does not fit. */
  tokenize(
    examples: readonly Example[],
    captions: SequenceOptions['captions'],
  ): { readonly sequences: Sequences; readonly bad: readonly BadRow[] } {
    const { backbone, contextLength } = this.#engine;
    const withImages = examples.some(({ image }) => image !== null);
    const imageTokens = withImages ? (backbone.vision?.imageTokens ?? 0) : 0;
    return tokenize(examples, this.#tokenizer, { prompt: this.#prompt, imageTokens, maxTokens: contextLength, captions });
  }

  /** Loss in nats of each token of each row that is predicted: its caption's, and its end. */
  losses(rows: readonly ScoredRow[]): Promise<Float64Array[]> {
    return this.#alone(async () => {
      const { decoder, backbone } = this.#engine;
      const { vocabSize, hiddenSize } = backbone.language;
      const given = this.#promptIds.length;
      const losses: Float64Array[] = [];
      for (const indexes of this.#groups(rows)) {
        const members = indexes.map((index) => rows[index] as ScoredRow);
        const imageTokens = (members[0]?.image?.length ?? 0) / hiddenSize;
        const logits = await decoder.score(
          // The end is predicted and takes no place.
          members.map(({ ids, image }) => ({
            adapter: this.#adapter,
            promptIds: [...ids.subarray(0, -1)],
            imageEmbeddings: image,
          })),
          imageTokens + given - 1,
        );
        let at = 0;
        members.forEach(({ ids }, row) => {
          const targets = ids.subarray(given);
          losses[indexes[row] as number] = Float64Array.from(targets, (target) =>
            lossOf(logits.subarray(at++ * vocabSize, at * vocabSize), target),
          );
        });
      }
      return losses;
    });
  }

  close(): Promise<void> {
    return this.#engine.close();
  }

  async #alone<T>(work: () => Promise<T>): Promise<T> {
    if (this.#busy) throw new TypeError('Expected one call at a time but another one is under way');
    this.#busy = true;
    try {
      return await work();
    } finally {
      this.#busy = false;
    }
  }

  async #job(index: number, image: string | Float32Array): Promise<Job> {
    const { backbone, contextLength } = this.#engine;
    const { vocabSize, hiddenSize } = backbone.language;
    const imageEmbeddings = typeof image === 'string' ? await this.embed(image) : image;
    const imageTokens = imageEmbeddings.length / hiddenSize;
    const tokens = this.#promptIds.length + imageTokens;
    if (tokens >= contextLength)
      throw new AppError(
        'context_length_exceeded',
        `Expected a prompt of fewer than ${contextLength} tokens, the image's included, but received ${tokens}`,
      );
    // As serving does: the context ends a caption that the limit would let go on.
    const maxTokens = Math.min(this.#sampling.maxTokens, contextLength - tokens);
    const vocabulary = { size: vocabSize, eosIds: this.#tokenizer.eosIds };
    return {
      index,
      adapter: this.#adapter,
      promptIds: this.#promptIds,
      imageEmbeddings,
      imageTokens,
      strategy: strategyFor({ ...this.#sampling, maxTokens }, vocabulary, this.#promptIds),
    };
  }

  /** Indexes of rows that are scored in one run: equally long ones, for less padding, with and without image apart. */
  #groups(rows: readonly ScoredRow[]): number[][] {
    const { vocabSize } = this.#engine.backbone.language;
    const lengthOf = (index: number): number => rows[index]?.ids.length ?? 0;
    const imageOf = (index: number): number => rows[index]?.image?.length ?? 0;
    const order = Array.from(rows.keys()).sort((a, b) => imageOf(a) - imageOf(b) || lengthOf(a) - lengthOf(b));
    const groups: number[][] = [];
    for (const index of order) {
      const group = groups.at(-1);
      const first = group?.[0] ?? index;
      // The newest is the longest.
      const logits = ((group?.length ?? 0) + 1) * lengthOf(index) * vocabSize;
      if (group && group.length < this.#rows && logits <= MAX_LOGITS && imageOf(first) === imageOf(index)) group.push(index);
      else groups.push([index]);
    }
    return groups;
  }

  #textOf(ids: readonly number[]): string {
    const text = new TextStream(this.#tokenizer, { prefixIds: this.#promptIds });
    return `${ids.map((id) => text.push(id)).join('')}${text.finish()}`.trim();
  }
}

async function readPrompted(
  folder: string,
  target: BackboneDescription['target'],
): Promise<{ loaded: LoadedAdapter; prompt: string }> {
  const loaded = await readAdapter(folder, target);
  const { summary } = await inspectFolder(folder);
  return { loaded, prompt: summary.prompt };
}

async function readImage(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    throw new AppError('invalid_image', `Expected a readable image file but received ${code}`, { cause });
  }
}

/** -log softmax(logits)[target]. Throws AppError `internal` where it is no number: the model failed. */
function lossOf(logits: Float32Array, target: number): number {
  let peak = Number.NEGATIVE_INFINITY;
  for (const logit of logits) peak = Math.max(peak, logit);
  let sum = 0;
  for (const logit of logits) sum += decay(logit - peak);
  const loss = peak + Math.log(sum) - (logits[target] ?? Number.NaN);
  if (!Number.isFinite(loss)) throw new AppError('internal', `Expected a loss that is a number but received ${loss}`);
  return loss;
}
