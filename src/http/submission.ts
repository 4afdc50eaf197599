/** From a checked request to the engine: what every generating route does before its reply differs from the others. */
import { AppError } from '../errors.js';
import type { EngineInfo, Timings } from '../serving/protocol.js';
import { type Exchange, partyOf } from './exchange.js';
import { Generation, type Scope, type Target } from './generation.js';
import { pictureBytes } from './picture.js';
import type { Ask } from './schema.js';
import type { Services } from './services.js';

export interface Subject {
  /** base64, a data URI, a URL, or a file; null for text alone. */
  readonly image: string | Uint8Array | null;
  readonly targets: readonly Target[];
}

/** Throws `engine_unavailable` before the engine's first start is over. */
export function readyInfo({ engine }: Services): EngineInfo {
  if (!engine.info) throw new AppError('engine_unavailable', 'The engine is still loading its backbone: please retry');
  return engine.info;
}

/** Hands a request to the engine, its image decoded. Throws AppError. */
export async function submit(
  services: Services,
  ask: Ask,
  scope: Scope,
  exchange: Exchange,
  { image, targets }: Subject,
): Promise<Generation> {
  const { images, engine, backbone } = services;
  try {
    if (image === null) return Generation.submit(services, ask, scope, null, targets);
    if (!images)
      throw new AppError('invalid_request', `image: Expected a text request: backbone ${backbone} has no vision encoder`, {
        param: 'image',
      });
    const party = partyOf(scope.tenant);
    // Adapters load while the image is decoded.
    engine.prefetch(
      party,
      targets.flatMap(({ adapter }) => adapter?.ref ?? []),
    );
    const pixels = await images.decode(await pictureBytes(services, image, scope.signal), scope.signal, party);
    return Generation.submit(services, ask, scope, pixels, targets);
  } catch (error) {
    throw scope.explain(error);
  } finally {
    exchange.arrived();
  }
}

/** Milliseconds, to the hundredth. */
export function timingsBody({ queueMs, adapterMs, visionMs, prefillMs, decodeMs }: Timings): object {
  const round = (ms: number): number => Math.round(ms * 100) / 100;
  return {
    queue_ms: round(queueMs),
    adapter_ms: round(adapterMs),
    vision_ms: round(visionMs),
    prefill_ms: round(prefillMs),
    decode_ms: round(decodeMs),
  };
}
