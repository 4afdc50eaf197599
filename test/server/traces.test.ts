/** Traces as a collector gets them: a real OTLP/HTTP receiver, the real exporter, and a server that knows nothing of the test. */
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { formOf, noisePng, post, startTinyServer, type TinyServer, until } from '../support/server.js';

interface Attribute {
  readonly key: string;
  readonly value: { readonly stringValue?: string; readonly intValue?: number | string; readonly arrayValue?: unknown };
}

/** As OTLP's JSON has it. */
interface Span {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly Attribute[];
  readonly status: { readonly code?: number };
}

interface Export {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] };
    readonly scopeSpans: readonly { readonly spans: readonly Span[] }[];
  }[];
}

class Collector {
  readonly #server: Server;
  readonly exports: { readonly path: string; readonly headers: IncomingHttpHeaders; readonly text: string }[] = [];

  constructor() {
    this.#server = createServer((req, res) => {
      const chunks: Buffer[] = [];
      req.on('data', (chunk: Buffer) => chunks.push(chunk));
      req.on('end', () => {
        this.exports.push({ path: req.url ?? '', headers: req.headers, text: Buffer.concat(chunks).toString() });
        res.setHeader('content-type', 'application/json').end('{}');
      });
    });
  }

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  get resources(): Export['resourceSpans'] {
    return this.exports.flatMap(({ text }) => (JSON.parse(text) as Export).resourceSpans);
  }

  get spans(): Span[] {
    return this.resources.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));
  }
}

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const CALLER = '00f067aa0ba902b7';
const SDK = /@opentelemetry\/(sdk|exporter|otlp)/;

const collector = new Collector();
let address: string;
let tiny: TinyServer | undefined;
beforeAll(async () => {
  // Not five seconds for every batch.
  vi.stubEnv('OTEL_BSP_SCHEDULE_DELAY', '20');
  address = await collector.start();
});
afterAll(async () => {
  await tiny?.close();
  collector.close();
  vi.unstubAllEnvs();
});

/** The files of OpenTelemetry's SDK that this process has loaded. */
function loaded(): string[] {
  return Object.keys(createRequire(import.meta.url).cache).filter((file) => SDK.test(file));
}

function attributesOf({ attributes }: Pick<Span, 'attributes'>): Record<string, unknown> {
  return Object.fromEntries(
    attributes.map(({ key, value }) => [
      key,
      value.stringValue ?? (value.intValue === undefined ? value.arrayValue : Number(value.intValue)),
    ]),
  );
}

test('without a collector nothing of it is loaded', async () => {
  const plain = await startTinyServer(['first']);
  await post(`${plain.url}/v1/captions`, formOf({ image: await noisePng(), adapter: 'first', max_tokens: '2' }));
  await plain.close();
  expect(loaded()).toEqual([]);
});

test('a request is a span in its caller’s trace, with what the front end and the engine did below it', async () => {
  tiny = await startTinyServer(['first', 'second'], { traces: address });
  expect(loaded()).not.toEqual([]);
  const reply = await fetch(`${tiny.url}/v1/captions`, {
    method: 'POST',
    body: formOf({ image: await noisePng(), adapters: 'first,second', max_tokens: '6', prompt: 'secretprompt' }),
    headers: { traceparent: `00-${TRACE}-${CALLER}-01`, authorization: 'Bearer graft_secretkey', 'x-request-id': 'traced' },
  });
  const { data } = (await reply.json()) as { data: { adapter: { digest: string }; captions: { text: string }[] }[] };
  await until(() => collector.spans.some(({ traceId }) => traceId === TRACE));

  const spans = collector.spans.filter(({ traceId }) => traceId === TRACE);
  const named = (name: string) => spans.filter((span) => span.name === name);
  const [root] = named('POST /v1/captions');
  expect(root).toMatchObject({ parentSpanId: CALLER, kind: 2 });
  expect(attributesOf(root as Span)).toMatchObject({
    'http.request.method': 'POST',
    'http.route': '/v1/captions',
    'http.response.status_code': 200,
    'graft.request.id': 'traced',
    'graft.outcome': 'ok',
    'graft.tokens.image': 8,
    'graft.adapter.digests': { values: data.map(({ adapter }) => ({ stringValue: adapter.digest })) },
  });

  expect(named('image decode')).toMatchObject([{ parentSpanId: root?.spanId }]);
  const generations = named('generate');
  expect(new Set(generations.map((span) => attributesOf(span)['graft.adapter.name']))).toEqual(new Set(['first', 'second']));
  for (const generation of generations) {
    expect(generation.parentSpanId).toBe(root?.spanId);
    const below = spans.filter(({ parentSpanId }) => parentSpanId === generation.spanId);
    expect(below.map(({ name }) => name)).toEqual(expect.arrayContaining(['adapter load', 'queue', 'prefill', 'decode']));
    for (const { startTimeUnixNano, endTimeUnixNano } of below) {
      expect(BigInt(startTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(generation.startTimeUnixNano));
      expect(BigInt(endTimeUnixNano)).toBeLessThanOrEqual(BigInt(generation.endTimeUnixNano));
    }
    const [prefill, decode] = ['prefill', 'decode'].map((name) => below.find((span) => span.name === name));
    expect(decode?.startTimeUnixNano).toBe(prefill?.endTimeUnixNano);
  }
  expect(spans.filter(({ name }) => name === 'vision')).not.toEqual([]);

  const text = collector.exports.map((sent) => sent.text).join('\n');
  const captions = data
    .flatMap(({ captions }) => captions.map((caption) => caption.text))
    .filter((caption) => caption.length > 5);
  expect(captions).not.toEqual([]);
  for (const secret of ['secret', 'authorization', ...captions]) expect(text).not.toContain(secret);
});

test('a request without a caller is a trace of its own; a failure says its code', async () => {
  const before = collector.spans.length;
  await post(`${tiny?.url}/v1/captions`, formOf({ image: await noisePng(), adapter: 'nowhere' }));
  await fetch(`${tiny?.url}/health/ready`);
  await until(() => collector.spans.length > before);
  const [span, ...rest] = collector.spans.slice(before);
  expect(rest).toEqual([]);
  expect(span?.parentSpanId).toBeUndefined();
  expect(span?.traceId).not.toBe(TRACE);
  expect(attributesOf(span as Span)).toMatchObject({
    'http.response.status_code': 404,
    'error.type': 'adapter_not_found',
    'graft.outcome': 'adapter_not_found',
  });
});

test('goes to /v1/traces as the service graft; what is left when the server stops is sent then', async () => {
  const before = collector.spans.length;
  await post(`${tiny?.url}/v1/completions`, { model: 'tiny', prompt: 'a', max_tokens: 2 });
  await tiny?.close();
  tiny = undefined;
  expect(collector.spans.length).toBeGreaterThan(before);
  expect(new Set(collector.exports.map(({ path }) => path))).toEqual(new Set(['/v1/traces']));
  for (const { resource } of collector.resources) expect(attributesOf(resource)).toMatchObject({ 'service.name': 'graft' });
});

test('a collector that is away costs requests nothing, and what is no URL is refused at the start', async () => {
  const alone = await startTinyServer(['first'], { traces: 'http://127.0.0.1:9' });
  const reply = await post(`${alone.url}/v1/completions`, { model: 'tiny', prompt: 'a', max_tokens: 2 });
  expect(reply.status).toBe(200);
  await alone.close();
  await expect(startTinyServer([], { traces: 'collector:4318' })).rejects.toThrow(
    'traces: Expected the URL of an OTLP/HTTP collector but received "collector:4318/v1/traces"',
  );
});
