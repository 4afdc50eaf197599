/** From a checked request to the engine: what every generating route does before its reply differs from the others. */
import { createHash } from 'node:crypto';
import { AppError } from '../errors.js';
import type { Pixels } from '../images/protocol.js';
import type { EngineInfo, Timings } from '../serving/protocol.js';
import type { Tenant } from '../tenants/tenant.js';
import { type Exchange, partyOf } from './exchange.js';
import { Generation, promptIdsOf, type Target } from './generation.js';
import { pictureBytes } from './picture.js';
import type { Ask } from './schema.js';
import type { Scope } from './scope.js';
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
  const { images, engine, backbone, quotas } = services;
  try {
    const charge = await quotas.reserve(exchange, ask, () => mostTokens(services, ask, { image, targets }));
    scope.keep(() => charge.settle());
    if (image === null) return Generation.submit(services, ask, scope, charge, null, targets);
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
    const readMs = performance.now();
    const bytes = await pictureBytes(services, image, scope.signal);
    quotas.weigh(exchange.tenant, bytes.length);
    const decodeMs = performance.now();
    exchange.spent('image read', decodeMs - readMs);
    const pixels = await images.decode(bytes, scope.signal, party);
    exchange.spent('image decode', performance.now() - decodeMs);
    return Generation.submit(services, ask, scope, charge, ownPixels(pixels, scope.tenant), targets);
  } catch (error) {
    throw scope.explain(error);
  } finally {
    exchange.arrived();
  }
}

/**
 * The engine keeps the features of pixels under their digest. A tenant's pixels get one of the tenant's own, or the time of a request would tell
 * that somebody else has sent the same image.
 */
function ownPixels(pixels: Pixels, { name }: Tenant): Pixels {
  if (name === '') return pixels;
  const hash = createHash('sha256');
  for (const part of [name, pixels.digest]) {
    const bytes = Buffer.from(part);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    hash.update(length).update(bytes);
  }
  return { ...pixels, digest: hash.digest('hex') };
}

/** What a request can take at most: every adapter has its own prompt, image and answers. */
function mostTokens(services: Services, { sampling }: Ask, { image, targets }: Subject): number {
  const { contextLength, imageTokens } = readyInfo(services);
  const answers = Math.max(sampling.n, sampling.numBeams);
  return targets.reduce((total, target) => {
    const given = promptIdsOf(services, target).length + (image === null ? 0 : imageTokens);
    return total + given + answers * Math.min(sampling.maxTokens, contextLength - given);
  }, 0);
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
