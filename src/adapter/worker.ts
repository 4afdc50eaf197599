/**
 * The loader's thread: reads, hashes and checks one adapter after another, and hands its arrays over without copying them.
 */
import { parentPort, type Transferable, workerData } from 'node:worker_threads';
import type { AdapterTarget } from '../backbone/module.js';
import { AppError } from '../errors.js';
import { arraysOf, readAdapter } from './format.js';
import type { LoadCommand, LoadEvent } from './loader.js';

const target = workerData as AdapterTarget;

parentPort?.on('message', (command: LoadCommand) => void load(command));

async function load({ id, ref }: LoadCommand): Promise<void> {
  try {
    const adapter = await readAdapter(ref.folder, target, ref.digest);
    send(
      { id, adapter: { ...adapter, name: ref.name } },
      arraysOf(adapter).map(({ buffer }) => buffer as ArrayBuffer),
    );
  } catch (error) {
    send({ id, error: AppError.from(error).toData() });
  }
}

function send(event: LoadEvent, transfer: readonly Transferable[] = []): void {
  parentPort?.postMessage(event, transfer);
}
