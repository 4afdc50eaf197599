import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { openTracing, type RequestTrace } from '../../src/tracing.js';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN = '00f067aa0ba902b7';

/** What was sent. */
const received: { readonly headers: IncomingHttpHeaders; readonly text: string }[] = [];
/** Takes nothing: with this status nobody tries again. */
const refusing = createServer((req, res) => {
  let text = '';
  req.on('data', (chunk: Buffer) => (text += chunk.toString()));
  req.on('end', () => {
    received.push({ headers: req.headers, text });
    res.writeHead(400).end();
  });
});
let address: string;
beforeAll(async () => {
  await new Promise<void>((resolve) => refusing.listen(0, '127.0.0.1', resolve));
  address = `http://127.0.0.1:${(refusing.address() as AddressInfo).port}`;
});
afterAll(() => {
  refusing.close();
  refusing.closeAllConnections();
});

const REQUEST: RequestTrace = {
  id: 'a',
  method: 'POST',
  route: '/v1/captions',
  status: 200,
  outcome: 'ok',
  tenant: undefined,
  startMs: 1,
  endMs: 2,
  traceparent: undefined,
  tracestate: undefined,
  stages: [],
  parts: [],
};

describe('openTracing', () => {
  test.each([
    ['nothing is said', null, {}],
    ['a variable is empty', null, { OTEL_EXPORTER_OTLP_ENDPOINT: '' }],
    ['it is switched off', 'http://127.0.0.1:9', { OTEL_SDK_DISABLED: 'true' }],
  ])('is none where %s', async (_when, setting, env) => {
    expect(await openTracing(setting, env, () => undefined)).toBeNull();
  });

  test('sends to the place that the setting says, else to what OpenTelemetry’s variables say; tells once that nobody takes it', async () => {
    const complaintOf = async (setting: string | null, env: Record<string, string>): Promise<string> => {
      const complaints: string[] = [];
      const tracing = await openTracing(setting, env, (reason) => complaints.push(reason));
      tracing?.record(REQUEST);
      tracing?.record(REQUEST);
      await tracing?.close();
      expect(complaints).toHaveLength(1);
      return complaints.join();
    };
    const own = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${address}/own` };
    expect(await complaintOf(address, own)).toBe(`traces are lost: Expected ${address}/v1/traces to take them but Bad Request`);
    expect(await complaintOf(null, { OTEL_EXPORTER_OTLP_ENDPOINT: `${address}/base/` })).toContain(`${address}/base/v1/traces`);
    expect(await complaintOf(null, { OTEL_EXPORTER_OTLP_ENDPOINT: 'x', ...own })).toContain(`Expected ${address}/own to`);
  });
});

describe('OpenTelemetry’s own variables', () => {
  afterEach(() => vi.unstubAllEnvs());

  async function sent(env: Readonly<Record<string, string>>, request: Partial<RequestTrace> = {}): Promise<typeof received> {
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
    const before = received.length;
    const tracing = await openTracing(address, env, () => undefined);
    tracing?.record({ ...REQUEST, ...request });
    await tracing?.close();
    return received.slice(before);
  }

  test('name the service and its attributes, and add headers', async () => {
    const [message] = await sent({
      OTEL_SERVICE_NAME: 'captions',
      OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
      OTEL_EXPORTER_OTLP_HEADERS: 'x-tenant=observed',
    });
    expect(message?.headers['x-tenant']).toBe('observed');
    expect(message?.text).toContain('{"key":"service.name","value":{"stringValue":"captions"}}');
    expect(message?.text).toContain('{"key":"deployment.environment.name","value":{"stringValue":"test"}}');
  });

  test('choose what is kept; a caller that is not traced is not either', async () => {
    expect(await sent({})).toHaveLength(1);
    expect(await sent({ OTEL_TRACES_SAMPLER: 'always_off' })).toEqual([]);
    expect(await sent({}, { traceparent: `00-${TRACE}-${SPAN}-00` })).toEqual([]);
  });
});

test('goes on in a well-formed caller’s trace, and begins its own for anything else', async () => {
  const tracing = await openTracing(address, {}, () => undefined);
  const traceOf = (traceparent: string | undefined) => tracing?.record({ ...REQUEST, traceparent });
  expect(traceOf(`00-${TRACE}-${SPAN}-01`)).toBe(TRACE);
  expect(traceOf(`00-${TRACE}-${SPAN}-00`)).toBe(TRACE);
  expect(traceOf(`cc-${TRACE}-${SPAN}-01-what-the-future-brings`)).toBe(TRACE);
  const malformed = [
    undefined,
    '',
    `ff-${TRACE}-${SPAN}-01`,
    `00-${'0'.repeat(32)}-${SPAN}-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `00-${TRACE.toUpperCase()}-${SPAN}-01`,
    `00-${TRACE}-${SPAN}`,
    `00-${TRACE}-${SPAN}-01x`,
    `${TRACE}-${SPAN}`,
  ];
  const ids = malformed.map(traceOf);
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{32}$/);
  expect(new Set([...ids, TRACE]).size).toBe(malformed.length + 1);
  await tracing?.close();
});
