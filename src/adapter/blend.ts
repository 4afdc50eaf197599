/**
 * Several adapters as one, inside of one row. A blend is named as any version of an adapter is, by a digest: that of its parts and their weights,
 * so that whatever is keyed on digests (the cache, the bank) need not know what a blend is. How parts mix is mix.ts.
 */
import type { AdapterRef, WeightedRef } from './adapter.js';
import { ContentHash } from './digest.js';

/** Parts of one blend. One would be an adapter with its strength changed; each takes columns of its own in every row. */
export const MIN_PARTS = 2;
export const MAX_PARTS = 8;
/** Furthest that a weight may be from 0. */
export const MAX_WEIGHT = 4;

const WEIGHT_BYTES = 8;

/** What a blend is called: `0.7*a+0.3*b`. */
export function blendName(parts: readonly { readonly name: string; readonly weight: number }[]): string {
  return parts.map(({ name, weight }) => `${weight}*${name}`).join('+');
}

/**
 * The reference of a blend. Its digest is sha-256 over each part's digest and weight (a double, little-endian), in order, with the lengths that
 * `ContentHash` puts before both. No adapter has it: what is hashed of an adapter begins with the path of a file, and no file is called as a digest is.
 */
export function blendRef(name: string, blend: readonly WeightedRef[]): AdapterRef {
  const hash = new ContentHash();
  for (const { ref, weight } of blend) {
    hash.file(ref.digest, WEIGHT_BYTES);
    hash.update(bytesOf(weight));
  }
  return { name, digest: hash.digest(), folder: '', blend };
}

function bytesOf(weight: number): Uint8Array {
  const bytes = new Uint8Array(WEIGHT_BYTES);
  // The two zeros are one weight.
  new DataView(bytes.buffer).setFloat64(0, weight === 0 ? 0 : weight, true);
  return bytes;
}
