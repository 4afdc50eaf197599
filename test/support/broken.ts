/** Ways to break a folder of a model or an adapter, for tests of what is said about it. */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decodeSafetensors, encodeSafetensors } from '../../src/tensor/safetensors.js';
import type { Tensor } from '../../src/tensor/tensor.js';

/** Merges fields into a JSON file; one that is undefined goes. */
export async function editJson(file: string, changes: object): Promise<void> {
  const before = JSON.parse(await readFile(file, 'utf8')) as object;
  await writeFile(file, JSON.stringify({ ...before, ...changes }));
}

/** Changes the tensors of a file in place. */
export async function editTensors(file: string, change: (tensors: Map<string, Tensor>) => void): Promise<void> {
  const { tensors } = decodeSafetensors(await readFile(file), file);
  // What is read is a view of the file's bytes, which are written anew.
  change(tensors);
  await writeFile(file, encodeSafetensors(tensors));
}

/** Changes the header of a file as text, and its bytes not at all. */
export async function editHeader(file: string, change: (header: string) => string): Promise<void> {
  const bytes = await readFile(file);
  const end = 8 + Number(bytes.readBigUInt64LE(0));
  const header = Buffer.from(change(bytes.toString('utf8', 8, end)).trimEnd());
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.byteLength));
  await writeFile(file, Buffer.concat([length, header, bytes.subarray(end)]));
}

/** Cuts the last bytes off. */
export async function truncate(file: string, bytes: number): Promise<void> {
  await writeFile(file, (await readFile(file)).subarray(0, -bytes));
}

/** One file in two, with the index that says which tensor is where. */
export async function shard(folder: string): Promise<readonly [string, string]> {
  const file = join(folder, 'model.safetensors');
  const { tensors } = decodeSafetensors(await readFile(file), file);
  const names = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'] as const;
  const halves = [[...tensors].slice(0, 5), [...tensors].slice(5)];
  const entries = halves.flatMap((half, index) => half.map(([tensor]) => [tensor, names[index] as string] as const));
  for (const [index, half] of halves.entries()) await writeFile(join(folder, names[index] as string), encodeSafetensors(half));
  await writeFile(
    join(folder, 'model.safetensors.index.json'),
    JSON.stringify({ metadata: {}, weight_map: Object.fromEntries(entries) }),
  );
  await rm(file);
  return names;
}
