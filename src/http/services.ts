/** What the routes work with; put together once, where the server is started. */
import type { Logger } from 'pino';
import type { AdapterRegistry, RegisteredAdapter } from '../adapter/registry.js';
import type { Tokenizer } from '../backbone/tokenizer.js';
import type { Config } from '../config.js';
import { AppError } from '../errors.js';
import type { ImageClient } from '../images/client.js';
import type { RemoteImages } from '../images/remote.js';
import type { Metrics } from '../metrics.js';
import type { EngineClient } from '../serving/protocol.js';
import type { NamedSource, SourceLibrary } from '../sources/library.js';
import type { Admission } from './admission.js';

/** The part of the registry that requests need; a server without an adapters folder has an empty one. */
export type AdapterDirectory = Pick<AdapterRegistry, 'list' | 'get' | 'rescan'>;

export interface Services {
  readonly config: Config;
  /** The backbone's name. */
  readonly backbone: string;
  readonly engine: EngineClient;
  /** null where the backbone takes text only. */
  readonly images: ImageClient | null;
  /** null where no host is listed: URLs are refused. */
  readonly remoteImages: RemoteImages | null;
  /** Whether images can be decoded now, or never need to be. */
  readonly imagesReady: () => boolean;
  readonly adapters: AdapterDirectory;
  /** Adapters that come from elsewhere; null where there are none. */
  readonly sources: SourceLibrary | null;
  readonly tokenizer: Tokenizer;
  readonly metrics: Metrics;
  readonly admission: Admission;
  readonly log: Logger;
}

/** What an adapter is chosen for: it stays for as long as that lasts. */
export interface Keeper {
  readonly signal: AbortSignal;
  keep(release: () => void): void;
}

export interface SelectedAdapter {
  readonly adapter: RegisteredAdapter;
  /** How long its source was waited for. */
  readonly fetchMs: number;
}

/**
 * The adapter of a name, fetched first where it comes from elsewhere. What an operator has named so wins over a folder of that name. Throws
 * `adapter_not_found`, the same for what there is not and for what may not be asked for; `adapter_invalid` with the reason where its files are
 * not in order; what the library throws.
 */
export async function selectAdapter(
  { adapters, sources }: Pick<Services, 'adapters' | 'sources'>,
  name: string,
  keeper: Keeper,
): Promise<SelectedAdapter> {
  if (sources?.knows(name)) {
    const { adapter, fetchMs, release } = await sources.acquire(name, keeper.signal).catch((error: unknown) => {
      throw error instanceof AppError && error.code === 'adapter_not_found' ? unknownAdapter(name) : error;
    });
    keeper.keep(release);
    return { adapter, fetchMs };
  }
  const adapter = adapters.get(name);
  if (!adapter) throw unknownAdapter(name);
  if (adapter.fault !== undefined)
    throw new AppError('adapter_invalid', `Adapter ${name} cannot be served: ${adapter.fault}`, { param: 'adapter' });
  return { adapter, fetchMs: 0 };
}

function unknownAdapter(name: string): AppError {
  return new AppError('adapter_not_found', `Expected the name of an adapter (GET /v1/adapters lists them) but received ${name}`, {
    param: 'adapter',
  });
}

/** What a request for an image is told that names no adapter, or the backbone alone. */
export function adapterRequired(services: Pick<Services, 'adapters' | 'sources'>, param: string, received: string): AppError {
  const known = listAdapters(services)
    .slice(0, 10)
    .map(({ name }) => name);
  const such = known.join(', ') || 'one in the adapters folder';
  return new AppError(
    'adapter_required',
    `${param}: Expected the name of an adapter (such as ${such}) but received ${received}: a bare backbone cannot see`,
    { param },
  );
}

/** Every adapter that can be asked for by name, sorted: those of the folder, which are there, and those that come from elsewhere. */
export function listAdapters({ adapters, sources }: Pick<Services, 'adapters' | 'sources'>): (RegisteredAdapter | NamedSource)[] {
  const named = sources?.list() ?? [];
  const names = new Set(named.map(({ name }) => name));
  const own = adapters.list().filter(({ name }) => !names.has(name));
  return [...own, ...named].sort((a, b) => (a.name < b.name ? -1 : 1));
}
