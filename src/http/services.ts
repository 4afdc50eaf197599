/** What the routes work with; put together once, where the server is started. */
import type { Logger } from 'pino';
import type { ChatTemplate } from '../backbone/template.js';
import type { Tokenizer } from '../backbone/tokenizer.js';
import type { Config } from '../config.js';
import type { Finetuning } from '../finetuning/finetuning.js';
import type { ImageClient } from '../images/client.js';
import type { RemoteImages } from '../images/remote.js';
import type { Metrics } from '../metrics.js';
import type { EngineClient } from '../serving/protocol.js';
import type { SourceLibrary } from '../sources/library.js';
import type { Publisher } from '../store/publisher.js';
import type { AdapterStore } from '../store/store.js';
import type { Tenants } from '../tenants/tenants.js';
import type { Tracing } from '../tracing.js';
import type { Admission } from './admission.js';
import type { Catalogue } from './catalogue.js';
import type { Quotas } from './quotas.js';
import type { Shadows } from './shadows.js';

/** What there is for adapters that are published to a server. */
export interface Lifecycle {
  readonly store: AdapterStore;
  readonly publisher: Publisher;
  readonly shadows: Shadows;
}

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
  readonly catalogue: Catalogue;
  /** Adapters that come from elsewhere; null where there are none. */
  readonly sources: Pick<SourceLibrary, 'bytes' | 'maxBytes'> | null;
  /** null where nobody can fine-tune here. */
  readonly finetuning: Finetuning | null;
  /** null on a server without a store. */
  readonly lifecycle: Lifecycle | null;
  readonly tenants: Tenants;
  readonly quotas: Quotas;
  readonly tokenizer: Tokenizer;
  /** How the backbone writes conversations; null where its checkpoint does not say. */
  readonly template: ChatTemplate | null;
  readonly metrics: Metrics;
  /** null where nobody takes traces. */
  readonly tracing: Pick<Tracing, 'record'> | null;
  readonly admission: Admission;
  readonly log: Logger;
}
