/**
 * Random numbers that are functions of their name: no generator is carried from step to step, so a run that resumes draws what it would
 * have drawn, and what one part draws never shifts another's.
 */
import { createHash } from 'node:crypto';
import { uniformFloat64 } from 'pure-rand/distribution/uniformFloat64';
import { xoroshiro128plusFromState } from 'pure-rand/generator/xoroshiro128plus';

/** An endless stream of numbers in [0, 1), the same for the same seed and names for ever. */
export function stream(seed: number, ...names: readonly (string | number)[]): () => number {
  const digest = createHash('sha256')
    .update(JSON.stringify([seed, ...names]))
    .digest();
  const generator = xoroshiro128plusFromState([0, 4, 8, 12].map((offset) => digest.readInt32LE(offset)));
  return () => uniformFloat64(generator);
}

/** A 32-bit number, the same for the same seed and names for ever: the key of a counter-based generator. */
export function key(seed: number, ...names: readonly (string | number)[]): number {
  return createHash('sha256')
    .update(JSON.stringify([seed, ...names]))
    .digest()
    .readUInt32LE(0);
}
