/** A checkpoint of new weights: everything that is beside them (config, tokenizer, notes on generation) as it was. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { WrittenDType } from '../tensor/convert.js';
import { writeSynced } from '../tensor/folder.js';

/**
 * Copies everything of a checkpoint but its weights; where these come in another dtype, config.json tells. In a cache of downloads its
 * files are links.
 */
export async function copyCheckpointFiles(from: string, to: string, dtype?: WrittenDType): Promise<void> {
  for (const name of await readdir(from)) {
    if (!/\.(json|txt|jinja|model)$/.test(name) || name.endsWith('.index.json')) continue;
    if (!(await stat(join(from, name)).catch(() => undefined))?.isFile()) continue;
    const content = await readFile(join(from, name));
    await writeSynced(join(to, name), name === 'config.json' && dtype !== undefined ? withDType(content, dtype) : content);
  }
}

/** transformers knows the key under two names, of which `dtype` is the newer one. */
function withDType(content: Uint8Array, dtype: WrittenDType): Uint8Array {
  const config = JSON.parse(new TextDecoder().decode(content)) as Record<string, unknown>;
  const key = 'dtype' in config ? 'dtype' : 'torch_dtype';
  return new TextEncoder().encode(`${JSON.stringify({ ...config, [key]: dtype }, null, 2)}\n`);
}
