/**
 * Fine-tuning jobs, from the request to the published adapter. Every state is on the disk before anybody is told of it, so that a server that
 * was killed goes on where it was: what waited waits again, and what was being trained goes on from its checkpoint.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../errors.js';
import { locked } from '../tensor/lock.js';
import { resolveSchedule, type Wishes } from './auto.js';
import { RowChecker } from './checker.js';
import { EventLog } from './events.js';
import type { TrainingFile } from './file.js';
import { TrainingFiles } from './files.js';
import { type GraftOptions, isOver, type Job, type JobEvent, JobJson } from './job.js';
import { newId } from './name.js';
import { copyAdapter, type Publisher } from './publisher.js';
import { Records } from './records.js';
import { type Observer, Runner, type RunnerSettings } from './runner.js';

export interface FinetuningSettings extends RunnerSettings {
  readonly folder: string;
  /** Whether the backbone has a vision encoder. */
  readonly seesImages: boolean;
  /** Of one tenant's files together. */
  readonly maxTrainingBytes: number;
}

/** A job as it is asked for; its files are its owner's. */
export interface Order {
  readonly model: string;
  /** null: the bare backbone. */
  readonly from: { readonly name: string; readonly digest: string; readonly folder: string; readonly seesImages: boolean } | null;
  readonly training: TrainingFile;
  readonly validation: TrainingFile | null;
  /** Name of the result beside its owner's; null: the job's id. */
  readonly suffix: string | null;
  readonly seed: number;
  readonly wishes: Wishes;
  readonly graft: GraftOptions;
  readonly metadata: Readonly<Record<string, string>> | null;
}

/** Jobs of one tenant that are not over, and those that are and are still told of. */
const MAX_PENDING = 20;
const MAX_KEPT = 1000;

interface Opened {
  readonly files: TrainingFiles;
  readonly jobs: Records<Job>;
  readonly events: EventLog;
  readonly runner: Runner;
}

export class Finetuning {
  readonly #settings: FinetuningSettings;
  readonly #publisher: Publisher;
  readonly #observer: Observer;
  readonly #ending = new AbortController();
  #parts: Opened | undefined;
  /** Ends once everything is closed. */
  #work: Promise<void> = Promise.resolve();

  constructor(settings: FinetuningSettings, publisher: Publisher, observer: Observer) {
    this.#settings = settings;
    this.#publisher = publisher;
    this.#observer = observer;
  }

  /**
   * Takes the folder and goes on with its jobs. Where another server has it, this resolves nevertheless, and the folder is taken once it is
   * free. Throws AppError `invalid_config` where there can be no such folder.
   */
  async start(): Promise<void> {
    const { folder } = this.#settings;
    await mkdir(folder, { recursive: true }).catch((cause: unknown) => {
      throw new AppError(
        'invalid_config',
        `finetuning: Expected a folder that can be made at ${folder} but received ${String(cause)}`,
        { cause },
      );
    });
    await new Promise<void>((resolve, reject) => {
      const work = async (): Promise<void> => {
        await this.#open();
        resolve();
        await ended(this.#ending.signal);
        await this.#parts?.runner.close();
      };
      const onWait = (): void => {
        this.#observer.note(null, `another server uses ${folder}: fine-tuning begins here once that one has ended`);
        resolve();
      };
      this.#work = locked(join(folder, 'lock'), work, { onWait, signal: this.#ending.signal }).catch((error: unknown) => {
        if (!this.#ending.signal.aborted) this.#observer.note(null, `fine-tuning ended: ${String(error)}`);
        reject(AppError.from(error));
      });
    });
  }

  get files(): TrainingFiles {
    return this.#opened.files;
  }

  job(id: string): Job | undefined {
    return this.#opened.jobs.get(id);
  }

  /** The oldest first. */
  jobs(): Job[] {
    return this.#opened.jobs.all();
  }

  /** The oldest first. */
  events(id: string): Promise<JobEvent[]> {
    return this.#opened.events.read(id);
  }

  /** When a running job will probably be over, in milliseconds since 1970; null where nobody knows. */
  estimate(id: string): number | null {
    return this.#opened.runner.estimate(id);
  }

  /** Of the processes that train now. */
  get pids(): readonly number[] {
    return this.#parts?.runner.pids ?? [];
  }

  /** Throws AppError: `invalid_request` where its parts do not go together, `conflict` for a name that is taken, `queue_full`. */
  async create(tenant: string, order: Order): Promise<Job> {
    const { files, jobs, runner } = this.#opened;
    const { model, from, training, validation, seed, graft, metadata, wishes } = order;
    const pending = jobs.all().filter((job) => job.tenant === tenant && !isOver(job));
    if (pending.length >= MAX_PENDING)
      throw new AppError(
        'queue_full',
        `Expected fewer than ${MAX_PENDING} jobs that are not over but there are as many: please retry later`,
      );
    this.#checkFiles(order);
    const schedule = resolveSchedule(training.rows, wishes);
    const id = newId('job');
    const result = [...(tenant === '' ? [] : [tenant]), order.suffix ?? id].join('/');
    if (pending.some((job) => job.result === result))
      throw new AppError('conflict', `suffix: Expected a name that no other job has but a job that is not over makes ${result}`, {
        param: 'suffix',
      });
    await this.#publisher.check(result);
    if (from) await copyAdapter(from.folder, from.digest, runner.beginningOf(id, from));
    if ([training, validation].some((file) => file && !files.get(file.id)))
      throw new AppError('conflict', 'training_file: Expected files that stay but one was deleted meanwhile', {
        param: 'training_file',
      });
    const job: Job = {
      id,
      tenant,
      createdAt: Date.now(),
      startedAt: null,
      finishedAt: null,
      status: 'validating_files',
      error: null,
      model,
      from: from && { name: from.name, digest: from.digest },
      trainingFile: training.id,
      validationFile: validation?.id ?? null,
      result,
      published: null,
      seed,
      ...schedule,
      graft,
      metadata,
      trainedTokens: null,
      attempts: 0,
    };
    await jobs.put(job);
    await this.#forgetOldest(tenant);
    runner.add(job);
    return job;
  }

  /** Ends a job, and gives it as it then is. Throws AppError `conflict` where it is over, or is being published. */
  async cancel(job: Job): Promise<Job> {
    const { runner, jobs } = this.#opened;
    await runner.cancel(job);
    return jobs.get(job.id) ?? job;
  }

  /** Throws AppError `conflict` where a job needs it. */
  async removeFile(file: TrainingFile): Promise<void> {
    const { files, jobs } = this.#opened;
    const user = jobs.all().find((job) => !isOver(job) && [job.trainingFile, job.validationFile].includes(file.id));
    if (user) throw new AppError('conflict', `Expected a file that no job needs but ${user.id} is not over`);
    await files.remove(file);
  }

  /** Lets running jobs write their checkpoints; the next start goes on with them. */
  async close(): Promise<void> {
    this.#ending.abort(new AppError('shutting_down', 'The server is shutting down'));
    await this.#work;
  }

  async #open(): Promise<void> {
    const { folder, maxTrainingBytes, maxImageBytes } = this.#settings;
    const onFault = (path: string): void =>
      this.#observer.note(null, `Expected a record at ${path} but received something else: it is left alone`);
    const files = await TrainingFiles.open(join(folder, 'files'), maxTrainingBytes, new RowChecker({ maxImageBytes }), onFault);
    const place = join(folder, 'jobs');
    await mkdir(place, { recursive: true });
    const jobs = await Records.open(place, JobJson, onFault);
    const events = new EventLog(place);
    const runner = new Runner(this.#settings, { folder: place, files, jobs, events }, this.#publisher, this.#observer);
    await runner.start();
    this.#parts = { files, jobs, events, runner };
  }

  get #opened(): Opened {
    if (this.#ending.signal.aborted) throw AppError.from(this.#ending.signal.reason);
    if (this.#parts) return this.#parts;
    throw new AppError(
      'engine_unavailable',
      'Fine-tuning has not begun here: its folder is being opened, or another server still has it',
    );
  }

  #checkFiles({ training, validation, from }: Order): void {
    const fault = (param: string, expected: string, received: string): AppError =>
      new AppError('invalid_request', `${param}: Expected ${expected} but received ${received}`, { param });
    if (training.hasImages && !this.#settings.seesImages)
      throw fault('training_file', 'rows of text, for the backbone has no vision encoder,', 'rows with images');
    if (!training.hasImages && from?.seesImages)
      throw fault('training_file', `rows with images, for adapter ${from.name} is made for them,`, 'rows of text');
    if (!validation) return;
    if (validation.hasImages !== training.hasImages)
      throw fault(
        'validation_file',
        `rows ${training.hasImages ? 'with' : 'without'} images, like those of training_file,`,
        'others',
      );
    if (validation.prompt !== training.prompt)
      throw fault(
        'validation_file',
        `the prompt of training_file (${JSON.stringify(training.prompt.slice(0, 80))})`,
        JSON.stringify(validation.prompt.slice(0, 80)),
      );
  }

  async #forgetOldest(tenant: string): Promise<void> {
    const { jobs, events } = this.#opened;
    const over = jobs.all().filter((job) => job.tenant === tenant && isOver(job));
    for (const { id } of over.slice(0, Math.max(0, over.length - MAX_KEPT))) {
      await jobs.remove(id);
      await events.remove(id);
    }
  }
}

function ended(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
