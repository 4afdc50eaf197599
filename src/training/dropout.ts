/**
 * Which numbers dropout keeps. A mask is a function of seed, name and step: each element hashes its own index with the mask's key, so masks need
 * no state that a checkpoint would have to carry.
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
  const mixed = key(seed, 'dropout', ...names);
  const threshold = Math.round(rate * 2 ** 32);
  for (let index = 0; index < mask.length; index++) {
    // Wellons' lowbias32, a bijection of 32 bits that no statistical test tells from chance.
    let x = (index ^ mixed) >>> 0;
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    x ^= x >>> 15;
    mask[index] = x >>> 0 >= threshold ? 1 : 0;
  }
  return mask;
}
