/**
 * Kinds of settings: what a value may be, in words and as a check. A command's settings are one table of these, from which its flags, its help
 * and its errors all derive.
 */
import { homedir } from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { AppError } from './errors.js';
import { parseSize, SIZE } from './size.js';

export interface Setting<T> {
  readonly schema: z.ZodType<T>;
  /** What a right value is, for errors: `Expected ${expected} but received ...`. */
  readonly expected: string;
  /** Absent where the setting must be given. */
  readonly default?: T;
  readonly help: string;
  /** A relative path is relative to the working directory, or to the file that it stands in. */
  readonly isPath?: true;
  /** A flag that may be given several times. */
  readonly isRepeated?: true;
  /** A flag that may stand without a value. */
  readonly isToggle?: true;
  /** May hold a password: a wrong value is not shown. */
  readonly isSecret?: true;
}

export function text(help: string) {
  return { schema: z.string().min(1), expected: 'a text', help };
}

/** A text that may be empty. */
export function anyText(help: string) {
  return { schema: z.string(), expected: 'a text', help };
}

export function location(help: string) {
  return { schema: z.string().min(1), expected: 'a path', help, isPath: true as const };
}

export function integer(min: number, max: number, help: string) {
  return { schema: z.preprocess(numeric, z.int().min(min).max(max)), expected: `an integer from ${min} to ${max}`, help };
}

export function count<Min extends number, Max extends number>(min: Min, max: Max, help: string) {
  return { schema: z.preprocess(numeric, z.literal([min, max])), expected: `${min} or ${max}`, help };
}

export function choice<const Choice extends string>(choices: readonly Choice[], help: string) {
  return { schema: z.enum(choices), expected: `one of ${choices.join(', ')}`, help };
}

/** In what a language model's weights are multiplied, and where those of few bits are kept. */
export const weightSettings = {
  weights: {
    ...choice(
      ['float32', 'int8', 'int4'],
      "Numbers that the language model's weights are multiplied in, whatever the checkpoint has: int8 has about a quarter of float32's bytes, int4 about a sixth, each less accurate",
    ),
    default: 'float32' as const,
  },
  weightsCache: {
    ...optional(
      location(
        'Folder in which int8 and int4 weights are kept once they are made; default: graft/weights in XDG_CACHE_HOME, or in ~/.cache',
      ),
    ),
    default: null,
  },
};

/** The default of `weightsCache`: in the user's cache folder, by the rule that the hub's cache follows too. */
export function userWeightsCache(env: Readonly<Record<string, string | undefined>>): string {
  return path.join(env['XDG_CACHE_HOME'] || path.join(homedir(), '.cache'), 'graft', 'weights');
}

export function bytes(help: string) {
  return { schema: z.preprocess(parseSize, z.int().nonnegative()), expected: SIZE, help };
}

export function redisUrl(help: string) {
  const isRedis = (value: string): boolean => URL.canParse(value) && /^rediss?:\/\/[^/]/.test(value);
  return {
    schema: z.string().refine(isRedis),
    expected: 'a URL such as redis://HOST:6379 or rediss://USER:PASSWORD@HOST:6380/1',
    help,
    isSecret: true as const,
  };
}

/** The same setting, which may also be left open: `null`, or "none" on a command line. */
export function optional<T, Rest extends Setting<T>>(setting: Rest & Setting<T>) {
  const schema: z.ZodType<T | null> = z.preprocess((value) => (value === 'none' ? null : value), setting.schema.nullable());
  return { ...setting, schema, expected: `${setting.expected}, or none` };
}

/** A finite number, fractions included. */
export function number(min: number, max: number, help: string) {
  const schema = z.preprocess(numeric, z.number().min(min).max(max));
  return { schema, expected: `a number from ${min} to ${max}`, help };
}

/** On or off: given without a value it is on. */
export function toggle(help: string) {
  return { schema: z.union([z.boolean(), z.stringbool()]), expected: 'true or false', help, isToggle: true as const };
}

/** Words between commas. */
export function list(help: string) {
  const parse = (value: unknown): unknown => (typeof value === 'string' ? value.split(',').map((entry) => entry.trim()) : value);
  return { schema: z.preprocess(parse, z.array(z.string().min(1)).min(1)), expected: 'words between commas', help };
}

const NAMED_TEXT = /^([A-Za-z0-9][A-Za-z0-9._/-]{0,256})=(\S+)$/;

/** `NAME=VALUE`, several between commas, or an object. Undefined where the value is something else. */
function parseNamedTexts(value: unknown): ReadonlyMap<string, string> | undefined {
  if (typeof value !== 'string' && (typeof value !== 'object' || value === null || Array.isArray(value))) return undefined;
  // A comma may be part of a value, unless another name follows it.
  const entries =
    typeof value === 'string' ? value.split(/,(?=[^,=]*=)/) : Object.entries(value).map(([name, text]) => `${name}=${text}`);
  const named = new Map<string, string>();
  for (const entry of entries) {
    const [, name, text] = NAMED_TEXT.exec(entry.trim()) ?? [];
    if (name === undefined || text === undefined || named.has(name)) return undefined;
    named.set(name, text);
  }
  return named;
}

/** Texts by name: on a command line a flag each, in a file an object. */
export function namedTexts(expected: string, help: string) {
  const schema: z.ZodType<ReadonlyMap<string, string>> = z.preprocess(
    (value) => (value instanceof Map ? value : parseNamedTexts(value)),
    z.custom<ReadonlyMap<string, string>>((value) => value instanceof Map),
  );
  return { schema, expected, help, isRepeated: true as const };
}

/** A number for all, or numbers by name. */
export interface NamedNumbers {
  readonly common: number | undefined;
  readonly own: ReadonlyMap<string, number>;
}

const NAMED = /^(?:(?<name>[^=]*)=)?(?<value>-?(?:\d+(?:\.\d+)?|\.\d+))$/;

/** `8`, `image=4,text=16`, or both: `8,image=4`. Undefined where the text is something else. */
export function parseNamedNumbers(text: string): NamedNumbers | undefined {
  let common: number | undefined;
  const own = new Map<string, number>();
  for (const entry of text.split(',')) {
    const { name, value } = NAMED.exec(entry.trim())?.groups ?? {};
    const isRepeated = name === undefined ? common !== undefined : own.has(name);
    if (value === undefined || isRepeated) return undefined;
    if (name === undefined) common = Number(value);
    else own.set(name, Number(value));
  }
  return { common, own };
}

export const NAMED_NUMBERS = 'a number like 8, or image=4,text=16,';

export function namedNumbers(help: string) {
  const schema = z.preprocess(
    (value) => (typeof value === 'string' ? parseNamedNumbers(value) : value),
    z.custom<NamedNumbers>((value) => value !== undefined && typeof value === 'object'),
  );
  return { schema, expected: NAMED_NUMBERS, help };
}

function numeric(value: unknown): unknown {
  return typeof value === 'string' && /^-?(\d+(\.\d+)?|\.\d+)(e-?\d+)?$/i.test(value.trim()) ? Number(value) : value;
}

/** Values for a table of settings from flags alone; relative paths are relative to `folder`. Throws `invalid_config` naming every wrong one. */
export function parseFlags<Table extends Readonly<Record<string, Setting<unknown>>>>(
  table: Table,
  flags: Readonly<Record<string, unknown>>,
  folder: string,
): { readonly [Key in keyof Table]: z.output<Table[Key]['schema']> } {
  const faults: string[] = [];
  const values = Object.entries(table).map(([key, setting]) => {
    const given = flags[key];
    const received = given === undefined ? 'nothing' : JSON.stringify(given);
    const isOpen = given === undefined && setting.default !== undefined;
    const parsed = isOpen ? { success: true, data: setting.default } : setting.schema.safeParse(given);
    if (!parsed.success) faults.push(`--${kebab(key)}: Expected ${setting.expected} but received ${received}`);
    return [key, setting.isPath && typeof parsed.data === 'string' ? path.resolve(folder, parsed.data) : parsed.data];
  });
  if (faults.length > 0) throw AppError.ofFaults('invalid_config', 'The options are wrong', faults);
  return Object.freeze(Object.fromEntries(values) as { [Key in keyof Table]: z.output<Table[Key]['schema']> });
}

/** A setting as a flag of the command line. */
export function flagOf(key: string, setting: Setting<unknown>): { readonly flag: string; readonly help: string } {
  const { default: value } = setting;
  const isShown = value !== '' && (['string', 'number'].includes(typeof value) || Array.isArray(value));
  return {
    flag: `--${kebab(key)}${setting.isToggle ? '' : ' <value>'}`,
    help: `${setting.help}${isShown ? ` (default ${String(value)})` : ''}`,
  };
}

/** `maxBatch` as `max-batch`. */
export function kebab(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
