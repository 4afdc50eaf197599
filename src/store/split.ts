/**
 * Which version of a split a request gets: the same one for the same key, as often as it is asked and on every server. A version's share begins
 * where that of the one before ends, so that a share that grows takes from its neighbour and disturbs nobody else.
 */
import { createHash } from 'node:crypto';
import type { Share } from './entry.js';

/** As many as a number holds exactly. */
const BYTES = 6;

/** Throws RangeError where there are no shares. */
export function pick(name: string, key: string, shares: readonly Share[]): number {
  const place = 100 * fraction(name, key);
  let sum = 0;
  for (const { version, percent } of shares) {
    sum += percent;
    if (place < sum) return version;
  }
  throw new RangeError(`Expected shares of ${name} that are 100 in sum but received ${sum}`);
}

/** From 0 to 1, by sha-256 over the name's length, the name and the key. */
function fraction(name: string, key: string): number {
  const length = Buffer.alloc(4);
  const bytes = Buffer.from(name);
  length.writeUInt32LE(bytes.length);
  return createHash('sha256').update(length).update(bytes).update(key).digest().readUIntBE(0, BYTES) / 2 ** (8 * BYTES);
}
