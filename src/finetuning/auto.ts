/**
 * What a job that says "auto" gets. Few examples are seen more often, for an adapter needs some hundred updates to learn anything; many
 * are seen three times, as `graft train` does it.
 */
import { AppError } from '../errors.js';

export type Auto<T> = T | 'auto';

export interface Wishes {
  readonly epochs: Auto<number>;
  readonly batch: Auto<number>;
  readonly rateMultiplier: Auto<number>;
  /** Updates, in place of epochs; null: as the epochs come to. */
  readonly steps: number | null;
}

export interface Schedule {
  readonly epochs: number;
  readonly batch: number;
  readonly rateMultiplier: number;
  readonly steps: number;
}

const LARGEST_BATCH = 16;
/** Batches that an epoch of few examples is made of. */
const SMALL_EPOCH = 8;
const ENOUGH_STEPS = 300;
const EPOCHS = [3, 25] as const;
export const MAX_STEPS = 1_000_000;

/** Throws AppError `invalid_request` where it comes to more updates than any job may have. */
export function resolveSchedule(rows: number, { epochs, batch, rateMultiplier, steps }: Wishes): Schedule {
  const size = Math.min(batch === 'auto' ? Math.min(LARGEST_BATCH, Math.ceil(rows / SMALL_EPOCH)) : batch, rows);
  const perEpoch = Math.ceil(rows / size);
  const [least, most] = EPOCHS;
  const passes = epochs === 'auto' ? Math.min(most, Math.max(least, Math.ceil(ENOUGH_STEPS / perEpoch))) : epochs;
  const total = steps ?? passes * perEpoch;
  if (total > MAX_STEPS) {
    const param = 'method';
    throw new AppError(
      'invalid_request',
      `method: Expected at most ${MAX_STEPS} updates but n_epochs and batch_size come to ${total}`,
      {
        param,
      },
    );
  }
  return {
    epochs: steps === null ? passes : Math.ceil(steps / perEpoch),
    batch: size,
    rateMultiplier: rateMultiplier === 'auto' ? 1 : rateMultiplier,
    steps: total,
  };
}
