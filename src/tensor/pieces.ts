/**
 * safetensors files larger than memory: written from bytes that come in pieces, and read through once to see that all of them are what was
 * written. A file says nothing of its own bits, and a disk or a copy may change some.
 */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { layOut, type SafetensorsFile, writeParts } from './safetensors.js';
import type { Tensor } from './tensor.js';

/** The last tensor of a file: sha-256 of the bytes of all tensors before it. */
const DIGEST = 'sha256';
const DIGEST_BYTES = 32;
const CHUNK_BYTES = 2 ** 20;

/**
 * Writes tensors in the order given, then their digest; whole or not there. `pieces` are their bytes, cut anywhere; a piece is not kept.
 * Throws RangeError where they are more or fewer than the tensors', and for a tensor that has the digest's name.
 */
export async function pipeSafetensors(
  path: string,
  tensors: readonly (readonly [string, Omit<Tensor, 'data'>])[],
  pieces: AsyncIterable<Uint8Array>,
  metadata: Iterable<readonly [string, string]> = [],
): Promise<void> {
  const digest = { dtype: 'uint8', shape: [DIGEST_BYTES] } as const;
  const { head, ordered } = layOut<Omit<Tensor, 'data'>>([...tensors, [DIGEST, digest]], metadata);
  const expected = ordered.reduce((sum, [, { bytes }]) => sum + bytes, 0) - DIGEST_BYTES;
  const parts = async function* (): AsyncGenerator<Uint8Array> {
    yield head;
    const hash = createHash('sha256');
    let received = 0;
    for await (const piece of pieces) {
      received += piece.byteLength;
      hash.update(piece);
      yield piece;
    }
    if (received !== expected) throw new RangeError(`Expected ${expected} bytes of tensors but received ${received}`);
    yield hash.digest();
  };
  await writeParts(path, parts());
}

/** Whether the tensors of a file that `pipeSafetensors` wrote still have the digest that it wrote. */
export async function isIntact(file: SafetensorsFile): Promise<boolean> {
  const { entries, dataOffset } = file.header;
  const last = [...entries.values()].at(-1);
  if (last?.name !== DIGEST || last.dtype !== 'uint8' || last.bytes !== DIGEST_BYTES) return false;
  const hash = createHash('sha256');
  const handle = await open(file.path, 'r');
  try {
    // One buffer for all of it: what a file of gigabytes leaves to the garbage collector would be the peak of a start.
    const buffer = new Uint8Array(CHUNK_BYTES);
    for (let at = dataOffset; at < last.offset; ) {
      const { bytesRead } = await handle.read(buffer, 0, Math.min(CHUNK_BYTES, last.offset - at), at);
      if (bytesRead === 0) return false;
      hash.update(buffer.subarray(0, bytesRead));
      at += bytesRead;
    }
  } finally {
    await handle.close();
  }
  const { data } = await file.read(DIGEST);
  return hash.digest().equals(data);
}
