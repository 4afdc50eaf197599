/** What is told of a request that is over, to the log and to the collector of traces: counts and times, never what was asked or answered. */
import type { Request } from 'express';
import type { Part, RequestTrace } from '../tracing.js';
import type { Exchange } from './exchange.js';

/** Fields of a log line about a request that generated: of several adapters the longest times, since they ran side by side, and all tokens. */
export function workOf(parts: readonly Part[]): object {
  if (parts.length === 0) return {};
  const longest = (ms: (timings: Part['timings']) => number): number =>
    Math.round(Math.max(...parts.map(({ timings }) => ms(timings))) * 10) / 10;
  const all = (count: (part: Part) => number): number => parts.reduce((sum, part) => sum + count(part), 0);
  return {
    queueMs: longest(({ queueMs }) => queueMs),
    adapterMs: longest(({ adapterMs }) => adapterMs),
    visionMs: longest(({ visionMs }) => visionMs),
    prefillMs: longest(({ prefillMs }) => prefillMs),
    decodeMs: longest(({ decodeMs }) => decodeMs),
    imageTokens: all(({ imageTokens }) => imageTokens),
    promptTokens: all(({ promptTokens }) => promptTokens),
    completionTokens: all(({ completionTokens }) => completionTokens),
  };
}

export function traceOf(
  req: Request,
  exchange: Exchange,
  { status, outcome }: Pick<RequestTrace, 'status' | 'outcome'>,
): RequestTrace {
  const { id, route, tenantName, startMs, stages, parts } = exchange;
  return {
    id,
    method: req.method,
    route,
    status,
    outcome,
    tenant: tenantName,
    startMs,
    endMs: performance.now(),
    traceparent: req.get('traceparent'),
    tracestate: req.get('tracestate'),
    stages,
    parts,
  };
}
