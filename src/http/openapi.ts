/**
 * The description of the API, made from the table of routes and from the schemas that check requests and replies: what is served and what is
 * described cannot differ. It is OpenAPI 3.1, whose schemas are plain JSON Schema, and test/server/contract.test.ts holds the server to all of it.
 */
import { readFileSync } from 'node:fs';
import { STATUS_CODES } from 'node:http';
import type { RequestHandler } from 'express';
import { ERRORS, type ErrorCode } from '../errors.js';
import { assetRoute } from './asset.js';
import type { Access } from './auth.js';
import { ERROR } from './replies.js';
import type { About, AboutBody, Route, Tag } from './route.js';
import { COMPONENTS, type Shape, Shapes } from './shapes.js';

export interface OpenApi {
  readonly openapi: string;
  readonly info: Readonly<Record<string, unknown>>;
  readonly servers: readonly object[];
  readonly tags: readonly object[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: Readonly<Record<string, Readonly<Record<string, Shape>>>>;
}

export interface Operation {
  readonly operationId: string;
  readonly tags: readonly string[];
  readonly summary: string;
  readonly description?: string;
  readonly parameters?: readonly object[];
  readonly requestBody?: { readonly required: true; readonly content: Content };
  readonly responses: Readonly<Record<string, ResponseShape>>;
  readonly security: readonly object[];
}

interface ResponseShape {
  readonly description: string;
  readonly headers: Shape;
  readonly content?: Content;
}

type Content = Readonly<Record<string, { readonly schema: Shape; readonly example?: object; readonly examples?: Shape }>>;

const VERSION = (JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { readonly version: string })
  .version;

const ABOUT = `Captions for images, and text, from one frozen backbone and any number of adapters, each of which is chosen by its name in the request and loaded when it
is asked for.

- **Keys** come in \`authorization: Bearer KEY\` or in \`x-api-key\`. What a key may not see does not exist for it: the reply is that for a name or a path that never was.
- **Errors** have OpenAI's body; \`error.code\` is one of those that the route lists, and \`error.message\` says what was expected and what came.
  A method that a path does not have is a 405 (\`method_not_allowed\`), a path that is none a 404 (\`not_found\`).
- **Every reply** has an \`x-request-id\`: that of the request, where it has one of letters, digits, dots, dashes and underscores.
- **Limits** of a tenant, where it has some, are in every reply: \`x-ratelimit-limit-requests\`, \`x-ratelimit-remaining-requests\` and \`x-ratelimit-reset-requests\`, and
  the same of \`-tokens\`.
- **Streams** (\`"stream": true\`) are server-sent events, \`data: JSON\` each, with \`data: [DONE]\` at the end. What fails before the first event is an ordinary
  error; what fails later is an event with an \`error\`.
- **Fields** that a route does not know are refused by their names.

This description is at [/openapi.json](/openapi.json), to generate clients from, and at [/docs](/docs), to read.`;

const TAGS: Readonly<Record<Tag, string>> = {
  captions: 'Images to captions, by one adapter or several.',
  openai: "OpenAI's dialect, for its clients as they are.",
  adapters: 'The adapters that there are.',
  'fine-tuning': "Training of adapters, in OpenAI's dialect.",
  operations: 'For those who run the server.',
  page: 'What browsers load.',
};

const HEADERS = {
  'x-request-id': { description: 'The id of the request, in the log as well.', schema: { type: 'string' } },
  'retry-after': { description: 'Seconds after which a retry makes sense.', schema: { type: 'integer', minimum: 0 } },
};

const SCHEMES = {
  bearer: { type: 'http', scheme: 'bearer' },
  'x-api-key': { type: 'apiKey', in: 'header', name: 'x-api-key' },
};

export interface OpenApiOptions {
  /** Nobody needs a key here. */
  readonly isOpen: boolean;
}

/** The description of a table of routes. */
export function describeApi(routes: readonly Route[], options: OpenApiOptions): OpenApi {
  const shapes = new Shapes();
  shapes.of(ERROR, 'output');
  const paths: Record<string, Record<string, Operation>> = {};
  for (const route of routes) {
    const { path, names } = templateOf(route.path);
    paths[path] = { ...paths[path], [route.method]: describe(route, path, names, shapes, options) };
  }
  const used = new Set(routes.map(({ about }) => about.tag));
  return {
    openapi: '3.1.1',
    info: {
      title: 'Graft',
      version: VERSION,
      summary: 'An inference server with hot-swappable, context-aware adapters.',
      description: ABOUT,
      license: { name: 'Apache License 2.0', identifier: 'Apache-2.0' },
    },
    // Wherever this description was read.
    servers: [{ url: '/' }],
    tags: (Object.keys(TAGS) as Tag[]).filter((name) => used.has(name)).map((name) => ({ name, description: TAGS[name] })),
    paths,
    components: { schemas: shapes.named, headers: HEADERS, securitySchemes: SCHEMES },
  };
}

/** Answers with the description of a table that it may itself be in, made when it is first asked for. */
export function openApiRoute(routes: () => readonly Route[], options: OpenApiOptions): RequestHandler {
  let answer: RequestHandler | undefined;
  return (req, res, next) => {
    answer ??= assetRoute(Buffer.from(JSON.stringify(describeApi(routes(), options))), { type: 'application/json' });
    return answer(req, res, next);
  };
}

function describe(
  { method, path: template, access, about }: Route,
  path: string,
  names: readonly string[],
  shapes: Shapes,
  { isOpen }: OpenApiOptions,
): Operation {
  const { tag, summary, description, query = {}, body } = about;
  const parameters = [...names.map((name) => pathParameter(template, name, about)), ...shapes.query(query)];
  const keys = Object.keys(SCHEMES).map((scheme) => ({ [scheme]: [] }));
  return {
    operationId: operationIdOf(method, path),
    tags: [tag],
    summary,
    ...(description !== undefined && { description }),
    ...(parameters.length > 0 && { parameters }),
    ...(body && { requestBody: { required: true as const, content: contentOf([body].flat(), shapes) } }),
    responses: { ...repliesOf(about, shapes), ...failuresOf(codesOf(about, access)) },
    // An empty one: without any.
    security: access === 'open' ? [] : isOpen ? [{}, ...keys] : keys,
  };
}

/** What generated clients call it: `getModelsName`. */
function operationIdOf(method: string, path: string): string {
  const words = path.replace(/^\/v1(?=\/)/, '').split(/[^A-Za-z0-9]+/);
  return method + (words.map((word) => word.slice(0, 1).toUpperCase() + word.slice(1)).join('') || 'Page');
}

/** `/v1/models/*name` of express, `/v1/models/{name}` here. A backslash of express's takes a character as it is. */
function templateOf(path: string): { readonly path: string; readonly names: readonly string[] } {
  const names: string[] = [];
  const template = path.replace(/\\(.)|[*:](\w+)/g, (_, plain: string | undefined, name: string) => {
    if (plain !== undefined) return plain;
    names.push(name);
    return `{${name}}`;
  });
  return { path: template, names };
}

function pathParameter(template: string, name: string, { parameters = {} }: About): object {
  const slashes = template.includes(`*${name}`) ? ' It may have slashes.' : '';
  return {
    name,
    in: 'path',
    required: true,
    description: `${parameters[name] ?? ''}${slashes}`.trim(),
    schema: { type: 'string' },
  };
}

function contentOf(bodies: readonly AboutBody[], shapes: Shapes): Content {
  const parts = bodies.flatMap((body): [string, Content[string]][] => {
    if ('schema' in body) return [[body.type, { schema: shapes.of(body.schema, 'input') }]];
    const { fields, form, required, example } = body;
    const json = { schema: shapes.fields(fields, false, required), ...(example && { example }) };
    return [
      ['application/json', json],
      ...(form ? [['multipart/form-data', { schema: shapes.fields(fields, true, required) }] as [string, Content[string]]] : []),
    ];
  });
  return Object.fromEntries(parts);
}

function repliesOf({ reply, events }: About, shapes: Shapes): Record<string, ResponseShape> {
  const replies: Record<string, ResponseShape> = {};
  for (const { status = 200, type = 'application/json', schema } of [reply].flat()) {
    const before = replies[status]?.content;
    const content = { ...before, ...(schema && { [type]: { schema: shapes.of(schema, 'output') } }) };
    replies[status] = responseOf(STATUS_CODES[status] ?? '', content);
  }
  if (events === undefined) return replies;
  const stream = { 'text/event-stream': { schema: shapes.of(events, 'output') } };
  const { description, content } = replies[200] ?? responseOf('OK', {});
  return {
    ...replies,
    200: responseOf(`${description}; with \`stream\`, events of this schema and \`data: [DONE]\` at the end`, {
      ...content,
      ...stream,
    }),
  };
}

/** Those that every route has, by who may come. */
const COMMON: Readonly<Record<Access, readonly ErrorCode[]>> = {
  open: ['internal'],
  tenant: ['invalid_api_key', 'rate_limit_exceeded', 'quota_unavailable', 'internal'],
  admin: ['invalid_api_key', 'not_found', 'internal'],
};

function codesOf({ errors }: About, access: Access): ErrorCode[] {
  return [...new Set([...errors, ...COMMON[access]])];
}

function failuresOf(codes: readonly ErrorCode[]): Record<string, ResponseShape> {
  const statuses = [...new Set(codes.map((code) => ERRORS[code].status))];
  return Object.fromEntries(
    statuses.map((status) => {
      const own = codes.filter((code) => ERRORS[code].status === status);
      const description = own.map((code) => `- \`${code}\`: ${ERRORS[code].meaning}`).join('\n');
      const isRetryable = own.some((code) => ERRORS[code].retryable);
      const examples = Object.fromEntries(own.map((code) => [code, { value: exampleOf(code) }]));
      return [status, responseOf(description, { 'application/json': { schema: errorOf(own), examples } }, isRetryable)];
    }),
  );
}

/** OpenAI's error body with one of these codes. */
function errorOf(codes: readonly ErrorCode[]): Shape {
  const object = (properties: object): Shape => ({ type: 'object', properties });
  return { allOf: [{ $ref: `${COMPONENTS}Error` }, object({ error: object({ code: { type: 'string', enum: codes } }) })] };
}

function exampleOf(code: ErrorCode): object {
  const { type, meaning } = ERRORS[code];
  return { error: { message: meaning, type, code, param: null } };
}

function responseOf(description: string, content: Content, isRetryable = false): ResponseShape {
  const names = ['x-request-id', ...(isRetryable ? ['retry-after'] : [])];
  const headers = Object.fromEntries(names.map((name) => [name, { $ref: `#/components/headers/${name}` }]));
  return { description, headers, ...(Object.keys(content).length > 0 && { content }) };
}
