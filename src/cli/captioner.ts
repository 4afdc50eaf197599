/**
 * Captions many images with one adapter, through the engine that serves: what a report shows and `graft eval` measures is what requests will get.
 * The engine runs in this process: a tool has nothing else to do meanwhile.
 */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { LoadedAdapter } from '../adapter/adapter.js';
import { readAdapter } from '../adapter/format.js';
import { inspectFolder } from '../adapter/summary.js';
import { describeBackbone } from '../backbone/backbone.js';
import { readBackbone } from '../backbone/manifest.js';
import { Tokenizer } from '../backbone/tokenizer.js';
import type { Member } from '../engine/batch.js';
import type { PrefillRow } from '../engine/decoder.js';
import { Engine } from '../engine/engine.js';
import { type Sampling, strategyFor } from '../engine/strategy.js';
import { AppError } from '../errors.js';
import { decodePixels } from '../images/decode.js';
import { TextStream } from '../serving/text.js';

/** The caller's own files: the limits only tell a mistake from an image. */
const LIMITS = { maxPixels: 200_000_000, timeoutMs: 60_000 };
const GREEDY: Sampling = {
  maxTokens: 48,
  temperature: 0,
  topK: 0,
  topP: 1,
  repetitionPenalty: 1,
  seed: 0,
  n: 1,
  numBeams: 1,
  lengthPenalty: 1,
  earlyStopping: false,
};
const VISION_CACHE_BYTES = 64e6;

export interface CaptionerOptions {
  readonly backbone: string;
  /** An adapter's folder. */
  readonly adapter: string;
  readonly threads: number;
  /** Rows at once. */
  readonly batch: number;
  readonly maxTokens?: number;
  /** 1: greedy. */
  readonly numBeams?: number;
}

interface Job extends Member {
  readonly index: number;
}

export class Captioner {
  readonly #engine: Engine<Job>;
  readonly #adapter: LoadedAdapter;
  readonly #tokenizer: Tokenizer;
  readonly #prompt: string;
  readonly #promptIds: readonly number[];
  readonly #sampling: Sampling;

  private constructor(engine: Engine<Job>, adapter: LoadedAdapter, tokenizer: Tokenizer, prompt: string, sampling: Sampling) {
    this.#engine = engine;
    this.#adapter = adapter;
    this.#tokenizer = tokenizer;
    this.#prompt = prompt;
    this.#promptIds = tokenizer.encode(prompt);
    this.#sampling = sampling;
  }

  /** Opens backbone and adapter. Throws AppError where they are not in order, or do not fit. */
  static async open({
    backbone,
    adapter,
    threads,
    batch,
    maxTokens = GREEDY.maxTokens,
    numBeams = 1,
  }: CaptionerOptions): Promise<Captioner> {
    const description = await describeBackbone(await readBackbone(backbone));
    const folder = resolve(adapter);
    const loaded = await readAdapter(folder, description.target);
    const { summary } = await inspectFolder(folder);
    const tokenizer = await Tokenizer.open(description.languageFolder);
    const engine = await Engine.open<Job>(description, {
      threads,
      maxBatch: Math.max(batch, numBeams),
      contextLength: null,
      visionCacheBytes: VISION_CACHE_BYTES,
    });
    await engine.decoder.prepare(loaded);
    return new Captioner(engine, loaded, tokenizer, summary.prompt, { ...GREEDY, maxTokens, numBeams });
  }

  /** The caption of each image file, in order; `onProgress` is told how many are done. Throws what an image is refused for. */
  async caption(images: readonly string[], onProgress?: (done: number) => void): Promise<string[]> {
    const { batch } = this.#engine;
    const captions: string[] = [];
    let next = 0;
    let done = 0;
    while (next < images.length || batch.size > 0) {
      const joining: Job[] = [];
      const width = Math.max(this.#sampling.n, this.#sampling.numBeams);
      // One at a time joins: the prefill of many would hold up nobody here, but would need the memory of all.
      if (next < images.length && batch.freeRows >= width) joining.push(await this.#job(next, images[next] as string));
      next += joining.length;
      const { finished, failed } = await batch.step(joining);
      for (const { error } of failed) throw error;
      for (const { index, strategy } of finished) {
        captions[index] = this.#textOf(strategy.choices()[0]?.tokenIds ?? []);
        done++;
      }
      if (finished.length > 0) onProgress?.(done);
    }
    return captions;
  }

  /** Loss of each token of a caption, its end included, after the image (null: text alone) and the adapter's prompt. */
  async losses(image: string | null, caption: string): Promise<number[]> {
    const { decoder, backbone } = this.#engine;
    const { vocabSize, hiddenSize } = backbone.language;
    const [eos] = this.#tokenizer.eosIds;
    const given = this.#promptIds.length;
    const whole = [...this.#promptIds, ...this.#tokenizer.encodeAfter(this.#prompt, caption)];
    const imageEmbeddings = image === null ? null : await this.#embed(image);
    const row: PrefillRow = { adapter: this.#adapter, promptIds: whole, imageEmbeddings };
    const imageTokens = (imageEmbeddings?.length ?? 0) / hiddenSize;
    const logits = await decoder.score([row], imageTokens + given - 1);
    const targets = [...whole.slice(given), ...(eos === undefined ? [] : [eos])];
    return targets.map((target, index) => lossOf(logits.subarray(index * vocabSize, (index + 1) * vocabSize), target));
  }

  close(): Promise<void> {
    return this.#engine.close();
  }

  async #job(index: number, image: string): Promise<Job> {
    const { vocabSize, hiddenSize } = this.#engine.backbone.language;
    const imageEmbeddings = await this.#embed(image);
    const vocabulary = { size: vocabSize, eosIds: this.#tokenizer.eosIds };
    return {
      index,
      adapter: this.#adapter,
      promptIds: this.#promptIds,
      imageEmbeddings,
      imageTokens: imageEmbeddings.length / hiddenSize,
      strategy: strategyFor(this.#sampling, vocabulary, this.#promptIds),
    };
  }

  async #embed(image: string): Promise<Float32Array> {
    const { vision, backbone } = this.#engine;
    if (!vision || !backbone.vision)
      throw new AppError('invalid_config', `Expected a backbone with a vision encoder but ${backbone.name} takes text only`);
    const pixels = await decodePixels(await readFile(image), backbone.vision.recipe, LIMITS);
    return this.#engine.embedImage(this.#adapter, vision.cached(pixels.digest) ?? (await vision.encode(pixels)));
  }

  #textOf(ids: readonly number[]): string {
    const text = new TextStream(this.#tokenizer, { prefixIds: this.#promptIds });
    return `${ids.map((id) => text.push(id)).join('')}${text.finish()}`.trim();
  }
}

/** −log softmax(logits)[target]. */
function lossOf(logits: Float32Array, target: number): number {
  let peak = Number.NEGATIVE_INFINITY;
  for (const logit of logits) peak = Math.max(peak, logit);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - peak);
  return peak + Math.log(sum) - (logits[target] ?? Number.NaN);
}
