/** What is noted of an adapter's part of a request while it goes on, for all who count, log and trace: names, counts and times. */
import type { RegisteredAdapter } from '../adapter/registry.js';
import type { GenerateResult } from '../serving/protocol.js';
import type { Exchange } from './exchange.js';
import type { Services } from './services.js';

/** As far as a target is noted: null is the bare backbone. */
interface Noted {
  readonly adapter: RegisteredAdapter | null;
  readonly fetchMs: number;
}

type Noting = Pick<Services, 'metrics' | 'backbone'>;

/** It has been handed to the engine. */
export function noteHandedOver({ metrics, backbone }: Noting, { adapter }: Noted): void {
  metrics.traffic(adapter?.name ?? backbone, { requests: 1 });
}

export function noteFirstToken({ metrics, backbone }: Noting, { adapter }: Noted, seconds: number): void {
  metrics.firstToken(seconds);
  metrics.traffic(adapter?.name ?? backbone, { firstTokens: 1, firstTokenSeconds: seconds });
}

/** It is complete; `startMs` is when the engine got it. */
export function noteGenerated(
  { metrics, backbone }: Noting,
  exchange: Exchange,
  { adapter, fetchMs }: Noted,
  startMs: number,
  generated: Omit<GenerateResult, 'choices'>,
): void {
  const { imageTokens, promptTokens, completionTokens, timings, adapterCache } = generated;
  metrics.generated(generated);
  metrics.traffic(adapter?.name ?? backbone, { generatedTokens: completionTokens, misses: adapterCache === 'miss' ? 1 : 0 });
  exchange.parts.push({
    adapter: adapter && { name: adapter.name, digest: adapter.ref.digest },
    startMs,
    endMs: performance.now(),
    fetchMs,
    timings,
    imageTokens,
    promptTokens,
    completionTokens,
  });
}
