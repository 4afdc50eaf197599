/**
 * Traces of requests in OpenTelemetry's language, for those who name a collector; for all others nothing of it is loaded and nothing is made.
 * Spans are made when a request is over, out of times that are measured anyway: nothing follows a request around, and a token costs nothing.
 * What a span says is listed here: names, counts and times, never a prompt, a picture, a caption or a key. The only file that knows OpenTelemetry.
 */
import type { Attributes, Context, HrTime, Span, SpanContext, Tracer } from '@opentelemetry/api';
import { AppError } from './errors.js';

/** Something that the front end did for a request; times are performance.now()'s. */
export interface Stage {
  readonly name: 'adapter fetch' | 'image read' | 'image decode';
  readonly startMs: number;
  readonly endMs: number;
}

/** What the engine did for one adapter (or the bare backbone) of a request. */
export interface Part {
  readonly adapter: { readonly name: string; readonly digest: string } | null;
  /** From its hand-over to its last token. */
  readonly startMs: number;
  readonly endMs: number;
  /** Of `adapterMs`, what its source was waited for, before the hand-over. */
  readonly fetchMs: number;
  readonly timings: {
    readonly queueMs: number;
    readonly adapterMs: number;
    readonly visionMs: number;
    readonly prefillMs: number;
    readonly decodeMs: number;
  };
  readonly imageTokens: number;
  readonly promptTokens: number;
  readonly completionTokens: number;
}

/** A request that is over. */
export interface RequestTrace {
  readonly id: string;
  readonly method: string;
  readonly route: string;
  readonly status: number;
  /** `ok` or an error's code. */
  readonly outcome: string;
  readonly tenant: string | undefined;
  readonly startMs: number;
  readonly endMs: number;
  /** Headers of W3C's Trace Context, where the request brought them. */
  readonly traceparent: string | undefined;
  readonly tracestate: string | undefined;
  readonly stages: readonly Stage[];
  readonly parts: readonly Part[];
}

type Environment = Readonly<Record<string, string | undefined>>;

const EXPORT_TIMEOUT_MS = 5_000;
/** After the last request: for what has not been sent. */
const CLOSE_TIMEOUT_MS = 2_000;
/** Between two lines that say that nobody takes the traces. */
const COMPLAIN_EVERY_MS = 60_000;
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-|$)/;

/** Where traces go: the setting, or what OpenTelemetry's own variables say. Null where nobody asks for any. */
function collectorOf(setting: string | null, env: Environment): string | null {
  if (env['OTEL_SDK_DISABLED'] === 'true') return null;
  const base = setting ?? env['OTEL_EXPORTER_OTLP_ENDPOINT'];
  const own = setting === null ? env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] : undefined;
  if (own) return own;
  return base ? `${base.replace(/\/+$/, '')}/v1/traces` : null;
}

/** Null where no collector is named. `complain` is told, now and then, why traces are lost. Throws `invalid_config`. */
export async function openTracing(
  setting: string | null,
  env: Environment,
  complain: (reason: string) => void,
): Promise<Tracing | null> {
  const url = collectorOf(setting, env);
  if (url === null) return null;
  if (!/^https?:\/\//.test(url) || !URL.canParse(url))
    throw new AppError(
      'invalid_config',
      `traces: Expected the URL of an OTLP/HTTP collector but received ${JSON.stringify(url)}`,
    );
  return Tracing.open(url, complain);
}

type Api = typeof import('@opentelemetry/api');
type Conventions = typeof import('@opentelemetry/semantic-conventions');

export class Tracing {
  readonly #api: Api;
  readonly #names: Conventions;
  readonly #tracer: Tracer;
  readonly #shutdown: () => Promise<void>;

  private constructor(api: Api, names: Conventions, tracer: Tracer, shutdown: () => Promise<void>) {
    this.#api = api;
    this.#names = names;
    this.#tracer = tracer;
    this.#shutdown = shutdown;
  }

  static async open(url: string, complain: (reason: string) => void): Promise<Tracing> {
    const [api, names, { NodeTracerProvider, BatchSpanProcessor }, { OTLPTraceExporter }, resources] = await Promise.all([
      import('@opentelemetry/api'),
      import('@opentelemetry/semantic-conventions'),
      import('@opentelemetry/sdk-trace-node'),
      import('@opentelemetry/exporter-trace-otlp-http'),
      import('@opentelemetry/resources'),
    ]);
    const exporter = new OTLPTraceExporter({ url, timeoutMillis: EXPORT_TIMEOUT_MS });
    let complainedMs = Number.NEGATIVE_INFINITY;
    const note = ({ message }: Error): void => {
      if (performance.now() - complainedMs < COMPLAIN_EVERY_MS) return;
      complainedMs = performance.now();
      complain(`traces are lost: Expected ${url} to take them but ${message}`);
    };
    const provider = new NodeTracerProvider({
      // The environment's OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME win.
      resource: resources
        .resourceFromAttributes({ [names.ATTR_SERVICE_NAME]: 'graft' })
        .merge(resources.detectResources({ detectors: [resources.envDetector] })),
      spanProcessors: [
        new BatchSpanProcessor({
          export: (spans, done) =>
            exporter.export(spans, (result) => {
              if (result.error) note(result.error);
              done(result);
            }),
          shutdown: () => exporter.shutdown(),
        }),
      ],
    });
    return new Tracing(api, names, provider.getTracer('graft'), () => provider.shutdown());
  }

  /** Makes the spans of a request; returns the trace's id, for the log. */
  record(request: RequestTrace): string {
    const { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } = this.#api;
    const at = clockNow();
    const span = this.#tracer.startSpan(
      `${request.method} ${request.route}`,
      { kind: SpanKind.SERVER, startTime: at(request.startMs), attributes: this.#describe(request) },
      this.#parentOf(request),
    );
    if (request.status >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
    const inside = trace.setSpan(ROOT_CONTEXT, span);
    for (const { name, startMs, endMs } of request.stages) this.#child(name, inside, at, startMs, endMs);
    for (const part of request.parts) this.#generation(part, inside, at);
    span.end(at(request.endMs));
    return span.spanContext().traceId;
  }

  /** Sends what has not been sent, within a time. */
  async close(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
    });
    await Promise.race([this.#shutdown().catch(() => undefined), late]);
    clearTimeout(timer);
  }

  /** The span that the request came from, where it says so. */
  #parentOf({ traceparent, tracestate }: RequestTrace): Context {
    const { ROOT_CONTEXT, createTraceState, trace } = this.#api;
    const [, traceId, spanId, flags] = TRACEPARENT.exec(traceparent ?? '') ?? [];
    if (traceId === undefined || spanId === undefined || flags === undefined) return ROOT_CONTEXT;
    const parent: SpanContext = {
      traceId,
      spanId,
      traceFlags: Number.parseInt(flags, 16) & 1,
      isRemote: true,
      ...(tracestate === undefined ? {} : { traceState: createTraceState(tracestate) }),
    };
    return trace.setSpanContext(ROOT_CONTEXT, parent);
  }

  #describe({ id, method, route, status, outcome, tenant, parts }: RequestTrace): Attributes {
    const names = this.#names;
    return {
      [names.ATTR_HTTP_REQUEST_METHOD]: method,
      [names.ATTR_HTTP_ROUTE]: route,
      [names.ATTR_HTTP_RESPONSE_STATUS_CODE]: status,
      ...(status >= 400 ? { [names.ATTR_ERROR_TYPE]: outcome } : {}),
      'graft.request.id': id,
      'graft.outcome': outcome,
      ...(tenant ? { 'graft.tenant': tenant } : {}),
      ...(parts.length > 0
        ? {
            'graft.adapter.digests': parts.flatMap(({ adapter }) => adapter?.digest ?? []),
            'graft.tokens.image': total(parts, 'imageTokens'),
            'graft.tokens.prompt': total(parts, 'promptTokens'),
            'graft.tokens.completion': total(parts, 'completionTokens'),
          }
        : {}),
    };
  }

  /**
   * The engine tells how long each part took, not when: they are laid out from the end. An adapter and the image's encoding are waited for side by
   * side; what there was no waiting for has no span.
   */
  #generation(part: Part, outside: Context, at: Clock): void {
    const { adapter, startMs, endMs, fetchMs, timings } = part;
    const span = this.#child('generate', outside, at, startMs, endMs, {
      ...(adapter ? { 'graft.adapter.name': adapter.name, 'graft.adapter.digest': adapter.digest } : {}),
      'graft.tokens.image': part.imageTokens,
      'graft.tokens.prompt': part.promptTokens,
      'graft.tokens.completion': part.completionTokens,
    });
    const inside = this.#api.trace.setSpan(this.#api.ROOT_CONTEXT, span);
    const firstMs = Math.max(startMs, endMs - timings.decodeMs);
    const joinedMs = Math.max(startMs, firstMs - timings.prefillMs);
    const readyMs = Math.max(startMs, joinedMs - timings.queueMs);
    const waited = (name: string, ms: number): void => {
      if (ms > 0) this.#child(name, inside, at, Math.max(startMs, readyMs - ms), readyMs);
    };
    waited('adapter load', timings.adapterMs - fetchMs);
    waited('vision', timings.visionMs);
    this.#child('queue', inside, at, readyMs, joinedMs);
    this.#child('prefill', inside, at, joinedMs, firstMs);
    this.#child('decode', inside, at, firstMs, endMs);
  }

  #child(name: string, parent: Context, at: Clock, startMs: number, endMs: number, attributes: Attributes = {}): Span {
    const span = this.#tracer.startSpan(name, { startTime: at(startMs), attributes }, parent);
    span.end(at(endMs));
    return span;
  }
}

type Clock = (ms: number) => HrTime;

/** performance.now() to seconds since 1970 and nanoseconds; set anew each time, since the two clocks drift apart. */
function clockNow(): Clock {
  const offsetMs = Date.now() - performance.now();
  return (ms) => {
    const sinceEpochMs = ms + offsetMs;
    return [Math.floor(sinceEpochMs / 1000), Math.floor((sinceEpochMs % 1000) * 1e6)];
  };
}

function total(parts: readonly Part[], count: 'imageTokens' | 'promptTokens' | 'completionTokens'): number {
  return parts.reduce((sum, part) => sum + part[count], 0);
}
