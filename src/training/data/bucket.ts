/**
 * Batches of sequences of about one length, for what pads a batch is computed and thrown away. Whole lengths in order would make an epoch
 * a march from short to long; so the order is drawn first, sorted only within windows of some batches, and the batches are drawn again.
 * An epoch's batches are a function of (seed, epoch): a run that resumes goes on with those that it would have had.
 */
import { stream } from '../random.js';

export interface BucketOptions {
  /** Sequences in a batch. */
  readonly batch: number;
  readonly seed: number;
  /** From 0. */
  readonly epoch: number;
  /** Batches that are sorted together: more of them pad less and mix less. */
  readonly window?: number;
}

/**
 * The batches of one epoch, as indexes into `lengths` (whole numbers, the sequences' tokens): every index once. One batch is smaller where
 * the number of sequences is no multiple. The batches share one buffer. Throws RangeError for sizes that are none.
 */
export function epochBatches(lengths: ArrayLike<number>, { batch, seed, epoch, window = 50 }: BucketOptions): Int32Array[] {
  for (const [name, value, least] of [
    ['batch', batch, 1],
    ['window', window, 1],
    ['epoch', epoch, 0],
  ] as const)
    if (!Number.isSafeInteger(value) || value < least)
      throw new RangeError(`Expected ${name} to be a whole number from ${least} but received ${value}`);
  const uniform = stream(seed, 'batches', epoch);
  const order = shuffled(
    Int32Array.from({ length: lengths.length }, (_, index) => index),
    uniform,
  );
  const size = batch * window;
  for (let start = 0; start < order.length; start += size) sortByLength(order.subarray(start, start + size), lengths);
  const batches = Array.from({ length: Math.ceil(order.length / batch) }, (_, index) =>
    order.subarray(index * batch, (index + 1) * batch),
  );
  return shuffled(batches, uniform);
}

/** Fisher and Yates: each order is as likely as any other. In place. */
function shuffled<T extends Int32Array | Int32Array[]>(items: T, uniform: () => number): T {
  for (let last = items.length - 1; last > 0; last--) {
    const other = Math.floor(uniform() * (last + 1));
    const item = items[last] as T[number];
    items[last] = items[other] as T[number];
    items[other] = item;
  }
  return items;
}

/** In place; equal lengths stay as they were drawn. Numbers that hold length and place sort ten times faster than places with a comparison. */
function sortByLength(order: Int32Array, lengths: ArrayLike<number>): void {
  const count = order.length;
  const keys = Float64Array.from(order, (index, place) => (lengths[index] as number) * count + place).sort();
  order.set(Int32Array.from(keys, (key) => order[key % count] as number));
}
