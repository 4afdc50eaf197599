/**
 * Checks training files off the event loop: parsing a gigabyte of JSON would keep everybody's tokens waiting. A thread a file, one after the
 * other, so that uploads take one core at most; nothing native is in it.
 */
import { startWorker } from '../adapter/thread.js';
import { AppError, type ErrorData } from '../errors.js';
import type { RowSummary } from './check.js';
import type { RowLimits } from './rows.js';

export interface CheckOrder {
  readonly path: string;
  readonly limits: RowLimits;
}

export type CheckAnswer = { readonly summary: RowSummary } | { readonly error: ErrorData };

/** MiB of a thread's heap: far more than the largest row takes, in all the forms that it has while it is read. */
const MAX_HEAP_MIB = 512;

export class RowChecker {
  readonly #limits: RowLimits;
  #last: Promise<unknown> = Promise.resolve();

  constructor(limits: RowLimits) {
    this.#limits = limits;
  }

  /** Throws AppError `invalid_request` with the lines that are wrong. */
  check(path: string): Promise<RowSummary> {
    const result = this.#last.then(() => checkInThread({ path, limits: this.#limits }));
    this.#last = result.catch(() => undefined);
    return result;
  }
}

function checkInThread(order: CheckOrder): Promise<RowSummary> {
  const worker = startWorker(new URL('./worker.js', import.meta.url), {
    workerData: order,
    name: 'row-checker',
    resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MIB },
  });
  return new Promise<RowSummary>((resolve, reject) => {
    worker.once('message', (answer: CheckAnswer) => {
      if ('summary' in answer) resolve(answer.summary);
      else reject(AppError.fromData(answer.error));
    });
    worker.once('error', (cause) =>
      reject(new AppError('internal', `The thread that checks files failed: ${String(cause)}`, { cause })),
    );
    worker.once('exit', (code) => reject(new AppError('internal', `The thread that checks files ended with exit code ${code}`)));
  });
}
