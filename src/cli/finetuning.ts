/** What `graft serve` needs to fine-tune: where finished adapters go, and who hears of it. */
import type { Logger } from 'pino';
import type { AdapterRegistry } from '../adapter/registry.js';
import type { Config } from '../config.js';
import { AppError } from '../errors.js';
import { Finetuning } from '../finetuning/finetuning.js';
import { FolderPublisher } from '../finetuning/publisher.js';
import type { Metrics } from '../metrics.js';

export interface FinetuningParts {
  readonly seesImages: boolean;
  readonly registry: AdapterRegistry | null;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** To be started; null where no folder is set. Throws AppError `invalid_config` where finished adapters could go nowhere. */
export function createFinetuning(
  { finetuning: folder, backbone, maxTrainingBytes, maxImageBytes, maxImagePixels, finetuningThreads, finetuningJobs }: Config,
  { seesImages, registry, env, metrics, log }: FinetuningParts,
): Finetuning | null {
  if (folder === null) return null;
  if (!registry)
    throw new AppError('invalid_config', 'finetuning: Expected --adapters, where finished adapters go, but received none');
  const settings = {
    folder,
    backbone,
    seesImages,
    maxTrainingBytes,
    maxImageBytes,
    maxImagePixels,
    threads: finetuningThreads,
    jobs: finetuningJobs,
    env,
  };
  return new Finetuning(settings, new FolderPublisher(registry.folder, () => registry.rescan()), {
    changed: (counts) => metrics.finetuningJobs(counts),
    stepped: () => metrics.finetuningStep(),
    ended: (status, seconds, tokens) => metrics.finetuningEnded(status, seconds, tokens),
    note: (job, message) => log.warn(job === null ? {} : { job }, message),
  });
}
