/** What `graft serve` needs to fine-tune: where finished adapters go, and who hears of it. */
import { realpath } from 'node:fs/promises';
import type { Logger } from 'pino';
import type { AdapterRegistry } from '../adapter/registry.js';
import type { Config } from '../config.js';
import { AppError } from '../errors.js';
import { Finetuning } from '../finetuning/finetuning.js';
import { FolderPublisher, type Publisher } from '../finetuning/publisher.js';
import type { Lifecycle } from '../http/services.js';
import type { Metrics } from '../metrics.js';
import { takeFolder } from '../store/copy.js';
import type { AdapterStore } from '../store/store.js';

export interface FinetuningParts {
  readonly seesImages: boolean;
  /** Finished adapters go to the store where there is one, else into the folder of adapters. */
  readonly lifecycle: Lifecycle | null;
  readonly registry: AdapterRegistry | null;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** Throws AppError `invalid_config` where jobs could be done but their adapters could go nowhere. */
export function checkFinetuning({ finetuning }: Config, store: AdapterStore | null, registry: AdapterRegistry | null): void {
  if (finetuning !== null && !store && !registry)
    throw new AppError(
      'invalid_config',
      'finetuning: Expected --store or --adapters, where finished adapters go, but received neither',
    );
}

/** To be started; null where no folder is set. */
export function createFinetuning(
  { finetuning: folder, backbone, maxTrainingBytes, maxImageBytes, maxImagePixels, finetuningThreads, finetuningJobs }: Config,
  { seesImages, lifecycle, registry, env, metrics, log }: FinetuningParts,
): Finetuning | null {
  const publisher = lifecycle ? toStore(lifecycle) : registry && new FolderPublisher(registry.folder, () => registry.rescan());
  if (folder === null || publisher === null) return null;
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
  return new Finetuning(settings, publisher, {
    changed: (counts) => metrics.finetuningJobs(counts),
    stepped: () => metrics.finetuningStep(),
    ended: (status, seconds, tokens) => metrics.finetuningEnded(status, seconds, tokens),
    note: (job, message) => log.warn(job === null ? {} : { job }, message),
  });
}

/** Each job makes a version, which is current at once: what was published under the name before stays. */
function toStore({ publisher }: Lifecycle): Publisher {
  return {
    check: () => Promise.resolve(),
    publish: async (name, folder, by) => {
      const root = await realpath(folder);
      const { version } = await publisher.publish({ name, by, isCurrent: true }, (intake) => takeFolder(root, root, intake));
      return { version: version.version, digest: version.digest };
    },
  };
}
