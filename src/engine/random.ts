/**
 * Random numbers for sampling. One stream a sequence, named by (seed, choice): which other rows are in the batch, and in which
 * order they are sampled, cannot reach it. The state is a hash of the name, because neighbouring seeds put straight into a small
 * generator give streams that begin alike.
 */
import { createHash, randomInt } from 'node:crypto';
import { uniformFloat64 } from 'pure-rand/distribution/uniformFloat64';
import { xoroshiro128plusFromState } from 'pure-rand/generator/xoroshiro128plus';

/**
 * An endless stream of numbers in [0, 1), multiples of 2^-53. The same (seed, choice) gives the same stream, forever.
 * Throws RangeError where the seed is not a safe integer or the choice not an integer from 0 to 2^32 - 1.
 */
export function uniforms(seed: number, choice: number): () => number {
  if (!Number.isSafeInteger(seed)) throw new RangeError(`Expected the seed to be a safe integer but received ${seed}`);
  if (choice !== choice >>> 0)
    throw new RangeError(`Expected the choice to be an unsigned 32-bit integer but received ${choice}`);
  const name = Buffer.alloc(12);
  name.writeBigInt64LE(BigInt(seed), 0);
  name.writeUInt32LE(choice, 8);
  const digest = createHash('sha256').update(name).digest();
  const generator = xoroshiro128plusFromState([0, 4, 8, 12].map((offset) => digest.readInt32LE(offset)));
  return () => uniformFloat64(generator);
}

/** A seed for a request that names none. */
export function drawSeed(): number {
  return randomInt(2 ** 48 - 1);
}
