/**
 * The store's index: one JSON file, in which every name has a line of its own. It is replaced as a whole, synced before and after, so that
 * it is what it was or what it is to be, whenever a process is killed. What it does not name does not exist.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { isAbsent } from '../adapter/file.js';
import { AppError } from '../errors.js';
import { replaceFile } from '../tensor/folder.js';
import type { Entry } from './entry.js';

const FORMAT = 'graft-store/1';
const FILE = 'index.json';

export type Entries = ReadonlyMap<string, Entry>;

const number = z.int().positive();
const entrySchema = z
  .strictObject({
    name: z.string().min(1),
    versions: z
      .array(
        z.strictObject({
          version: number,
          digest: z.string().regex(/^sha256:[0-9a-f]{64}$/),
          bytes: z.int().nonnegative(),
          createdMs: z.int().nonnegative(),
          by: z.string(),
        }),
      )
      .min(1),
    next: number,
    current: number,
    history: z.array(number),
    split: z.array(z.strictObject({ version: number, percent: z.int().min(0).max(100) })),
    shadow: number.nullable(),
    pinned: z.boolean(),
  })
  .refine(
    ({ versions, next, current, history, split, shadow }) => {
      const numbers = versions.map(({ version }) => version);
      const known = new Set(numbers);
      const named = [current, ...history, ...split.map(({ version }) => version), ...(shadow === null ? [] : [shadow])];
      const sum = split.reduce((total, { percent }) => total + percent, 0);
      const isRising = numbers.every((one, at) => one < (numbers[at + 1] ?? next));
      return isRising && named.every((one) => known.has(one)) && (split.length === 0 || sum === 100);
    },
    { error: 'its numbers do not go together' },
  );

const schema = z.strictObject({ format: z.literal(FORMAT), adapters: z.array(entrySchema) });

/** undefined where there is none. Throws AppError `invalid_config` where there is something else. */
export async function readLedger(folder: string): Promise<Entries | undefined> {
  const path = join(folder, FILE);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
  const parsed = schema.safeParse(parse(text));
  if (!parsed.success) {
    const faults = parsed.error.issues.slice(0, 10).map((issue) => `${issue.path.join('.') || 'all of it'}: ${issue.message}`);
    throw AppError.ofFaults('invalid_config', `store: Expected an index of ${FORMAT} in ${path}`, faults);
  }
  return new Map(parsed.data.adapters.map(({ name, ...entry }) => [name, entry]));
}

/** Resolves when it is on the disk. */
export async function writeLedger(folder: string, entries: Entries): Promise<void> {
  const lines = [...entries].map(([name, entry]) => `  ${JSON.stringify({ name, ...entry })}`);
  const text = `{"format": ${JSON.stringify(FORMAT)}, "adapters": [\n${lines.join(',\n')}\n]}\n`;
  await replaceFile(join(folder, FILE), new TextEncoder().encode(text));
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
