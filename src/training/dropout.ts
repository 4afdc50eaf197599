/**
 * Which numbers dropout keeps. A mask is a function of seed, name and step: each element hashes its own index with the mask's keys, so masks need
 * no state that a checkpoint would have to carry. There are two keys, one between the rounds: with the first alone every mask would be a stretch
 * of one sequence in another order, and a run of many masks would meet the same stretches again.
 */
import { elements } from '../tensor/tensor.js';
import { key } from './random.js';

/** 1 where an element is kept (probability 1 − rate), else 0. */
export function keepMask(
  shape: readonly number[],
  rate: number,
  seed: number,
  ...names: readonly (string | number)[]
): Uint8Array {
  const mask = new Uint8Array(elements(shape));
  const [outer, inner] = [key(seed, 'dropout', ...names), key(seed, 'dropout, inner', ...names)];
  const threshold = Math.round(rate * 2 ** 32);
  for (let index = 0; index < mask.length; index++) {
    // Wellons' triple32, a bijection of 32 bits that no statistical test tells from chance.
    let x = index ^ outer;
    x = Math.imul(x ^ (x >>> 17), 0xed5ad4bb);
    x = Math.imul(x ^ (x >>> 11), 0xac4c1b51) ^ inner;
    x = Math.imul(x ^ (x >>> 15), 0x31848bab);
    mask[index] = (x ^ (x >>> 14)) >>> 0 >= threshold ? 1 : 0;
  }
  return mask;
}
