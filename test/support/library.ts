/** A library over a hub or a bucket under test, which writes down what it is told, and does not wait between tries. */
import { setMaxListeners } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { AppError } from '../../src/errors.js';
import type { HubSettings } from '../../src/hub/settings.js';
import type { S3Settings } from '../../src/sources/account.js';
import { hubSource } from '../../src/sources/hub.js';
import { SourceLibrary } from '../../src/sources/library.js';
import { Allowance, type Place, parsePlace } from '../../src/sources/place.js';
import { s3Source } from '../../src/sources/s3.js';
import { Shelf } from '../../src/sources/shelf.js';
import { type Failure, Gate } from '../../src/sources/supply.js';
import type { MockFile } from './hub.js';
import { filesOf } from './s3.js';

export const ENGLISH = fileURLToPath(new URL('../../adapters/english', import.meta.url));
export const FRENCH = fileURLToPath(new URL('../../adapters/french', import.meta.url));

export interface TestLibraryOptions {
  readonly folder: string;
  readonly hub?: Partial<HubSettings>;
  readonly s3?: Partial<S3Settings>;
  readonly named?: Readonly<Record<string, string>>;
  readonly allowed?: readonly string[];
  readonly maxDiskBytes?: number;
  readonly maxBytes?: number;
  readonly pageSize?: number;
  readonly refreshMs?: number;
  readonly refusalMs?: number;
  readonly timeoutMs?: number;
  readonly maxWaiting?: number;
  readonly maxWaitMs?: number;
}

export interface TestLibrary {
  readonly sources: SourceLibrary;
  readonly shelf: Shelf;
  readonly failures: { readonly failure: Failure; readonly error: AppError }[];
  /** Versions that were fetched. */
  readonly fetched: { readonly kind: string; readonly bytes: number }[];
  readonly waits: number[];
  readonly evictions: () => number;
}

export async function openLibrary(options: TestLibraryOptions): Promise<TestLibrary> {
  const failures: TestLibrary['failures'] = [];
  const fetched: TestLibrary['fetched'] = [];
  const waits: number[] = [];
  let evictions = 0;
  const shelf = await Shelf.open(options.folder, options.maxDiskBytes ?? 1e9, {
    fetched: (kind, _seconds, bytes) => fetched.push({ kind, bytes }),
    evicted: () => evictions++,
  });
  const hub = { endpoint: 'http://127.0.0.1:9', token: null, cache: '/nowhere', isOffline: false, ...options.hub };
  const s3 = { endpoint: 'http://127.0.0.1:9', region: 'us-east-1', keys: null, ...options.s3 };
  const { maxBytes = 1e8, pageSize } = options;
  const sources = new SourceLibrary({
    named: new Map(Object.entries(options.named ?? {}).map(([name, text]) => [name, placeOf(text)])),
    allowed: new Allowance(options.allowed ?? []),
    shelf,
    open: (place: Place) =>
      place.kind === 's3'
        ? s3Source(place, s3, { maxBytes, ...(pageSize !== undefined && { pageSize }) })
        : hubSource(place, hub, maxBytes),
    maxWaiting: options.maxWaiting ?? 100,
    supply: {
      refreshMs: options.refreshMs ?? 3_600_000,
      timeoutMs: options.timeoutMs ?? 60_000,
      refusalMs: options.refusalMs ?? 3_600_000,
      gate: new Gate(16),
      patience: {
        maxRetries: 3,
        maxWaitMs: options.maxWaitMs ?? 10_000,
        onWait: (_reason, waitMs) => waits.push(waitMs),
        sleep: () => Promise.resolve(),
      },
      onFailure: (_place, _kind, failure, error) => failures.push({ failure, error }),
    },
  });
  return { sources, shelf, failures, fetched, waits, evictions: () => evictions };
}

export function placeOf(text: string): Place {
  const place = parsePlace(text);
  if (!place) throw new Error(`Expected a place but received ${text}`);
  return place;
}

/** An adapter's files as the hub has them: tensors as large files. */
export async function hubFiles(folder: string, below = ''): Promise<Record<string, MockFile>> {
  const files = [...(await filesOf(folder))];
  return Object.fromEntries(
    files.map(([name, content]) => [below + name, { content, ...(name.endsWith('.safetensors') && { lfs: true as const }) }]),
  );
}

/** Never aborted. */
export const NEVER = new AbortController().signal;
setMaxListeners(0, NEVER);
