/**
 * From files that somebody sends to a version that serves. They are put together out of sight, and looked at three times: what they are called
 * (intake.ts), what their headers say, and by the engine, which reads every number as it will when it serves. Only then is there a version.
 */
import type { AdapterRef } from '../adapter/adapter.js';
import { digestFolder } from '../adapter/digest.js';
import { inspectFolder } from '../adapter/summary.js';
import { AppError, type ErrorCode } from '../errors.js';
import { Intake } from './intake.js';
import type { AdapterStore, Published } from './store.js';

export interface PublisherOptions {
  readonly store: AdapterStore;
  /** Of one adapter. */
  readonly maxBytes: number;
  /** Loads an adapter as it will be loaded to serve; throws AppError where it cannot be. */
  readonly check: (ref: AdapterRef) => Promise<void>;
  /** `ok`, or the code of what it failed with. */
  readonly onOutcome?: (outcome: 'ok' | ErrorCode) => void;
}

export interface Publication {
  readonly name: string;
  /** Who publishes it. */
  readonly by: string;
  /** Whether requests by the bare name get it from now on; the first version of a name always is what they get. */
  readonly isCurrent: boolean;
}

/** What is under way takes room on the disk, whether it comes fast or slowly. One publisher does not keep all others away. */
const MAX_CONCURRENT = 16;
const MAX_OF_ONE = 4;

export class Publisher {
  readonly #options: PublisherOptions;
  /** Who publishes what is under way. */
  readonly #running: string[] = [];
  /** One is checked at a time: it may take twice its bytes of memory. */
  #lastCheck: Promise<unknown> = Promise.resolve();

  constructor(options: PublisherOptions) {
    this.#options = options;
  }

  /**
   * Publishes what `fill` takes in. Throws AppError: `adapter_invalid` with all faults, `adapter_too_large`, `payload_too_large`, `conflict`,
   * `queue_full` where too many are published at once, `engine_unavailable`, `disk_full`; what `fill` throws. Nothing remains then.
   */
  async publish(publication: Publication, fill: (intake: Intake) => Promise<void>): Promise<Published> {
    try {
      const published = await this.#publish(publication, fill);
      this.#options.onOutcome?.('ok');
      return published;
    } catch (error) {
      this.#options.onOutcome?.(AppError.from(error).code);
      throw error;
    }
  }

  async #publish({ name, by, isCurrent }: Publication, fill: (intake: Intake) => Promise<void>): Promise<Published> {
    const isFull = this.#running.length >= MAX_CONCURRENT;
    if (isFull || this.#running.filter((one) => one === by).length >= MAX_OF_ONE) {
      const most = isFull ? MAX_CONCURRENT : MAX_OF_ONE;
      throw new AppError('queue_full', `Expected fewer than ${most} adapters that are published at once: please retry later`);
    }
    const { store, maxBytes } = this.#options;
    this.#running.push(by);
    try {
      const room = await store.reserve();
      const intake = new Intake({ folder: room.folder, maxBytes });
      try {
        await fill(intake);
        const folder = await intake.finish();
        const { summary, faults } = await inspectFolder(folder);
        if (faults.length > 0) throw AppError.ofFaults('adapter_invalid', subjectOf(name), faults);
        const { digest, bytes } = await digestFolder(folder);
        await this.#check({ name, digest, folder });
        return await store.publish(name, folder, { digest, bytes, by, summary }, isCurrent);
      } finally {
        const over = intake.close();
        await room.end();
        // What was still being written may have made a part of it again; nobody waits for a client that has stopped.
        void over.then(() => room.end());
      }
    } finally {
      this.#running.splice(this.#running.indexOf(by), 1);
    }
  }

  async #check(ref: AdapterRef): Promise<void> {
    const turn = this.#lastCheck.then(() => this.#options.check(ref));
    this.#lastCheck = turn.catch(() => undefined);
    try {
      await turn;
    } catch (error) {
      const { code, message, faults = [message] } = AppError.from(error);
      // The engine names the temporary folder that it was shown; who publishes knows the adapter by its name.
      throw code === 'adapter_invalid' ? AppError.ofFaults(code, subjectOf(ref.name), faults) : error;
    }
  }
}

function subjectOf(name: string): string {
  return `Adapter ${name} cannot be published`;
}
