/** The description of the API as tests hold a server to it: its operations, and its schemas compiled by ajv, which knows nothing of where they come from. */
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { ERRORS, type ErrorCode } from '../../../src/errors.js';
import type { OpenApi, Operation } from '../../../src/http/openapi.js';

export interface Described {
  /** `GET /v1/models/{name}`. */
  readonly key: string;
  readonly method: string;
  readonly path: string;
  readonly operation: Operation;
  /** Codes of errors that it lists. */
  readonly codes: readonly ErrorCode[];
}

/** A reply, as far as it was judged. */
export interface Judged {
  readonly status: number;
  readonly type: string;
  /** Of an error. */
  readonly code: string | undefined;
  /** What the description does not say. */
  readonly faults: readonly string[];
}

export class Contract {
  readonly operations: readonly Described[];
  readonly #ajv = new Ajv2020({
    strict: true,
    allowUnionTypes: true,
    allErrors: true,
    formats: { binary: true },
  });

  constructor(api: OpenApi) {
    this.#ajv.addVocabulary([...Object.keys(api), 'summary', 'operationId']);
    this.#ajv.addSchema(api, 'api');
    this.operations = Object.entries(api.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({
        key: `${method.toUpperCase()} ${path}`,
        method: method.toUpperCase(),
        path,
        operation,
        codes: Object.values(operation.responses).flatMap(codesOf),
      })),
    );
  }

  of(key: string): Described {
    const found = this.operations.find((described) => described.key === key);
    if (!found) throw new Error(`Expected a described route but received ${key}`);
    return found;
  }

  /** The schema at a place of the description. Throws where ajv, which is strict here, cannot compile it. */
  schema(...place: readonly string[]): ValidateFunction {
    const pointer = place.map((part) => `/${encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1'))}`).join('');
    const validate = this.#ajv.getSchema(`api#${pointer}`);
    if (!validate) throw new Error(`Expected a schema at ${pointer}`);
    return validate;
  }

  /** Whether a JSON body is one that the route says it takes. */
  takes({ path, method }: Described, body: object): boolean {
    return this.schema(
      'paths',
      path,
      method.toLowerCase(),
      'requestBody',
      'content',
      'application/json',
      'schema',
    )(JSON.parse(JSON.stringify(body)));
  }

  async judge({ key, path, method, operation, codes }: Described, response: Response): Promise<Judged> {
    const { status, headers } = response;
    const type = (headers.get('content-type') ?? '').split(';')[0] ?? '';
    const text = await response.text();
    const faults: string[] = [];
    if (!headers.get('x-request-id')) faults.push('no x-request-id');
    const listed = operation.responses[status];
    const judged = { status, type, code: undefined, faults };
    if (!listed) return { ...judged, faults: [`${key} lists no ${status}: ${text.slice(0, 300)}`] };
    if (listed.content === undefined) {
      if (text !== '') faults.push(`${key} lists nothing in a ${status} but answered ${text.slice(0, 300)}`);
      return { ...judged, type: '' };
    }
    if (!listed.content[type]) return { ...judged, faults: [`${key} lists no ${type} in a ${status}`] };
    const validate = this.schema('paths', path, method.toLowerCase(), 'responses', String(status), 'content', type, 'schema');
    for (const value of valuesOf(type, text, faults))
      if (!validate(value)) faults.push(`${JSON.stringify(value).slice(0, 500)}: ${this.#ajv.errorsText(validate.errors)}`);
    const code = type === 'application/json' ? codeOf(text) : undefined;
    if (code === undefined) return judged;
    if (!(codes as readonly string[]).includes(code)) faults.push(`${key} lists no ${code}`);
    if (ERRORS[code as ErrorCode].retryable && !/^\d+$/.test(headers.get('retry-after') ?? '')) faults.push('no retry-after');
    return { ...judged, code };
  }
}

/** What a reply holds that a schema is about. */
function valuesOf(type: string, text: string, faults: string[]): unknown[] {
  if (type === 'application/json') return [JSON.parse(text)];
  if (type !== 'text/event-stream') return [text];
  const blocks = text.split('\n\n');
  if (blocks.splice(-2).join('\n\n') !== 'data: [DONE]\n\n') faults.push('no [DONE] at the end');
  return blocks.map((block) => JSON.parse(block.slice('data: '.length)) as unknown);
}

function codeOf(text: string): string | undefined {
  const { error } = JSON.parse(text) as { error?: { code?: string } };
  return error?.code;
}

function codesOf({ content }: Operation['responses'][string]): ErrorCode[] {
  const { allOf } = (content?.['application/json']?.schema ?? {}) as {
    allOf?: readonly [
      unknown,
      { readonly properties: { readonly error: { readonly properties: { readonly code: { readonly enum: ErrorCode[] } } } } },
    ];
  };
  return allOf?.[1].properties.error.properties.code.enum ?? [];
}

/** A path of express as descriptions have it. */
export function templateOf(path: string): string {
  return path.replace(/\\(.)|[*:](\w+)/g, (_, plain: string | undefined, name: string) => plain ?? `{${name}}`);
}
