/**
 * What a request may name in an adapter's place: one adapter, or several that are mixed in one row. A blend is read by the schema that describes
 * it; where it is wrong, the schema also says at which place, for a blend has many.
 */
import { z } from 'zod';
import { blendName, MAX_PARTS, MAX_WEIGHT, MIN_PARTS } from '../adapter/blend.js';

export interface NamedPart {
  readonly name: string;
  /** Used as it is: weights need not add up to 1. */
  readonly weight: number;
}

interface Blend {
  readonly blend: readonly NamedPart[];
}

/** One adapter's name, or a blend. */
export type Named = string | Blend;

const PARTS = `${MIN_PARTS} to ${MAX_PARTS} adapters`;
export const BLEND_WORDS = `{"blend": [{"name": ..., "weight": ...}, ...]} of ${PARTS}`;

/** How a named one is shown: by its name, or as `0.7*a+0.3*b`. */
export function nameOf(named: Named): string {
  return typeof named === 'string' ? named : blendName(named.blend);
}

/** The schema of a blend of adapters with such names. Each of its messages is the first half of a sentence (`placeOf`). */
export function blendSchema(adapterName: RegExp) {
  const name = 'Expected the name of one adapter, and no blend,';
  const weight = `Expected a number from -${MAX_WEIGHT} to ${MAX_WEIGHT}`;
  const part = z.strictObject(
    {
      name: z.string(name).regex(adapterName, name),
      weight: z.number(weight).min(-MAX_WEIGHT, weight).max(MAX_WEIGHT, weight),
    },
    'Expected an object of name and weight alone',
  );
  const parts = z
    .array(part, `Expected a list of ${PARTS}`)
    .min(MIN_PARTS, `Expected ${PARTS}`)
    .max(MAX_PARTS, `Expected ${PARTS}`)
    .refine((given) => new Set(given.map((each) => each.name)).size === given.length, 'Expected each name once');
  return z.strictObject({ blend: parts }, 'Expected an adapter name or an object of blend alone');
}

/** Where in a value of several parts the first fault is, and what was expected there; undefined where the whole of it is no such value. */
export function placeOf(schema: z.ZodType, param: string, value: unknown) {
  if (typeof value !== 'object' || value === null) return undefined;
  const issue = schema.safeParse(value).error?.issues[0];
  if (issue === undefined) return undefined;
  const place = issue.path.reduce<string>(
    (text, key) => text + (typeof key === 'number' ? `[${key}]` : `.${String(key)}`),
    param,
  );
  const received = issue.path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown>)[key], value);
  return { place, message: issue.message, received };
}
