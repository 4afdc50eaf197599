/** Lists as OpenAI's clients turn their pages: a limit, and the id after which the next page begins. */
import { z } from 'zod';
import { AppError } from '../errors.js';
import { show } from './schema.js';

/** Fields of a list's query. */
export function pageFields(most: number) {
  return {
    after: { schema: z.string().nullish(), expected: 'the id of an item of this list', form: 'text' as const },
    limit: { schema: z.int().min(1).max(most).nullish(), expected: `an integer from 1 to ${most}`, form: 'number' as const },
  };
}

/** Which page, `usual` items long unless told. */
export interface PageQuery {
  readonly after?: string | null | undefined;
  readonly limit?: number | null | undefined;
}

/** A page of items. Throws `invalid_request` where `after` is none of them: one of another owner's and one that never was look alike. */
export function page<T extends { readonly id: string }>(
  items: readonly T[],
  { after, limit }: PageQuery,
  usual: number,
): { readonly items: readonly T[]; readonly hasMore: boolean } {
  const start = after == null ? 0 : items.findIndex(({ id }) => id === after) + 1;
  if (after != null && start === 0)
    throw new AppError('invalid_request', `after: Expected the id of an item of this list but received ${show(after)}`, {
      param: 'after',
    });
  const end = start + (limit ?? usual);
  return { items: items.slice(start, end), hasMore: end < items.length };
}

/** OpenAI's list of what a page holds. */
export function listBody(data: readonly { readonly id: string }[], hasMore: boolean): object {
  return { object: 'list', data, has_more: hasMore, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null };
}
