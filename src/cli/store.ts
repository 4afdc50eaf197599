/** Adapters that are published to a server: what is opened for them, and what is told of them. */
import type { Logger } from 'pino';
import type { Tokenizer } from '../backbone/tokenizer.js';
import type { Config } from '../config.js';
import type { Admission } from '../http/admission.js';
import { keepPinned } from '../http/residency.js';
import type { Lifecycle } from '../http/services.js';
import { Shadows } from '../http/shadows.js';
import type { Metrics } from '../metrics.js';
import type { EngineClient } from '../serving/protocol.js';
import { Publisher } from '../store/publisher.js';
import { AdapterStore } from '../store/store.js';

interface Parts {
  readonly config: Config;
  readonly engine: EngineClient;
  readonly tokenizer: Tokenizer;
  readonly admission: Admission;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** null where the configuration names none. Throws AppError `invalid_config`. */
export async function openStore({ store }: Config): Promise<AdapterStore | null> {
  return store === null ? null : AdapterStore.open(store);
}

/** What routes need of it. From here on the engine keeps what is pinned. */
export function startLifecycle(store: AdapterStore, { config, engine, tokenizer, admission, metrics, log }: Parts): Lifecycle {
  keepPinned(store, engine);
  const publisher = new Publisher({
    store,
    maxBytes: config.maxAdapterBytes,
    check: (ref) => engine.check(ref),
    onOutcome: (outcome) => metrics.adapterUploaded(outcome),
  });
  const shadows = new Shadows({
    store,
    engine,
    tokenizer,
    log,
    isBusy: () => admission.queueLength > 0,
    timeoutMs: config.requestTimeoutMs,
    onOutcome: (outcome) => metrics.shadowed(outcome),
  });
  return { store, publisher, shadows };
}
