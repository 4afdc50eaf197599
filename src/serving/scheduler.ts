/**
 * Which waiting requests join the batch now. No clock, no tensors; who is in turn, and who is limited, is shares.ts.
 *
 * Within a tenant first come, first served among those that are ready. A request whose adapter or image features are still on their way is passed
 * over, so a cold adapter never holds up a warm one; it keeps its place, so it is first in line once it is ready and cannot starve either.
 * A ready request that does not fit is not overtaken by its own tenant's: a wide beam search would otherwise wait for ever behind single rows. Other
 * tenants may pass it, but only until they have had PATIENCE_TOKENS more than it: then nobody begins, rows come free, and it fits.
 */
import { type Candidate, PATIENCE_TOKENS, type Shares } from './shares.js';

/**
 * The candidates that join, in order. `tokenBudget` bounds the prompt tokens of one step (as padded: longest × count), and so how long the rows
 * that already run wait for their next token; a single prompt longer than that is admitted alone.
 */
export function admit<C extends Candidate>(waiting: Iterable<C>, freeRows: number, tokenBudget: number, shares: Shares): C[] {
  const lines = linesOf(waiting);
  const admitted: C[] = [];
  let rows = freeRows;
  let longest = 0;
  let lastTag = Number.POSITIVE_INFINITY;
  for (;;) {
    const next = shares.first([...lines.values()].flatMap((line) => line[0] ?? []));
    if (!next || shares.tag(next) > lastTag) return admitted;
    if (!shares.mayJoin(next)) {
      lines.delete(next.tenant);
      continue;
    }
    const padded = Math.max(longest, next.tokens) * (admitted.length + 1);
    if (admitted.length > 0 && padded > tokenBudget) return admitted;
    if (!shares.fits(next, rows)) {
      lines.delete(next.tenant);
      lastTag = Math.min(lastTag, shares.tag(next) + PATIENCE_TOKENS);
      continue;
    }
    shares.join(next);
    admitted.push(next);
    lines.get(next.tenant)?.shift();
    rows -= next.width;
    longest = Math.max(longest, next.tokens);
  }
}

/** What is ready, a line a tenant. */
function linesOf<C extends Candidate>(waiting: Iterable<C>): Map<string, C[]> {
  const lines = new Map<string, C[]>();
  for (const candidate of waiting) {
    if (!candidate.ready) continue;
    const line = lines.get(candidate.tenant);
    if (line) line.push(candidate);
    else lines.set(candidate.tenant, [candidate]);
  }
  return lines;
}
