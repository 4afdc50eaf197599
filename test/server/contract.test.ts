/**
 * The server and its description, held to each other. What is described is valid and complete; every route is asked, and answers as described and
 * with nothing besides; every error that a route lists is provoked, and none comes that it does not list. What is asked is in
 * test/support/contract/calls.ts.
 */
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createApp, routes } from '../../src/http/app.js';
import { describeApi, type OpenApi } from '../../src/http/openapi.js';
import { OPEN } from '../../src/tenants/tenants.js';
import { type Ask, CALLS, provocations, UNPROVOKED } from '../support/contract/calls.js';
import { Contract, type Described, templateOf } from '../support/contract/contract.js';
import { partsOf, Stage } from '../support/contract/stage.js';
import { LONG_STREAMS } from '../support/contract/text.js';
import { events, until } from '../support/server.js';

const API = describeApi(routes(partsOf({})), OPEN);
const contract = new Contract(API);
const keys = contract.operations.map(({ key }) => key);

let stage: Stage;
beforeAll(async () => {
  execFileSync(process.execPath, ['scripts/playground.mjs']);
  stage = await Stage.open();
});
afterAll(() => stage.close());

function send({ method }: Described, { url, body, headers }: Ask): Promise<Response> {
  if (body === undefined || body instanceof FormData || body instanceof Uint8Array)
    return fetch(url, { method, ...(body && { body: body as FormData }), ...(headers && { headers }) });
  const json = { 'content-type': 'application/json', ...headers };
  return fetch(url, { method, body: JSON.stringify(body), headers: json });
}

/** Whether the description says that a body is in order; undefined where it is no JSON. */
function isTaken(described: Described, { body }: Ask): boolean | undefined {
  return body === undefined || body instanceof FormData || body instanceof Uint8Array
    ? undefined
    : contract.takes(described, body);
}

describe('the description', () => {
  test('is OpenAPI 3.1, as its makers define that', async () => {
    // ajv follows no dynamic reference into a part that it has not been in; there is one place that these can lead to.
    const text = await readFile('test/fixtures/openapi/schema.json', 'utf8');
    const schema = JSON.parse(text.replaceAll('"$dynamicRef":"#meta"', '"$ref":"#/$defs/schema"')) as object;
    const ajv = new Ajv2020({ strict: false, allErrors: true, formats: { 'media-range': true } });
    addFormats.default(ajv);
    const validate = ajv.compile(schema);
    validate(API);
    expect(validate.errors).toBe(null);
    expect(validate({ ...API, paths: { '/x': { get: { responses: 3 } } } })).toBe(false);
  });

  test('has schemas that all compile, and no reference to what is not there', () => {
    for (const name of Object.keys(API.components['schemas'] ?? {})) contract.schema('components', 'schemas', name);
    for (const { path, method, operation } of contract.operations) {
      const place = ['paths', path, method.toLowerCase()];
      for (const type of Object.keys(operation.requestBody?.content ?? {}))
        contract.schema(...place, 'requestBody', 'content', type, 'schema');
      for (const [status, { content = {} }] of Object.entries(operation.responses))
        for (const type of Object.keys(content)) contract.schema(...place, 'responses', status, 'content', type, 'schema');
    }
    const references = [...JSON.stringify(API).matchAll(/"\$ref":"#\/(.*?)"/g)].map(([, reference]) => reference ?? '');
    expect(references.length).toBeGreaterThan(50);
    for (const reference of new Set(references)) {
      const found = reference.split('/').reduce<unknown>((value, part) => (value as Record<string, unknown>)[part], API);
      expect(found, reference).toBeTypeOf('object');
    }
  });

  test('names every operation once, and every part of its path', () => {
    const ids = contract.operations.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { key, path, operation } of contract.operations) {
      const parameters = (operation.parameters ?? []) as { in: string; name: string; description: string }[];
      const inPath = parameters.filter((parameter) => parameter.in === 'path');
      expect(
        inPath.map(({ name }) => `{${name}}`),
        key,
      ).toEqual(path.match(/\{\w+\}/g) ?? []);
      for (const { name, description } of parameters) expect(description, `${key}: ${name}`).toMatch(/\w/);
    }
  });

  test('has every route that express has, and no other', () => {
    const { stack } = createApp(partsOf({})).router as unknown as {
      stack: { route?: { path: string; methods: Record<string, boolean> } }[];
    };
    const layers = stack.flatMap(({ route }) =>
      route ? [{ path: templateOf(route.path), methods: Object.keys(route.methods) }] : [],
    );
    // What takes all methods refuses those that its path does not have.
    const guards = layers.filter(({ methods }) => methods.length > 4);
    expect(guards.map(({ path }) => path)).toEqual(Object.keys(API.paths));
    const served = layers.filter((layer) => !guards.includes(layer));
    const mounted = served.flatMap(({ path, methods }) => methods.map((method) => `${method.toUpperCase()} ${path}`));
    expect(mounted.sort()).toEqual([...keys].sort());
  });

  test('is what a server answers, with its own limits, and keys where it asks for some', async () => {
    const [served, locked] = (await Promise.all(
      (['main', 'locked'] as const).map(async (name) => (await fetch(stage.at(name, '/openapi.json'))).json()),
    )) as [OpenApi, OpenApi];
    expect(Object.keys(served.paths)).toEqual(Object.keys(API.paths));
    expect(served.components).toEqual(JSON.parse(JSON.stringify(API.components)));
    const { content } = served.paths['/v1/completions']?.['post']?.requestBody ?? {};
    expect(content?.['application/json']?.schema['properties']).toMatchObject({
      max_tokens: {
        anyOf: [{ type: 'integer', minimum: 1, maximum: 120 }, { type: 'null' }],
        description: 'an integer from 1 to 120',
      },
    });
    const keyed = [{ bearer: [] }, { 'x-api-key': [] }];
    expect(served.paths['/metrics']?.['get']?.security).toEqual([{}, ...keyed]);
    expect(locked.paths['/metrics']?.['get']?.security).toEqual(keyed);
    expect(locked.paths['/health/live']?.['get']?.security).toEqual([]);
  });

  test('leaves no route without calls, and no error without a way to provoke it', () => {
    expect(keys.filter((key) => !Object.hasOwn(CALLS, key))).toEqual([]);
    expect(Object.keys(CALLS).filter((key) => !keys.includes(key))).toEqual([]);
    const unknown = contract.operations.flatMap((described) =>
      provocations(described).flatMap(([code, call]) => (call ? [] : [`${described.key}: ${code}`])),
    );
    expect(unknown).toEqual([]);
    const unlisted = contract.operations.flatMap(({ key, codes }) =>
      Object.keys(CALLS[key]?.refusals ?? {}).filter((code) => !(codes as readonly string[]).includes(code)),
    );
    expect(unlisted).toEqual([]);
    for (const { code, where } of UNPROVOKED)
      expect(
        contract.operations.some(({ key, codes }) => codes.includes(code) && (where?.test(key) ?? true)),
        code,
      ).toBe(true);
  });
});

describe.each(keys)('%s', (key) => {
  const described = contract.of(key);
  const { operation, path, method } = described;

  test('answers as described, and with all that is described', async () => {
    const seen = new Set<string>();
    for (const call of CALLS[key]?.replies ?? []) {
      const ask = await call(stage);
      const { status, type, code, faults } = await contract.judge(described, await send(described, ask));
      expect({ code, faults }).toEqual({ code: undefined, faults: [] });
      expect(isTaken(described, ask)).not.toBe(false);
      seen.add(`${status} ${type}`);
    }
    const listed = Object.entries(operation.responses).flatMap(([status, { content = { '': {} } }]) =>
      // Examples are those of errors.
      Object.entries(content).flatMap(([type, media]) => ('examples' in media ? [] : [`${status} ${type}`])),
    );
    expect([...seen].sort()).toEqual(listed.sort());
  });

  test.each(provocations(described))('can fail with %s', async (code, call) => {
    const ask = await call?.(stage);
    if (!ask) throw new Error('Expected a way to provoke it');
    expect(await contract.judge(described, await send(described, ask))).toMatchObject({ code, faults: [] });
    // What a schema can say, it says.
    if (code === 'unknown_field' || code === 'invalid_request') expect(isTaken(described, ask)).not.toBe(true);
  });

  test('has no other method', async () => {
    const response = await fetch(stage.at('locked', path.replace(/\{\w+\}/g, 'x')), { method: 'PATCH' });
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')?.split(', ')).toContain(method);
    expect(await response.json()).toMatchObject({ error: { code: 'method_not_allowed' } });
  });
});

const examples = contract.operations.flatMap(({ key, operation }) => {
  const { example } = operation.requestBody?.content['application/json'] ?? {};
  return example ? [[key, example] as const] : [];
});

test.each(examples)('%s answers its own example', async (key, body) => {
  const described = contract.of(key);
  const ask = { url: stage.at('main', described.path), body };
  expect(await contract.judge(described, await send(described, ask))).toMatchObject({ status: 200, faults: [] });
  expect(isTaken(described, ask)).toBe(true);
});

test.each(Object.keys(LONG_STREAMS))('a stream of %s that fails in its middle ends with an event as described', async (key) => {
  await until(async () => (await fetch(stage.at('main', '/health/ready'))).ok);
  const described = contract.of(key);
  const validate = contract.schema('paths', described.path, 'post', 'responses', '200', 'content', 'text/event-stream', 'schema');
  const ask = await LONG_STREAMS[key]?.(stage);
  if (!ask) throw new Error('Expected a stream');
  const received: unknown[] = [];
  for await (const event of events(await send(described, ask))) {
    if (received.length === 0) process.kill(stage.engine, 'SIGKILL');
    received.push(event);
    expect(validate(event), JSON.stringify(event)).toBe(true);
  }
  expect(received.at(-1)).toMatchObject({ object: 'error', error: { code: 'engine_unavailable' } });
});
