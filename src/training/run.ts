/**
 * The run: step after step, evaluation, checkpoints, and the best parameters at the end. Which batch a step takes, and what dropout keeps in it,
 * are functions of the seed and the step's number, so a run that resumes from a checkpoint computes what it would have computed, bit for bit.
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { gatedContexts } from '../adapter/plan.js';
import { AppError } from '../errors.js';
import { assemble, type Batch, type BatchShape, dropoutFeeds } from './batch.js';
import { type Arrays, hasCheckpoint, type Identity, type Progress, readCheckpoint, writeCheckpoint } from './checkpoint.js';
import { epochBatches } from './data/bucket.js';
import { evaluate, featuresOf, type Score } from './evaluate.js';
import { RunLog } from './log.js';
import { AdamW, learningRate, norm, type Schedule } from './optimizer.js';
import { identityOf, type TrainOptions } from './options.js';
import type { Prepared } from './prepare.js';
import { stream } from './random.js';

export const CHECKPOINT_FILE = 'checkpoint.safetensors';
export const LOG_FILE = 'log.jsonl';
const BETAS = [0.9, 0.95] as const;
const EPSILON = 1e-8;
/** Steps of warm-up in a long run that says nothing of it. */
const MAX_WARMUP = 100;

export interface StepReport {
  readonly step: number;
  readonly steps: number;
  readonly loss: number;
  readonly gradientNorm: number;
  readonly learningRate: number;
  readonly tokensPerSecond: number;
  readonly secondsLeft: number;
}

export interface RunListener {
  readonly onResume?: (step: number, steps: number) => void;
  readonly onStep?: (report: StepReport) => void;
  readonly onEvaluation?: (step: number, score: Score, isBest: boolean) => void;
}

export interface RunResult {
  readonly status: 'finished' | 'stopped early' | 'interrupted' | 'diverged';
  /** Why it diverged; for the caller to throw, once it has shown how the run went until then. */
  readonly failure: AppError | null;
  readonly progress: Progress;
  readonly steps: number;
  /** The best parameters where there is held-out data, else the last ones. */
  readonly values: Float32Array;
}

/**
 * Sees that a folder may be this run's: it holds a checkpoint where there is one to resume from, and none that nobody gave up.
 * Throws AppError `invalid_config` otherwise.
 */
export async function checkRunFolder(folder: string, { resume, restart }: TrainOptions): Promise<void> {
  const path = join(folder, CHECKPOINT_FILE);
  const isThere = await hasCheckpoint(path);
  if (isThere && !resume && !restart)
    throw new AppError(
      'invalid_config',
      `Expected a run folder without a checkpoint but ${path} is there: --resume goes on from it, --restart begins again`,
    );
  if (resume && !isThere)
    throw new AppError('invalid_config', `Expected a checkpoint to resume from at ${path} but there is none`);
}

/** Steps of warm-up in a run of so many. */
export function warmupOf({ warmup }: TrainOptions, steps: number): number {
  return warmup ?? Math.min(MAX_WARMUP, Math.floor(steps / 10));
}

/** Trains until the last step, until nothing gets better, or until `signal`; a checkpoint is then written. */
export async function run(
  prepared: Prepared,
  options: TrainOptions,
  folder: string,
  signal: AbortSignal,
  listener: RunListener,
): Promise<RunResult> {
  const training = new Training(prepared, options, folder, listener);
  await training.begin();
  try {
    return await training.go(signal);
  } finally {
    await training.end();
  }
}

class Training {
  readonly #prepared: Prepared;
  readonly #options: TrainOptions;
  readonly #listener: RunListener;
  readonly #folder: string;
  readonly #shape: BatchShape;
  readonly #optimizer: AdamW;
  readonly #arrays: Arrays;
  readonly #identity: Identity;
  readonly #schedule: Schedule;
  readonly #lengths: Int32Array;
  /** Sum of gradients over the parts of a step; the model's own array where there is one part. */
  readonly #gradients: Float32Array;
  #epoch: { readonly number: number; readonly batches: readonly Int32Array[] };
  #progress: Progress = { step: 0, best: null, worse: 0, seconds: 0, tokens: 0 };
  /** Step of the checkpoint that is on the disk; null before there is one. */
  #saved: number | null = null;
  #log: RunLog | undefined;

  constructor(prepared: Prepared, options: TrainOptions, folder: string, listener: RunListener) {
    const { model, train, plan, dataDigest, backboneDigest, beginning } = prepared;
    const { values } = model.parameters;
    this.#prepared = prepared;
    this.#options = options;
    this.#folder = folder;
    this.#listener = listener;
    const { language, image } = model.recipe;
    this.#shape = { language, image, contexts: plan ? gatedContexts(plan) : [] };
    this.#optimizer = new AdamW(
      values.length,
      { betas: BETAS, epsilon: EPSILON, weightDecay: options.weightDecay },
      decaying(prepared),
    );
    this.#arrays = {
      values,
      first: this.#optimizer.first,
      second: this.#optimizer.second,
      best: new Float32Array(values.length),
    };
    this.#gradients = options.accumulate === 1 ? model.gradients : new Float32Array(values.length);
    const digests = { data_digest: dataDigest, backbone_digest: backboneDigest, from_digest: beginning?.digest ?? 'none' };
    this.#identity = { ...identityOf(options), ...digests };
    this.#lengths = train.sequences.lengths();
    this.#epoch = { number: 0, batches: this.#batchesOf(0) };
    const perEpoch = this.#epoch.batches.length / options.accumulate;
    const steps = options.steps ?? Math.max(1, Math.ceil(options.epochs * perEpoch));
    this.#schedule = { peak: options.lr, warmup: warmupOf(options, steps), steps, shape: options.schedule, floor: options.floor };
  }

  /** Takes up the checkpoint where that is asked for. */
  async begin(): Promise<void> {
    const path = join(this.#folder, CHECKPOINT_FILE);
    await checkRunFolder(this.#folder, this.#options);
    if (this.#options.resume) {
      this.#progress = await readCheckpoint(path, this.#arrays, this.#identity);
      this.#saved = this.#progress.step;
      this.#listener.onResume?.(this.#progress.step, this.#schedule.steps);
    } else {
      // The log begins again, and is nothing that the checkpoint of an earlier run could go on from.
      await rm(path, { force: true });
    }
    this.#log = await RunLog.open(join(this.#folder, LOG_FILE), this.#progress.step);
    await sweep(this.#folder);
  }

  async end(): Promise<void> {
    await this.#log?.close();
  }

  async go(signal: AbortSignal): Promise<RunResult> {
    const { steps } = this.#schedule;
    const { patience } = this.#options;
    let status: RunResult['status'] = 'finished';
    let failure: AppError | null = null;
    while (this.#progress.step < steps) {
      if (patience !== null && this.#progress.worse >= patience) {
        status = 'stopped early';
        break;
      }
      if (signal.aborted) {
        status = 'interrupted';
        break;
      }
      try {
        await this.#step();
      } catch (error) {
        if (!(error instanceof AppError && error.code === 'training_diverged')) throw error;
        status = 'diverged';
        failure = error;
        break;
      }
    }
    // What diverged is no state to go on from: the last checkpoint stays.
    if (!failure && this.#saved !== this.#progress.step) await this.#save();
    const { best } = this.#progress;
    return { status, failure, progress: this.#progress, steps, values: best ? this.#arrays.best : this.#arrays.values };
  }

  async #step(): Promise<void> {
    const started = performance.now();
    const { evalEvery, checkpointEvery } = this.#options;
    const step = this.#progress.step + 1;
    const rate = learningRate(this.#schedule, step);
    const { loss, tokens } = await this.#differentiate(step);
    const gradientNorm = norm(this.#gradients);
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) throw this.#diverged(step, loss, rate);
    const { clip } = this.#options;
    const scale = clip !== null && gradientNorm > clip ? clip / gradientNorm : 1;
    this.#optimizer.update(this.#arrays.values, this.#gradients, scale, step, rate);

    const seconds = (performance.now() - started) / 1000;
    this.#progress = {
      ...this.#progress,
      step,
      tokens: this.#progress.tokens + tokens,
      seconds: this.#progress.seconds + seconds,
    };
    const { steps } = this.#schedule;
    const tokensPerSecond = tokens / seconds;
    await this.#log?.write({
      step,
      loss,
      learning_rate: rate,
      gradient_norm: gradientNorm,
      tokens,
      tokens_per_second: Math.round(tokensPerSecond),
    });
    this.#listener.onStep?.({
      step,
      steps,
      loss,
      gradientNorm,
      learningRate: rate,
      tokensPerSecond,
      secondsLeft: ((steps - step) * this.#progress.seconds) / step,
    });
    if (step % evalEvery === 0 || step === steps) await this.#evaluate(step);
    if (step % checkpointEvery === 0) await this.#save();
  }

  /** Loss a token and, in `#gradients`, its gradient, over all parts of a step. */
  async #differentiate(step: number): Promise<{ loss: number; tokens: number }> {
    const { model } = this.#prepared;
    const { accumulate } = this.#options;
    const parts = Array.from({ length: accumulate }, (_, part) => this.#batchAt((step - 1) * accumulate + part));
    const batches = parts.map(({ indexes }) => assemble(this.#shape, this.#prepared.train.sequences, indexes));
    const tokens = batches.reduce((sum, { predicted }) => sum + predicted, 0);
    let loss = 0;
    for (const [part, batch] of batches.entries()) {
      const extra = await this.#extraFeeds(batch, parts[part] as Part);
      loss += await model.differentiate(batch, extra, tokens);
      if (accumulate > 1) accumulateInto(this.#gradients, model.gradients, part === 0);
    }
    return { loss, tokens };
  }

  async #extraFeeds(batch: Batch, { number, indexes }: Part) {
    const { model, train, store } = this.#prepared;
    const { seed, dropout, residualDropout } = this.#options;
    const random = stream(seed, 'views', number);
    const keys = Array.from(indexes, (index) => {
      const views = train.keys[train.sequences.examples[index] as number] ?? [];
      return views[Math.floor(random() * views.length)] ?? '';
    });
    const features = await featuresOf(this.#shape, store, keys);
    const masks = dropoutFeeds(model.program, batch, this.#shape, { features: dropout, hidden: residualDropout }, seed, number);
    return { ...features, ...masks };
  }

  #batchesOf(epoch: number): readonly Int32Array[] {
    return epochBatches(this.#lengths, { batch: this.#options.batch, seed: this.#options.seed, epoch });
  }

  /** The part of the run with this number, counted over all epochs. */
  #batchAt(number: number): Part {
    const perEpoch = this.#epoch.batches.length;
    const epoch = Math.floor(number / perEpoch);
    if (epoch !== this.#epoch.number) this.#epoch = { number: epoch, batches: this.#batchesOf(epoch) };
    return { number, indexes: this.#epoch.batches[number % perEpoch] as Int32Array };
  }

  async #evaluate(step: number): Promise<void> {
    const { model, validation, store } = this.#prepared;
    if (!validation) return;
    const score = await evaluate(model, this.#shape, validation, store, this.#options.batch);
    if (!Number.isFinite(score.loss)) throw divergence(step, `a held-out loss of ${score.loss}`);
    await this.#log?.write({ step, validation_loss: score.loss, validation_perplexity: score.perplexity });
    const { best, worse } = this.#progress;
    const isBest = best === null || score.loss < best.loss;
    if (isBest) this.#arrays.best.set(this.#arrays.values);
    this.#progress = { ...this.#progress, best: isBest ? { step, loss: score.loss } : best, worse: isBest ? 0 : worse + 1 };
    this.#listener.onEvaluation?.(step, score, isBest);
  }

  async #save(): Promise<void> {
    await this.#log?.sync();
    await writeCheckpoint(join(this.#folder, CHECKPOINT_FILE), this.#progress, this.#arrays, this.#identity);
    this.#saved = this.#progress.step;
  }

  #diverged(step: number, loss: number, rate: number): AppError {
    const { model } = this.#prepared;
    const broken = this.#gradients.findIndex((value) => !Number.isFinite(value));
    const where = broken < 0 ? '' : `; the first gradient that is no number is that of ${model.parameters.nameAt(broken)}`;
    const what = Number.isFinite(loss) ? `a loss of ${loss} with a gradient that is no finite number` : `${loss}`;
    return divergence(step, `${what} (learning rate ${rate.toPrecision(3)})${where}`);
  }
}

/** Going on from the checkpoint would come to the same end: a run is the same every time. */
function divergence(step: number, what: string): AppError {
  return new AppError(
    'training_diverged',
    `Step ${step}: Expected a finite loss but received ${what}. Nothing of this step was kept; a checkpoint before it is as it was. ` +
      `A lower --lr or --clip, or a longer --warmup, helps most often: such a run begins again, with --restart`,
  );
}

/** Removes what a run that was killed while it wrote left behind. Nobody else writes here. */
async function sweep(folder: string): Promise<void> {
  for (const name of await readdir(folder))
    if (/^\.(checkpoint\.safetensors|report\.html)\.(tmp-)?[0-9a-f-]{36}(\.tmp)?$/.test(name)) await rm(join(folder, name));
}

/** A batch and its number in the run. */
interface Part {
  readonly number: number;
  readonly indexes: Int32Array;
}

/** sum ← part, or sum ← sum + part. */
function accumulateInto(sum: Float32Array, part: Float32Array, isFirst: boolean): void {
  if (isFirst) sum.set(part);
  else for (let index = 0; index < sum.length; index++) sum[index] = (sum[index] as number) + (part[index] as number);
}

/** Matrices decay; norms, biases and IA3's factors, whose rest is not zero, do not. */
function decaying({ model: { parameters } }: Prepared): Uint8Array {
  const decays = new Uint8Array(parameters.values.length);
  let start = 0;
  for (const { name, shape } of parameters.shapes) {
    const { length } = parameters.view(name);
    if (shape.length > 1) decays.fill(1, start, start + length);
    start += length;
  }
  return decays;
}
