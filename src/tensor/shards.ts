/**
 * The weights of a checkpoint on disk: one file, or where that would be too large, shards and an index that says what is in which. Names, order
 * and index are those of transformers (huggingface_hub's split_state_dict_into_shards_factory), so that a tool which knows those knows these.
 */
import { join } from 'node:path';
import { DTYPE_BYTES } from './dtype.js';
import { writeSynced } from './folder.js';
import { streamSafetensors } from './safetensors.js';
import { elements, type Tensor } from './tensor.js';

/** transformers' default for many years, and what hubs and file systems cope with. */
const MAX_SHARD_BYTES = 5e9;

/** A tensor whose bytes are yet to come. */
type Planned = Omit<Tensor, 'data'>;

/**
 * Writes the weights into a folder, each made when it is its turn: only one is in memory. Returns the names of the files. A tensor that is larger
 * than a shard may be gets one of its own. Throws RangeError as `encodeSafetensors` does.
 */
export async function writeShards(
  folder: string,
  tensors: ReadonlyMap<string, Planned>,
  make: (name: string) => Promise<Uint8Array>,
  maxShardBytes: number = MAX_SHARD_BYTES,
): Promise<readonly string[]> {
  const shards = split(tensors, maxShardBytes);
  const files = shards.map((_, index) => (shards.length === 1 ? 'model.safetensors' : shardName(index, shards.length)));
  for (const [index, shard] of shards.entries())
    await streamSafetensors(join(folder, files[index] as string), shard, make, [['format', 'pt']]);
  if (shards.length > 1) {
    const weights = shards.flatMap((shard, index) => shard.map(([name]) => [name, files[index]] as const));
    const index = {
      metadata: { total_parameters: sum(tensors, ({ shape }) => elements(shape)), total_size: sum(tensors, bytesOf) },
      weight_map: Object.fromEntries(weights.sort(([a], [b]) => (a < b ? -1 : 1))),
    };
    await writeSynced(
      join(folder, 'model.safetensors.index.json'),
      new TextEncoder().encode(`${JSON.stringify(index, null, 2)}\n`),
    );
  }
  return files;
}

/** One after the other, as long as there is room; what has none in any shard goes past the one that is being filled. */
function split(tensors: ReadonlyMap<string, Planned>, maxShardBytes: number): (readonly [string, Planned])[][] {
  const shards: (readonly [string, Planned])[][] = [];
  let filling: (readonly [string, Planned])[] = [];
  let filled = 0;
  for (const entry of tensors) {
    const bytes = bytesOf(entry[1]);
    if (bytes > maxShardBytes) {
      shards.push([entry]);
      continue;
    }
    if (filled + bytes > maxShardBytes) {
      shards.push(filling);
      filling = [];
      filled = 0;
    }
    filling.push(entry);
    filled += bytes;
  }
  // An empty checkpoint is a file as well.
  return filling.length > 0 || shards.length === 0 ? [...shards, filling] : shards;
}

function shardName(index: number, count: number): string {
  const digits = (value: number): string => String(value).padStart(5, '0');
  return `model-${digits(index + 1)}-of-${digits(count)}.safetensors`;
}

function bytesOf({ dtype, shape }: Planned): number {
  return elements(shape) * DTYPE_BYTES[dtype];
}

function sum(tensors: ReadonlyMap<string, Planned>, of: (tensor: Planned) => number): number {
  return [...tensors.values()].reduce((total, tensor) => total + of(tensor), 0);
}
