/** Copies of a backbone whose language weights are other numbers, or the same in another dtype. */
import { cp, readFile } from 'node:fs/promises';
import path from 'node:path';
import { decodeSafetensors, writeSafetensors } from '../../src/tensor/safetensors.js';
import type { Tensor } from '../../src/tensor/tensor.js';

/** Copies a backbone (`language/` and what else it has) to `to`, each language tensor as `change` makes it. Returns `to`. */
export async function changedBackbone(
  from: string,
  to: string,
  change: (name: string, tensor: Tensor) => Iterable<readonly [string, Tensor]>,
): Promise<string> {
  await cp(from, to, { recursive: true });
  const file = path.join(to, 'language', 'model.safetensors');
  const { tensors } = decodeSafetensors(await readFile(file), file);
  await writeSafetensors(
    file,
    [...tensors].flatMap(([name, tensor]) => [...change(name, tensor)]),
  );
  return to;
}
