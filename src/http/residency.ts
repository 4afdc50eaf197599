/** Adapters in memory before, or although, nobody asks for them: preloaded once, or pinned for good. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { AdapterRef } from '../adapter/adapter.js';
import type { EngineClient } from '../serving/protocol.js';
import { serving } from '../store/entry.js';
import type { AdapterStore } from '../store/store.js';
import { type Exchange, partyOf } from './exchange.js';
import { Scope } from './scope.js';
import type { Services } from './services.js';

/** Longest time that an answer waits for the engine. */
const PRELOAD_MS = 10_000;
const POLL_MS = 50;

/** Starts to load what the reference means, and all that a split of it may mean. Resolves to whether it is there, after a while if need be. */
export async function preload(services: Services, exchange: Exchange, reference: string): Promise<boolean> {
  const { engine, catalogue, lifecycle, config } = services;
  const scope = new Scope(exchange, config.requestTimeoutMs);
  try {
    const entry = lifecycle?.store.get(reference);
    const references = entry ? serving(entry).map((version) => `${reference}@${version}`) : [reference];
    const selected = await Promise.all(references.map((one) => catalogue.select(one, scope)));
    const refs = selected.map(({ adapter }) => adapter.ref);
    engine.prefetch(partyOf(scope.tenant), refs);
    const startedMs = performance.now();
    while (!scope.signal.aborted) {
      const { resident } = await engine.report(PRELOAD_MS);
      const digests = new Set(resident.map(({ digest }) => digest));
      if (refs.every(({ digest }) => digests.has(digest))) return true;
      if (performance.now() - startedMs > PRELOAD_MS) return false;
      await sleep(POLL_MS);
    }
    return false;
  } finally {
    scope.end();
  }
}

/** Tells the engine what the store wants to stay in memory, now and after every change. */
export function keepPinned(store: AdapterStore, engine: Pick<EngineClient, 'pin'>): void {
  let pinned = new Map<string, AdapterRef>();
  const tell = (): void => {
    const sound = store.pinned().filter(({ fault }) => fault === undefined);
    const wanted = new Map(sound.map(({ ref }) => [ref.digest, ref]));
    for (const [digest, ref] of pinned) if (!wanted.has(digest)) engine.pin(ref, false);
    for (const [digest, ref] of wanted) if (!pinned.has(digest)) engine.pin(ref, true);
    pinned = wanted;
  };
  tell();
  store.onChange(tell);
}
