/** Files written in pieces: the format's own, whole or not there, and found out when a bit of them changes. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isIntact, pipeSafetensors } from '../../../src/tensor/pieces.js';
import { decodeSafetensors, SafetensorsFile, writeSafetensors } from '../../../src/tensor/safetensors.js';

const TENSORS = [
  ['small', { dtype: 'uint8', shape: [4] }],
  ['large', { dtype: 'float32', shape: [2, 3] }],
] as const;
const BYTES = Uint8Array.from({ length: 28 }, (_, at) => at * 7);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'graft-pieces-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function* cut(bytes: Uint8Array, ...at: number[]): AsyncGenerator<Uint8Array> {
  for (const [index, to] of [...at, bytes.length].entries()) yield bytes.subarray(at[index - 1] ?? 0, to);
}

async function check(path: string): Promise<boolean> {
  const file = await SafetensorsFile.open(path);
  try {
    return await isIntact(file);
  } finally {
    await file.close();
  }
}

describe('pipeSafetensors', () => {
  it('writes tensors in the order given, from pieces that are cut anywhere', async () => {
    const path = join(folder, 'whole.safetensors');
    await pipeSafetensors(path, TENSORS, cut(BYTES, 0, 3, 9), [['by', 'test']]);
    const { header, tensors } = decodeSafetensors(await readFile(path), path);
    expect([...header.entries.keys()]).toEqual(['small', 'large', 'sha256']);
    expect([...header.metadata]).toEqual([['by', 'test']]);
    expect([...(tensors.get('small')?.data ?? [])]).toEqual([...BYTES.subarray(0, 4)]);
    expect(tensors.get('large')).toMatchObject({ dtype: 'float32', shape: [2, 3] });
    expect([...(tensors.get('large')?.data ?? [])]).toEqual([...BYTES.subarray(4)]);
    expect(await check(path)).toBe(true);
  });

  it.each([27, 29])('refuses %d bytes where 28 are expected, and leaves nothing', async (bytes) => {
    const inner = await mkdtemp(join(folder, 'wrong-'));
    const pieces = cut(new Uint8Array(bytes), 5);
    await expect(pipeSafetensors(join(inner, 'a.safetensors'), TENSORS, pieces)).rejects.toThrow(
      `Expected 28 bytes of tensors but received ${bytes}`,
    );
    expect(await readdir(inner)).toEqual([]);
  });
});

describe('isIntact', () => {
  it('is false after any change of a tensor’s bytes', async () => {
    const path = join(folder, 'changed.safetensors');
    await pipeSafetensors(path, TENSORS, cut(BYTES));
    const bytes = await readFile(path);
    for (const fromEnd of [1, 32, 33, 60]) {
      const changed = Buffer.from(bytes);
      changed[bytes.length - fromEnd] = (changed[bytes.length - fromEnd] as number) ^ 1;
      await writeFile(path, changed);
      expect(await check(path)).toBe(false);
    }
    await writeFile(path, bytes);
    expect(await check(path)).toBe(true);
  });

  it('is false for a file that was written in another way', async () => {
    const path = join(folder, 'other.safetensors');
    await writeSafetensors(path, [['small', { dtype: 'uint8', shape: [4], data: BYTES.subarray(0, 4) }]]);
    expect(await check(path)).toBe(false);
  });
});
