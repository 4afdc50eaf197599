/**
 * Which examples are kept out of training. Each image's side is a function of the seed and of its own name, so that a dataset that grows
 * keeps what it held out. No image that was learned once is later taken to measure what was learned.
 */
import { relative, sep } from 'node:path';
import { AppError } from '../../errors.js';
import { key } from '../random.js';
import type { Example } from './example.js';

export interface SplitOptions {
  /**
   * The share that is held out, between 0 and 1, of images (of texts where there are none); or how many, from 1. A share is met on average,
   * a number exactly: there an added image may take the place of another.
   */
  readonly holdout: number;
  readonly seed: number;
  /** Images are named from here: the split is then the same wherever the folder lies. Without it the absolute path counts. */
  readonly folder?: string | undefined;
}

export interface Split<E extends Example = Example> {
  readonly train: readonly E[];
  readonly validation: readonly E[];
}

const RANGE = 2 ** 32;

/**
 * Splits examples, which keep their order; those of one image are on one side, and each side has at least one,
 * if need be the one that is nearest to it.
 * Throws AppError `invalid_data` where that cannot be, or `holdout` is neither a share nor a number.
 */
export function split<E extends Example>(examples: readonly E[], { holdout, seed, folder }: SplitOptions): Split<E> {
  const isShare = holdout > 0 && holdout < 1;
  if (!isShare && !(Number.isSafeInteger(holdout) && holdout > 0))
    throw new AppError(
      'invalid_data',
      `Expected to hold out a share between 0 and 1, or a number from 1, but received ${holdout}`,
    );
  const names = examples.map((example) => nameOf(example, folder));
  const draws = [...new Set(names)].map((name) => ({ name, draw: key(seed, 'split', name) }));
  if (draws.length < 2)
    throw new AppError('invalid_data', `Expected at least 2 images or texts to hold one out but received ${draws.length}`);
  if (!isShare && holdout >= draws.length)
    throw new AppError('invalid_data', `Expected to hold out fewer than all ${draws.length} but received ${holdout}`);
  draws.sort((a, b) => a.draw - b.draw || (a.name < b.name ? -1 : 1));
  const drawn = isShare ? draws.filter(({ draw }) => draw < holdout * RANGE).length : holdout;
  const count = Math.min(Math.max(drawn, 1), draws.length - 1);
  const held = new Set(draws.slice(0, count).map(({ name }) => name));
  const side = (validation: boolean): E[] => examples.filter((_, index) => held.has(names[index] ?? '') === validation);
  return { train: side(false), validation: side(true) };
}

function nameOf({ image, captions }: Example, folder: string | undefined): string {
  if (image === null) return JSON.stringify(captions);
  return (folder === undefined ? image : relative(folder, image)).replaceAll(sep, '/');
}
