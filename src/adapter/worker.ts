/**
 * The loader's thread: reads, hashes and checks one adapter after another, and hands its arrays over without copying them.
 */
import { parentPort, type Transferable, workerData } from 'node:worker_threads';
import type { AdapterTarget } from '../backbone/module.js';
import { AppError } from '../errors.js';
import type { AdapterRef, FolderRef, LoadedAdapter } from './adapter.js';
import { arraysOf, readAdapter } from './format.js';
import type { LoadCommand, LoadEvent } from './loader.js';
import { mixAdapters, type WeightedAdapter } from './mix.js';

const target = workerData as AdapterTarget;

parentPort?.on('message', (command: LoadCommand) => void load(command));

async function load({ id, ref }: LoadCommand): Promise<void> {
  try {
    const adapter = await read(ref);
    send(
      { id, adapter },
      arraysOf(adapter).map(({ buffer }) => buffer as ArrayBuffer),
    );
  } catch (error) {
    send({ id, error: AppError.from(error).toData() });
  }
}

async function read(ref: AdapterRef): Promise<LoadedAdapter> {
  if (ref.blend === undefined) return readNamed(ref);
  const parts: WeightedAdapter[] = [];
  for (const { ref: part, weight } of ref.blend) parts.push({ adapter: await readNamed(part), weight });
  return mixAdapters(ref, parts);
}

async function readNamed({ name, folder, digest }: FolderRef): Promise<LoadedAdapter> {
  return { ...(await readAdapter(folder, target, digest)), name };
}

function send(event: LoadEvent, transfer: readonly Transferable[] = []): void {
  parentPort?.postMessage(event, transfer);
}
