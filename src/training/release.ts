/** What a finished run releases, with notes of how it came about. */
import { basename } from 'node:path';
import type { TrainOptions } from './options.js';
import type { Prepared } from './prepare.js';
import { type Notes, publishAdapter, publishBackbone } from './publish.js';
import { type RunResult, warmupOf } from './run.js';

/** Writes the run's adapter to `out`, or the backbone where all weights were trained. */
export async function release(
  { backbone, plan, model, train, beginning }: Prepared,
  options: TrainOptions,
  { values, progress, steps }: RunResult,
): Promise<void> {
  const notes: Notes = {
    task: options.task,
    prompt: options.prompt,
    dtype: options.dtype,
    metrics: progress.best ? { validation_perplexity: Math.exp(progress.best.loss), best_step: progress.best.step } : {},
    training: {
      data: basename(options.data),
      captions: train.sequences.count,
      ...(beginning ? { from: `${beginning.name} ${beginning.digest}` } : {}),
      steps: progress.step,
      warmup: warmupOf(options, steps),
      batch: options.batch,
      accumulate: options.accumulate,
      learning_rate: options.lr,
      schedule: options.schedule,
      dropout: options.dropout,
      residual_dropout: options.residualDropout,
      normalize: options.normalize,
      seed: options.seed,
    },
  };
  if (plan) await publishAdapter(options.out, backbone, plan, model.parameters, values, notes);
  else await publishBackbone(options.out, backbone, model.parameters, values, notes);
}
