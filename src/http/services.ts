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
  readonly tokenizer: Tokenizer;
  readonly metrics: Metrics;
  readonly admission: Admission;
  readonly log: Logger;
}

/** The adapter of a name. Throws `adapter_not_found`, or `adapter_invalid` with the reason where its folder is not in order. */
export function selectAdapter({ adapters }: Pick<Services, 'adapters'>, name: string): RegisteredAdapter {
  const adapter = adapters.get(name);
  if (!adapter)
    throw new AppError(
      'adapter_not_found',
      `Expected the name of an adapter (GET /v1/adapters lists them) but received ${name}`,
      { param: 'adapter' },
    );
  if (adapter.fault !== undefined)
    throw new AppError('adapter_invalid', `Adapter ${name} cannot be served: ${adapter.fault}`, { param: 'adapter' });
  return adapter;
}
