/**
 * What a file of tenants says. Nothing is guessed: a field that nobody knows, a tenant or a key that is there twice and a value that makes no sense
 * are faults, and all faults of all files are told at once. What may be a secret (a key in the place of its hash) is never repeated in one.
 */
import { type Document, isScalar, parseDocument } from 'yaml';
import { z } from 'zod';
import { AppError } from '../errors.js';
import { parseSize, SIZE } from '../size.js';
import { hashKey, type Key } from './key.js';
import { Tenant } from './tenant.js';

export interface TenantFile {
  /** As faults call it. */
  readonly name: string;
  /** Or why it cannot be read. */
  readonly content: string | Error;
}

export interface TenantEntry {
  readonly tenant: Tenant;
  readonly keys: readonly Key[];
}

interface Field<T = unknown> {
  readonly schema: z.ZodType<T>;
  readonly expected: string;
  readonly isSecret?: true;
}

type Fields = Readonly<Record<string, Field>>;
type Values<Known extends Fields> = { readonly [Name in keyof Known]: z.output<Known[Name]['schema']> };

/** Also the first part of its adapters' names, and of folders. */
export const TENANT_NAME = /^[a-z0-9][a-z0-9-]{0,63}$/;
const TENANT_WORDS = 'a name of a-z, 0-9 and -, of at most 64 characters';
const KEY_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const ADAPTERS = /^[^\s\p{Cc}]{1,512}$/u;
/** What hashing a variable that is not set gives: a key of it would let in who has none. */
const EMPTY_HASH = hashKey('').toString('hex');

const limit = <T>(schema: z.ZodType<T>, expected: string) => ({ schema: schema.nullish(), expected });

const LIMITS = {
  requestsPerSecond: limit(z.number().gt(0).max(1e6), 'a number above 0, at most 1000000'),
  concurrent: limit(z.int().min(1).max(1e6), 'an integer from 1 to 1000000'),
  tokensPerMinute: limit(z.int().min(1).max(1e12), 'an integer of at least 1'),
  imageBytes: limit(z.preprocess(parseSize, z.int().min(1)), SIZE),
  maxTokens: limit(z.int().min(1).max(1_048_576), 'an integer from 1 to 1048576'),
} satisfies Fields;

const KEY = {
  id: { schema: z.string().regex(KEY_ID), expected: 'a name of letters, digits, dots, - and _, of at most 64 characters' },
  sha256: {
    schema: z
      .string()
      .regex(/^[0-9a-f]{64}$/i)
      .toLowerCase()
      .refine((hash) => hash !== EMPTY_HASH),
    expected: "the key's SHA-256, 64 hexadecimal digits (graft keys create writes it),",
    isSecret: true,
  },
  expires: {
    schema: z
      .union([z.iso.datetime({ offset: true }), z.iso.date()])
      .transform((text) => Date.parse(text))
      .nullish(),
    expected: 'a date, or a time with its zone such as 2027-01-01T00:00:00Z,',
  },
} satisfies Fields;

const TENANT = {
  keys: { schema: z.array(z.unknown()).nullish(), expected: 'a list of keys', isSecret: true },
  admin: { schema: z.boolean().nullish(), expected: 'true or false' },
  adapters: {
    schema: z.array(z.string().regex(ADAPTERS)).nullish(),
    expected: 'a list of names of adapters, with * for a part of a name',
  },
  limits: { schema: z.unknown(), expected: 'limits' },
  weight: { schema: z.number().gt(0).max(1000).nullish(), expected: 'a number above 0, at most 1000' },
} satisfies Fields;

/**
 * The tenants of all files together. `others`: what else may stand beside `tenants` in a file, where that is the file of settings too. Throws
 * `invalid_config` with every fault.
 */
export function parseTenants(files: readonly TenantFile[], others: readonly string[] = []): TenantEntry[] {
  const reader = new Reader(others);
  for (const file of files) reader.read(file);
  if (reader.faults.length > 0) throw AppError.ofFaults('invalid_config', 'The tenants are wrong', reader.faults);
  return reader.entries;
}

/** A file as YAML, to be read or changed. Names that are the same text are the same name, whatever YAML takes them for. */
export function parseYaml(text: string): Document {
  return parseDocument(text, {
    uniqueKeys: (a, b) => isScalar(a) && isScalar(b) && String(a.value) === String(b.value),
  });
}

class Reader {
  readonly entries: TenantEntry[] = [];
  readonly faults: string[] = [];
  readonly #others: readonly string[];
  /** Which file has a tenant, and where a key stands. */
  readonly #files = new Map<string, string>();
  readonly #hashes = new Map<string, string>();

  constructor(others: readonly string[]) {
    this.#others = others;
  }

  read({ name, content }: TenantFile): void {
    if (content instanceof Error) {
      this.faults.push(`${name}: Expected a file that can be read but received ${codeOf(content)}`);
      return;
    }
    const root = this.#yaml(name, content);
    if (root === undefined) return;
    if (!isMapping(root) || !Object.hasOwn(root, 'tenants')) {
      this.faults.push(`${name}: Expected tenants: and below it their names but received ${kindOf(root)}`);
      return;
    }
    const unknown = Object.keys(root).filter((key) => key !== 'tenants' && !this.#others.includes(key));
    if (unknown.length > 0) this.faults.push(`${name}: Expected only tenants but received ${unknown.map(quote).join(', ')}`);
    if (!isMapping(root['tenants'])) {
      this.faults.push(`${name}: tenants: Expected tenants by name but received ${kindOf(root['tenants'])}`);
      return;
    }
    for (const [tenant, value] of Object.entries(root['tenants'])) this.#tenant(name, tenant, value);
  }

  #yaml(name: string, content: string): unknown {
    const document = parseYaml(content);
    const problems = [...document.errors, ...document.warnings];
    for (const { message } of problems) this.faults.push(`${name}: Expected YAML but received: ${message.split('\n')[0]}`);
    if (problems.length > 0) return undefined;
    try {
      return document.toJS() ?? null;
    } catch (error) {
      // Aliases within aliases, as no file of tenants has them.
      this.faults.push(`${name}: Expected YAML but received: ${(error as Error).message}`);
      return undefined;
    }
  }

  #tenant(file: string, name: string, value: unknown): void {
    const place = `${file}: tenants.${name}`;
    if (!TENANT_NAME.test(name)) this.faults.push(`${file}: tenants: Expected ${TENANT_WORDS} but received ${quote(name)}`);
    const other = this.#files.get(name);
    if (other !== undefined) this.faults.push(`${place}: Expected a tenant once but ${other} has it too`);
    this.#files.set(name, file);

    const fields = this.#fields(TENANT, value, place);
    if (fields === undefined) return;
    const keys = this.#keys(fields.keys ?? [], `${place}.keys`);
    const limits = this.#fields(LIMITS, fields.limits ?? {}, `${place}.limits`);
    if (this.faults.length > 0) return;
    const tenant = new Tenant({
      name,
      isAdmin: fields.admin ?? false,
      adapters: fields.adapters ?? [],
      limits: {
        requestsPerSecond: limits?.requestsPerSecond ?? null,
        concurrent: limits?.concurrent ?? null,
        tokensPerMinute: limits?.tokensPerMinute ?? null,
        imageBytes: limits?.imageBytes ?? null,
        maxTokens: limits?.maxTokens ?? null,
      },
      weight: fields.weight ?? 1,
    });
    this.entries.push({ tenant, keys });
  }

  #keys(values: readonly unknown[], place: string): Key[] {
    const ids = new Set<string>();
    return values.flatMap((value, index) => {
      const at = `${place}[${index}]`;
      const fields = this.#fields(KEY, value, at);
      if (fields === undefined) return [];
      const { id, sha256, expires } = fields;
      if (ids.has(id)) this.faults.push(`${at}.id: Expected another id for each key but received ${quote(id)} again`);
      ids.add(id);
      const other = this.#hashes.get(sha256);
      if (other !== undefined) this.faults.push(`${at}.sha256: Expected a key once but received that of ${other}`);
      this.#hashes.set(sha256, at);
      return [{ id, sha256, expiresMs: expires ?? null }];
    });
  }

  /** The values of a mapping's fields; undefined where any is wrong. */
  #fields<const Known extends Fields>(known: Known, value: unknown, place: string): Values<Known> | undefined {
    if (!isMapping(value)) {
      this.faults.push(`${place}: Expected ${Object.keys(known).join(', ')} but received ${kindOf(value)}`);
      return undefined;
    }
    const before = this.faults.length;
    const unknown = Object.keys(value).filter((key) => !Object.hasOwn(known, key));
    if (unknown.length > 0)
      this.faults.push(`${place}: Expected only ${Object.keys(known).join(', ')} but received ${unknown.map(quote).join(', ')}`);
    const values: Record<string, unknown> = {};
    for (const [key, { schema, expected, isSecret }] of Object.entries(known)) {
      const result = schema.safeParse(value[key]);
      values[key] = result.data;
      const received = isSecret ? kindOf(value[key]) : show(value[key]);
      if (!result.success) this.faults.push(`${place}.${key}: Expected ${expected} but received ${received}`);
    }
    return this.faults.length > before ? undefined : (values as Values<Known>);
  }
}

function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What a value is, without what it says. */
function kindOf(value: unknown): string {
  if (value === undefined || value === null) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'string') return `a text of ${value.length} characters`;
  return typeof value === 'object'
    ? `a mapping of ${Object.keys(value).map(quote).join(', ') || 'nothing'}`
    : `a ${typeof value}`;
}

function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

function quote(name: string): string {
  return JSON.stringify(name.slice(0, 80));
}

function codeOf(error: Error): string {
  return 'code' in error ? String(error.code) : error.message;
}
