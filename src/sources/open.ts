/** The library of a server, from its settings and the environment. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { AppError } from '../errors.js';
import { readHubSettings } from '../hub/settings.js';
import { readS3Settings } from './account.js';
import { hubSource } from './hub.js';
import { SourceLibrary } from './library.js';
import { Allowance, PLACE_FORMS, type Place, parsePlace, type SourceKind } from './place.js';
import { s3Source } from './s3.js';
import { Shelf, type ShelfObserver } from './shelf.js';
import type { Source } from './source.js';
import { type Failure, Gate } from './supply.js';

export interface SourceSettings {
  /** Places by the names of their adapters. */
  readonly adapterSource: ReadonlyMap<string, string> | null;
  readonly allowSources: readonly string[] | null;
  readonly diskCache: string | null;
  readonly diskCacheBytes: number;
  readonly sourceMaxBytes: number;
  readonly sourceRefreshMs: number;
  readonly sourceTimeoutMs: number;
  readonly queueLimit: number;
}

export interface SourceObserver extends ShelfObserver {
  failed(kind: SourceKind, failure: Failure): void;
  asked(hit: boolean): void;
  /** For the log. */
  note(source: string, error: AppError): void;
}

type Environment = Readonly<Record<string, string | undefined>>;

const CONCURRENT_LOOKS = 16;
/** A clear refusal is not asked for again before. */
const REFUSAL_MS = 10_000;
/** While a request waits. The whole look has a time of its own. */
const PATIENCE = { maxRetries: 4, firstWaitMs: 250, maxWaitMs: 10_000 };

/** null where the settings name no source. Throws `invalid_config` for what is wrong in them or in the environment. */
export async function openSources(
  settings: SourceSettings,
  env: Environment,
  observer: SourceObserver,
): Promise<SourceLibrary | null> {
  const { adapterSource, allowSources, diskCache, diskCacheBytes, sourceMaxBytes, queueLimit } = settings;
  if (adapterSource === null && allowSources === null) return null;
  const named = readPlaces(adapterSource ?? new Map());
  const allowed = new Allowance(allowSources ?? []);
  const hub = await readHubSettings(env);
  const s3 = readS3Settings(env);
  const maxBytes = Math.min(sourceMaxBytes, diskCacheBytes);
  const open = (place: Place): Source =>
    place.kind === 's3' ? s3Source(place, s3, { maxBytes }) : hubSource(place, hub, maxBytes);
  const shelf = await Shelf.open(diskCache ?? cacheFolder(env), diskCacheBytes, observer);
  return new SourceLibrary({
    named,
    allowed,
    shelf,
    open,
    // Half of the queue is for those who have all they need.
    maxWaiting: Math.max(1, Math.floor(queueLimit / 2)),
    onAsked: (hit) => observer.asked(hit),
    supply: {
      refreshMs: settings.sourceRefreshMs,
      timeoutMs: settings.sourceTimeoutMs,
      refusalMs: REFUSAL_MS,
      gate: new Gate(CONCURRENT_LOOKS),
      patience: PATIENCE,
      onFailure: ({ text }, kind, failure, error) => {
        observer.failed(kind, failure);
        observer.note(text, error);
      },
    },
  });
}

function readPlaces(texts: ReadonlyMap<string, string>): Map<string, Place> {
  const places = new Map<string, Place>();
  const faults: string[] = [];
  for (const [name, text] of texts) {
    const place = parsePlace(text);
    if (place) places.set(name, place);
    else faults.push(`${name}: Expected ${PLACE_FORMS} but received ${JSON.stringify(text)}`);
  }
  if (faults.length > 0) throw AppError.ofFaults('invalid_config', 'adapterSource', faults);
  return places;
}

/** Where the system keeps what can be had again. */
function cacheFolder(env: Environment): string {
  const home = homedir();
  const system =
    process.platform === 'win32'
      ? env['LOCALAPPDATA'] || join(home, 'AppData', 'Local')
      : process.platform === 'darwin'
        ? join(home, 'Library', 'Caches')
        : env['XDG_CACHE_HOME'] || join(home, '.cache');
  return join(system, 'graft');
}
