/** Reading a checkpoint folder's JSON files: bounded, parsed, validated, with every fault named. */
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import type { z } from 'zod';
import { AppError } from '../errors.js';

const MAX_JSON_BYTES = 4 * 1024 * 1024;

/** The parsed JSON file, or undefined where it does not exist. Throws `invalid_file` where it is too large or not JSON. */
export async function readJson(folder: string, name: string): Promise<unknown> {
  const file = path.join(folder, name);
  const info = await stat(file).catch(() => undefined);
  if (!info?.isFile()) return undefined;
  if (info.size > MAX_JSON_BYTES)
    throw new AppError('invalid_file', `${file}: Expected at most ${MAX_JSON_BYTES} bytes of JSON but received ${info.size}`);
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    throw new AppError(
      'invalid_file',
      `${file}: Expected JSON but received text that does not parse (${(error as Error).message})`,
    );
  }
}

/** Like `readJson`, but the file must be there. */
export async function requireJson(folder: string, name: string): Promise<unknown> {
  const value = await readJson(folder, name);
  if (value === undefined) throw new AppError('invalid_file', `${folder}: Expected a file ${name} but there is none`);
  return value;
}

/** The config.json of a checkpoint folder, or the file itself where its path is given; `file` is how errors name it. */
export async function readModelConfig(location: string): Promise<{ config: unknown; file: string }> {
  const info = await stat(location).catch(() => undefined);
  if (info?.isFile()) return { config: await requireJson(path.dirname(location), path.basename(location)), file: location };
  return { config: await requireJson(location, 'config.json'), file: `${location}/config.json` };
}

/** Zod's own sentences for these say what was expected, not what came. Others (and messages of the schema's own) stay as they are. */
function describe(issue: z.core.$ZodRawIssue): string | undefined {
  const received = issue.input === undefined ? 'nothing' : JSON.stringify(issue.input).slice(0, 80);
  if (issue.code === 'invalid_type') return `Expected ${issue.expected} but received ${received}`;
  if (issue.code === 'invalid_value')
    return `Expected ${issue.values.map((one) => JSON.stringify(one)).join(' or ')} but received ${received}`;
  return undefined;
}

/** Validates with all faults in one error: `subject: path: message; ...`. */
export function parseWith<Schema extends z.ZodType>(schema: Schema, value: unknown, subject: string): z.output<Schema> {
  const result = schema.safeParse(value, { error: describe });
  if (result.success) return result.data;
  const faults = result.error.issues.map((issue) => `${issue.path.join('.') || 'file'}: ${issue.message}`);
  throw AppError.ofFaults('invalid_file', subject, faults);
}
