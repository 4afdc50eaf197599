/**
 * Takes jobs from the queue and sees each to its end: its process, its events, its publication, and what is left of it on the disk. A job that
 * fails takes nothing along, and one that was cut off by the end of the server is taken up again, but not for ever.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { AppError } from '../errors.js';
import type { EventLog } from './events.js';
import { diskFull, type TrainingFiles } from './files.js';
import { type FinalStatus, isOver, type Job, type JobError, STATUSES, type Status } from './job.js';
import { type EventDraft, Narrator, words } from './narrator.js';
import type { TrainerEvent, TrainingTask } from './protocol.js';
import type { Published, Publisher } from './publisher.js';
import { TenantQueue } from './queue.js';
import type { Records } from './records.js';
import { type Environment, Trainer } from './trainer.js';

export interface RunnerSettings {
  /** The backbone's place. */
  readonly backbone: string;
  readonly maxImageBytes: number;
  readonly maxImagePixels: number;
  readonly threads: number;
  /** Jobs that are trained at once. */
  readonly jobs: number;
  readonly env: Environment;
}

export interface Observer {
  changed(counts: Readonly<Record<Status, number>>): void;
  /** A step was done. */
  stepped(): void;
  /** `seconds`: since its training began; `tokens`: that it learned from. */
  ended(status: FinalStatus, seconds: number, tokens: number): void;
  /** For those who run the server. */
  note(job: string | null, message: string): void;
}

interface Places {
  /** Of the jobs' records, and of a folder a job. */
  readonly folder: string;
  readonly files: TrainingFiles;
  readonly jobs: Records<Job>;
  readonly events: EventLog;
}

/** A job in training. */
interface Turn {
  trainer: Trainer | null;
  isPublishing: boolean;
  estimate: number | null;
  readonly done: Promise<void>;
}

const GRACE_MS = 10_000;
const MAX_ATTEMPTS = 3;
const PUBLISH_ATTEMPTS = 10;
const PUBLISH_AGAIN_MS = 3_000;
/** Failures that a job's owner can do something about; of others they are told that there was one. */
const TOLD = new Set(['invalid_config', 'invalid_data', 'training_diverged', 'adapter_invalid', 'conflict', 'disk_full']);

export class Runner {
  readonly #settings: RunnerSettings;
  readonly #places: Places;
  readonly #publisher: Publisher;
  readonly #observer: Observer;
  readonly #queue = new TenantQueue();
  readonly #turns = new Map<string, Turn>();
  /** Jobs whose files are being looked at. */
  readonly #validating = new Set<Promise<void>>();
  #isClosing = false;

  constructor(settings: RunnerSettings, places: Places, publisher: Publisher, observer: Observer) {
    this.#settings = settings;
    this.#places = places;
    this.#publisher = publisher;
    this.#observer = observer;
  }

  /** Takes up what is not over. Those that were being trained come first. */
  async start(): Promise<void> {
    const { folder, jobs } = this.#places;
    for (const entry of await readdir(folder, { withFileTypes: true }))
      if (entry.isDirectory() && this.#isOver(entry.name)) await this.#clear(entry.name);
    const pending = jobs.all().filter((job) => !isOver(job));
    const interrupted = pending.filter(({ status }) => status === 'running');
    for (const { id } of interrupted) {
      await this.#change(id, { status: 'queued' });
      await this.#tell(id, words('warn', 'The server ended while this job was running: it goes on when it has its turn again'));
    }
    for (const job of [...interrupted, ...pending.filter((each) => !interrupted.includes(each))]) this.add(job);
    this.#count();
  }

  /** A job that is not over: its files are looked at, where that was not done, and it waits for its turn. */
  add(job: Job): void {
    if (job.status === 'validating_files') {
      this.#count();
      const validating: Promise<void> = this.#settled(job.id, this.#validate(job)).finally(() =>
        this.#validating.delete(validating),
      );
      this.#validating.add(validating);
    } else {
      this.#queue.add(job.tenant, job.id);
      this.#pump();
    }
  }

  /** Of the processes that train now. */
  get pids(): number[] {
    return [...this.#turns.values()].flatMap(({ trainer }) => trainer?.pid ?? []);
  }

  estimate(id: string): number | null {
    return this.#turns.get(id)?.estimate ?? null;
  }

  /** Where the adapter lies that a job begins with. */
  beginningOf(id: string, from: { readonly name: string }): string {
    return join(this.#places.folder, id, 'from', basename(from.name));
  }

  /** Throws AppError `conflict` where it is over, or is being published. */
  async cancel(job: Job): Promise<void> {
    const { id, tenant, status } = job;
    const turn = this.#turns.get(id);
    if (isOver(job)) throw new AppError('conflict', `Expected a job that is not over but ${id} has ${status}`);
    if (turn?.isPublishing) throw new AppError('conflict', `Expected a job that is not over but ${id} is being published`);
    this.#queue.remove(tenant, id);
    turn?.trainer?.kill();
    await this.#end(id, 'cancelled', {}, words('info', 'The job was cancelled'));
    // What is being trained is cleared away once its process is gone.
    if (!turn) await this.#clear(id);
  }

  /** Lets what runs write its checkpoint. */
  async close(): Promise<void> {
    this.#isClosing = true;
    const turns = [...this.#turns.values()].map(async ({ trainer, done }) => {
      await trainer?.stop(GRACE_MS);
      await done;
    });
    await Promise.all([...this.#validating, ...turns]);
  }

  /** Whether the bytes on the disk are those that came. */
  async #validate({ id, trainingFile, validationFile }: Job): Promise<void> {
    const { files, jobs } = this.#places;
    for (const [param, file] of Object.entries({ training_file: trainingFile, validation_file: validationFile })) {
      if (file === null || (await hashOf(files.pathOf(file))) === files.get(file)?.sha256) continue;
      const message = `${param}: Expected the bytes that were uploaded but ${file} has others by now: please upload it again`;
      await this.#fail(id, { code: 'invalid_data', message, param });
      return;
    }
    if (this.#isOver(id)) return;
    await this.#change(id, { status: 'queued' });
    await this.#tell(id, words('info', 'The files are in order: the job waits for its turn'));
    const job = jobs.get(id);
    if (job && !isOver(job)) this.add(job);
  }

  #pump(): void {
    while (!this.#isClosing && this.#turns.size < this.#settings.jobs) {
      const id = this.#queue.next();
      const job = id === undefined ? undefined : this.#places.jobs.get(id);
      if (!job) return;
      const turn: Turn = {
        trainer: null,
        isPublishing: false,
        estimate: null,
        // Begins once the turn is known.
        done: this.#settled(
          job.id,
          Promise.resolve().then(() => this.#take(job, turn)),
        ).finally(() => {
          this.#turns.delete(job.id);
          this.#pump();
        }),
      };
      this.#turns.set(job.id, turn);
    }
  }

  async #take(job: Job, turn: Turn): Promise<void> {
    if (!this.#isOver(job.id)) await this.#train(job, turn);
    if (this.#isOver(job.id)) await this.#clear(job.id);
  }

  async #train(job: Job, turn: Turn): Promise<void> {
    const { id, attempts, startedAt } = job;
    if (attempts >= MAX_ATTEMPTS) {
      const message = `The server ended ${attempts} times before a step of this job was done: it is not tried again`;
      return this.#fail(id, { code: 'internal', message, param: null });
    }
    await this.#change(id, { status: 'running', startedAt: startedAt ?? Date.now(), attempts: attempts + 1 });
    const narrator = new Narrator(job.steps, await this.#places.events.read(id));
    await this.#tell(id, words('info', 'Fine-tuning begins'));
    if (this.#isOver(id) || this.#isClosing) return;
    const task = this.#taskOf(job);
    turn.trainer = new Trainer(task, this.#settings.env, (event) => this.#hear(id, turn, narrator, event));
    const outcome = await turn.trainer.ended;
    turn.trainer = null;
    if (this.#isOver(id)) return;
    if (outcome.type === 'finished') await this.#publish(job, turn, task.out, outcome.tokens);
    else if (outcome.type === 'failed') throw outcome.error;
    else if (outcome.type === 'died') await this.#fail(id, { code: 'internal', message: outcome.reason, param: null });
    // It was told to stop, which says nothing against it.
    else await this.#change(id, { attempts });
  }

  #hear(id: string, turn: Turn, narrator: Narrator, event: TrainerEvent): void {
    if (this.#isOver(id)) return;
    // Nobody waits for what is told: where the disk is full, the job finds out by itself.
    const aside = (work: Promise<void>): void => void work.catch((error: unknown) => this.#observer.note(id, String(error)));
    for (const draft of narrator.tell(event)) aside(this.#tell(id, draft));
    if (event.type !== 'step') return;
    this.#observer.stepped();
    turn.estimate = Date.now() + event.secondsLeft * 1000;
    if (this.#places.jobs.get(id)?.attempts !== 0) aside(this.#change(id, { attempts: 0 }));
  }

  async #publish({ id, result, tenant }: Job, turn: Turn, folder: string, tokens: number): Promise<void> {
    turn.isPublishing = true;
    const published = await this.#published(result, folder, tenant);
    // What is closing leaves it to the next server, which has nothing to train any more.
    if (!published) return;
    await this.#tell(id, words('info', `New fine-tuned model created: ${result}`));
    await this.#end(id, 'succeeded', { published, trainedTokens: tokens }, words('info', 'The job has successfully completed'));
  }

  /** A place that is busy is asked again: an hour of training must not be lost to a second. undefined where this server ends meanwhile. */
  async #published(name: string, folder: string, by: string): Promise<Published | undefined> {
    for (let attempt = 1; !this.#isClosing; attempt++) {
      try {
        return await this.#publisher.publish(name, folder, by);
      } catch (error) {
        if (attempt === PUBLISH_ATTEMPTS || !(error instanceof AppError && error.retryable)) throw error;
        await setTimeout(PUBLISH_AGAIN_MS, undefined, { ref: false });
      }
    }
    return undefined;
  }

  #taskOf(job: Job): TrainingTask {
    const { backbone, maxImageBytes, maxImagePixels, threads } = this.#settings;
    const { files } = this.#places;
    const { id, from, trainingFile, validationFile, result, graft, steps, batch, rateMultiplier, seed } = job;
    const folder = join(this.#places.folder, id);
    return {
      backbone,
      folder,
      training: files.pathOf(trainingFile),
      validation: validationFile === null ? null : files.pathOf(validationFile),
      maxImageBytes,
      maxImagePixels,
      prompt: files.get(trainingFile)?.prompt ?? '',
      from: from === null ? null : this.beginningOf(id, from),
      out: join(folder, 'out', basename(result)),
      graft,
      steps,
      batch,
      rateMultiplier,
      seed,
      threads,
    };
  }

  /** Work on a job, whose failure is the job's. Never rejects. */
  #settled(id: string, work: Promise<void>): Promise<void> {
    return work
      .catch((thrown: unknown) => {
        const error = AppError.from(diskFull(thrown));
        const { code, message, param = null } = error;
        const unsaid = "Training failed on the server's side; its log has the reason, under this job's id";
        this.#observer.note(id, message);
        return this.#fail(id, TOLD.has(code) ? { code, message, param } : { code: 'internal', message: unsaid, param: null });
      })
      .catch((error: unknown) => this.#observer.note(id, String(error)));
  }

  async #fail(id: string, error: JobError): Promise<void> {
    if (!this.#isOver(id)) await this.#end(id, 'failed', { error }, words('error', error.message));
  }

  async #end(id: string, status: FinalStatus, change: Partial<Job>, event: EventDraft): Promise<void> {
    const finishedAt = Date.now();
    const startedAt = this.#places.jobs.get(id)?.startedAt ?? finishedAt;
    await Promise.all([this.#change(id, { ...change, status, finishedAt }), this.#tell(id, event)]);
    this.#observer.ended(status, (finishedAt - startedAt) / 1000, change.trainedTokens ?? 0);
  }

  async #change(id: string, change: Partial<Job>): Promise<void> {
    const { jobs } = this.#places;
    const job = jobs.get(id);
    if (!job) return;
    const written = jobs.put({ ...job, ...change });
    this.#count();
    await written;
  }

  #tell(id: string, event: EventDraft): Promise<void> {
    return this.#places.events.add(id, event);
  }

  #isOver(id: string): boolean {
    const job = this.#places.jobs.get(id);
    return !job || isOver(job);
  }

  /** Everything of a job but what is told of it. */
  async #clear(id: string): Promise<void> {
    await rm(join(this.#places.folder, id), { recursive: true, force: true });
  }

  #count(): void {
    const counts = Object.fromEntries(STATUSES.map((status) => [status, 0])) as Record<Status, number>;
    for (const { status } of this.#places.jobs.all()) counts[status]++;
    this.#observer.changed(counts);
  }
}

/** undefined where it cannot be read. */
async function hashOf(path: string): Promise<string | undefined> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
    return hash.digest('hex');
  } catch {
    return undefined;
  }
}
