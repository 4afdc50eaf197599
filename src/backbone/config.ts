/** Reading a checkpoint folder's small files, JSON most of them: bounded, parsed, validated, with every fault named. */
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import type { z } from 'zod';
import { AppError } from '../errors.js';
import { Faults } from '../tensor/faults.js';
import { members, parseJson, quote } from '../tensor/json.js';

const MAX_TEXT_BYTES = 4 * 1024 * 1024;
/** Where a config.json tells that its weights are packed into other types: GPTQ, AWQ, bitsandbytes, FP8 and their like. */
const PACKED_FIELDS = ['quantization_config', 'compression_config'];

/** The parsed JSON file, or undefined where it does not exist. Throws `invalid_file` where it is too large or not JSON. */
export async function readJson(folder: string, name: string): Promise<unknown> {
  const file = path.join(folder, name);
  const text = await readOptionalText(file);
  if (text === undefined) return undefined;
  const faults = new Faults();
  const value = parseJson(text, faults);
  faults.check('invalid_file', file);
  return value;
}

/** A small file's text, or undefined where it does not exist. Throws `invalid_file` where it is too large. */
export async function readOptionalText(file: string): Promise<string | undefined> {
  const info = await stat(file).catch(() => undefined);
  if (!info?.isFile()) return undefined;
  if (info.size > MAX_TEXT_BYTES)
    throw new AppError('invalid_file', `${file}: Expected at most ${MAX_TEXT_BYTES} bytes but received ${info.size}`);
  return readText(file);
}

/** A file's text. Throws `invalid_file` where the system does not give it. */
export async function readText(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((cause: unknown) => {
    throw new AppError('invalid_file', `${file}: Expected a readable file but received ${String(cause)}`, { cause });
  });
}

/** Like `readJson`, but the file must be there. */
export async function requireJson(folder: string, name: string): Promise<unknown> {
  const value = await readJson(folder, name);
  if (value === undefined) throw new AppError('invalid_file', `${folder}: Expected a file ${name} but there is none`);
  return value;
}

/** What a config.json says, and who of a table can read it. */
export interface ModelConfig<Reader> {
  readonly config: unknown;
  /** How errors name it. */
  readonly file: string;
  readonly read: Reader;
}

/**
 * The config.json of a checkpoint folder, or the file itself where its path is given, and its family's reader by `model_type`; `kind` is what
 * the table holds. Throws `invalid_file`, or `unsupported_model` for a family that is not in it and for weights that nobody here unpacks.
 */
export async function readModelConfig<Reader>(
  location: string,
  kind: string,
  families: ReadonlyMap<string, Reader>,
): Promise<ModelConfig<Reader>> {
  const { config, file } = await locateConfig(location);
  const fields = members(config);
  const type = typeOf(config);
  const read = families.get(type);
  const faults = PACKED_FIELDS.filter((key) => (fields?.get(key) ?? null) !== null).map(
    (key) =>
      `${key}: Expected none, because only float32, float16 and bfloat16 weights are read, but received ${packingOf(fields?.get(key))}`,
  );
  if (!read) faults.unshift(`Expected a ${kind} model_type of ${[...families.keys()].join(', ')} but received ${type}`);
  if (!read || faults.length > 0) throw AppError.ofFaults('unsupported_model', file, faults);
  return { config, file, read };
}

/** The `model_type` of a parsed config.json, as errors show it; `nothing` where it has none. */
export function typeOf(config: unknown): string {
  const type = members(config)?.get('model_type');
  return typeof type === 'string' ? type.slice(0, 80) : quote(type);
}

async function locateConfig(location: string): Promise<{ config: unknown; file: string }> {
  const info = await stat(location).catch(() => undefined);
  if (info?.isFile()) return { config: await requireJson(path.dirname(location), path.basename(location)), file: location };
  return { config: await requireJson(location, 'config.json'), file: `${location}/config.json` };
}

/** The method by its name, or what stands there. */
function packingOf(value: unknown): string {
  const fields = members(value);
  const isBitsAndBytes = fields?.get('load_in_4bit') === true || fields?.get('load_in_8bit') === true;
  return quote(fields?.get('quant_method') ?? (isBitsAndBytes ? 'bitsandbytes' : value));
}

/** What a bound is of: a number is compared itself. */
const COUNTED: Readonly<Record<string, string>> = { array: ' entries', string: ' characters' };

/** Zod's own sentences for these say what was expected, not what came. Messages of the schema's own stay as they are. */
export function describeIssue(issue: z.core.$ZodRawIssue): string | undefined {
  const received = `but received ${issue.input === undefined ? 'nothing' : quote(issue.input)}`;
  switch (issue.code) {
    case 'invalid_type':
      return `Expected ${issue.expected} ${received}`;
    case 'invalid_value':
      return `Expected ${issue.values.map((one) => JSON.stringify(one)).join(' or ')} ${received}`;
    case 'too_small':
      return `Expected ${issue.inclusive === false ? 'more than' : 'at least'} ${issue.minimum}${COUNTED[issue.origin] ?? ''} ${received}`;
    case 'too_big':
      return `Expected ${issue.inclusive === false ? 'less than' : 'at most'} ${issue.maximum}${COUNTED[issue.origin] ?? ''} ${received}`;
    case 'unrecognized_keys':
      return `Expected no other keys but received ${issue.keys.map((key) => quote(key)).join(', ')}`;
    default:
      return undefined;
  }
}

/** Validates with all faults in one error: `subject: path: message; ...`. */
export function parseWith<Schema extends z.ZodType>(schema: Schema, value: unknown, subject: string): z.output<Schema> {
  const result = schema.safeParse(value, { error: describeIssue });
  if (result.success) return result.data;
  const faults = result.error.issues.map((issue) => `${issue.path.join('.') || 'file'}: ${issue.message}`);
  throw AppError.ofFaults('invalid_file', subject, faults);
}
