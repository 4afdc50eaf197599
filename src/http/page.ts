/** Lists as OpenAI's clients turn their pages: a limit, and the id after which the next page begins. */
import type { Request } from 'express';
import { z } from 'zod';
import { AppError } from '../errors.js';
import { show } from './schema.js';

export interface PageOptions {
  readonly usual: number;
  readonly most: number;
}

/** Parameters of a list's query, besides `after` and `limit`, are those that its route knows. Throws `invalid_request` or `unknown_field`. */
export function queryOf(req: Request, known: readonly string[]): Readonly<Record<string, string | undefined>> {
  const given = Object.entries(req.query);
  const names = ['after', 'limit', ...known];
  const unknown = given.find(([name]) => !names.includes(name));
  if (unknown)
    throw new AppError('unknown_field', `Expected only ${names.join(', ')} but received ${show(unknown[0])}`, {
      param: unknown[0],
    });
  return Object.fromEntries(
    given.map(([name, value]) => {
      if (typeof value !== 'string') throw fault(name, 'one value', show(value));
      return [name, value];
    }),
  );
}

/** A page of items. Throws `invalid_request` where `after` is none of them: one of another owner's and one that never was look alike. */
export function page<T extends { readonly id: string }>(
  items: readonly T[],
  { after, limit }: Readonly<Record<string, string | undefined>>,
  { usual, most }: PageOptions,
): { readonly items: readonly T[]; readonly hasMore: boolean } {
  const size = limit === undefined ? usual : /^\d{1,9}$/.test(limit) ? Number(limit) : 0;
  if (size < 1 || size > most) throw fault('limit', `an integer from 1 to ${most}`, show(limit));
  const start = after === undefined ? 0 : items.findIndex(({ id }) => id === after) + 1;
  if (after !== undefined && start === 0) throw fault('after', 'the id of an item of this list', show(after));
  return { items: items.slice(start, start + size), hasMore: start + size < items.length };
}

/** OpenAI's list of what a page holds. */
export function listBody(data: readonly { readonly id: string }[], hasMore: boolean): object {
  return { object: 'list', data, has_more: hasMore, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null };
}

/** Its schema, for the description of the API. */
export function listSchema<T extends z.ZodType>(item: T) {
  return z.strictObject({
    object: z.literal('list'),
    data: z.array(item),
    has_more: z.boolean(),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
  });
}

function fault(param: string, expected: string, received: string): AppError {
  return new AppError('invalid_request', `${param}: Expected ${expected} but received ${received}`, { param });
}
