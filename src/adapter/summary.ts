/**
 * What can be said of an adapter without a backbone and without its weights: the registry lists it, and finds out early what a
 * half-written folder lacks. Whether it fits a backbone is for format.ts to say.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../errors.js';
import { Faults } from '../tensor/faults.js';
import { headerBytes, parseHeader } from '../tensor/safetensors.js';
import type { Method } from './adapter.js';
import { FileFaults } from './faults.js';
import { MAX_JSON_BYTES, openFile, readFile } from './file.js';
import {
  CONFIG_FILE,
  FORMAT,
  groupFiles,
  MANIFEST_FILE,
  type Manifest,
  NEITHER,
  needsProjector,
  PROJECTOR_FILE,
  parseManifest,
} from './manifest.js';
import { largestRank, type PeftConfig, parsePeftConfig } from './peft.js';

export interface AdapterSummary {
  readonly method: Method;
  readonly contexts: readonly string[];
  readonly task?: string;
  /** What a request that brings no prompt is continued from; often empty. */
  readonly prompt: string;
  /** LoRA: the largest rank of any module. */
  readonly rank?: number;
  /** Whether it is made for images: with a projector, and more than parameters for text. */
  readonly seesImages: boolean;
  /** `peft` for a plain PEFT folder, `unknown` where the manifest cannot be read. */
  readonly format: typeof FORMAT | 'peft' | 'unknown';
}

export interface Inspection {
  readonly summary: AdapterSummary;
  /** Every fault of manifest, configurations and tensor headers, in one sentence. */
  readonly fault: string | undefined;
  /** The same, each by itself. */
  readonly faults: readonly string[];
}

/** Reads the small files, and the headers of the large ones. Never throws for what is wrong with the folder: that is its answer. */
export async function inspectFolder(folder: string): Promise<Inspection> {
  const faults = new Faults();
  const bytes = await attempt(MANIFEST_FILE, faults, () => readFile(join(folder, MANIFEST_FILE), MAX_JSON_BYTES));
  const manifest = bytes === undefined ? null : parseManifest(bytes, new FileFaults(MANIFEST_FILE, faults));
  const configs: PeftConfig[] = [];
  if (manifest === null && (await stat(join(folder, CONFIG_FILE)).catch(() => undefined)) === undefined) {
    return { summary: summarise(undefined, []), fault: NEITHER, faults: [NEITHER] };
  }
  if (manifest !== undefined) {
    for (const { config: path, tensors } of groupFiles(manifest)) {
      const config = await readConfig(folder, path, manifest, faults);
      if (config !== undefined) configs.push(config);
      await checkHeader(folder, tensors, true, faults);
    }
  }
  if (manifest !== null) await checkHeader(folder, PROJECTOR_FILE, manifest !== undefined && needsProjector(manifest), faults);
  const found = faults.count === 0 ? [] : (faults.error('adapter_invalid', '').faults ?? []);
  return { summary: summarise(manifest, configs), fault: found.length === 0 ? undefined : found.join('; '), faults: found };
}

function summarise(manifest: Manifest | null | undefined, configs: readonly PeftConfig[]): AdapterSummary {
  if (manifest === undefined) return { method: 'none', contexts: [], prompt: '', seesImages: false, format: 'unknown' };
  const ranks = configs.filter((config) => config.method === 'lora').map(largestRank);
  const rank = ranks.length > 0 ? { rank: Math.max(...ranks) } : {};
  if (manifest === null) {
    const method = configs[0]?.method ?? 'none';
    return { method, contexts: ['text'], prompt: '', ...rank, seesImages: false, format: 'peft' };
  }
  const { method, contexts, task, prompt } = manifest;
  const seesImages = needsProjector(manifest) && contexts.join() !== 'text';
  return { method, contexts, prompt, ...(task === undefined ? {} : { task }), ...rank, seesImages, format: FORMAT };
}

async function readConfig(folder: string, path: string, manifest: Manifest | null, all: Faults): Promise<PeftConfig | undefined> {
  const before = all.count;
  const faults = new FileFaults(path, all);
  const bytes = await attempt(path, all, () => readFile(join(folder, path), MAX_JSON_BYTES));
  if (bytes !== undefined) return parsePeftConfig(bytes, manifest?.method ?? null, faults);
  if (all.count === before) faults.add('Expected a file but received none');
  return undefined;
}

/** A file that is cut short shows in its header: the tensors must end where the file does. */
async function checkHeader(folder: string, path: string, isRequired: boolean, all: Faults): Promise<void> {
  const before = all.count;
  const file = await attempt(path, all, () => openFile(join(folder, path)));
  if (file === undefined) {
    if (isRequired && all.count === before) new FileFaults(path, all).add('Expected a file but received none');
    return;
  }
  await attempt(path, all, async () => {
    const { handle, bytes } = file;
    try {
      const first = await handle.read(new Uint8Array(8), 0, 8, 0);
      const head = new Uint8Array(headerBytes(first.buffer.subarray(0, first.bytesRead), bytes, path));
      const { bytesRead } = await handle.read(head, 0, head.byteLength, 0);
      if (bytesRead < head.byteLength)
        throw new AppError('adapter_invalid', `Expected ${head.byteLength} bytes but received ${bytesRead}`);
      parseHeader(head, bytes, path);
    } finally {
      await handle.close();
    }
  });
}

/** What `action` refuses becomes a fault of the file. */
async function attempt<T>(path: string, all: Faults, action: () => Promise<T>): Promise<T | undefined> {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const faults = new FileFaults(path, all);
    for (const fault of error.faults ?? [error.message]) faults.add(fault);
    return undefined;
  }
}
