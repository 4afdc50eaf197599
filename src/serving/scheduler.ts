/**
 * Which waiting requests join the batch now. Pure: no clock, no tensors, no state of its own.
 *
 * First come, first served among those that are ready. A request whose adapter or image features are still on their way is passed over, so a
 * cold adapter never holds up a warm one; it keeps its place, so it is first in line once it is ready and cannot starve either.
 * A ready request that does not fit is not overtaken: a wide beam search would otherwise wait for ever behind single rows.
 */

export interface Candidate {
  /** Rows it needs, from its first step to its last. */
  readonly width: number;
  /** Tokens of its prompt, the image's included. */
  readonly tokens: number;
  /** Adapter and image features are there. */
  readonly ready: boolean;
}

/**
 * The candidates that join, in order. `tokenBudget` bounds the prompt tokens of one step (as padded: longest × count), and so how long the rows
 * that already run wait for their next token; a single prompt longer than that is admitted alone.
 */
export function admit<C extends Candidate>(waiting: Iterable<C>, freeRows: number, tokenBudget: number): C[] {
  const admitted: C[] = [];
  let rows = freeRows;
  let longest = 0;
  for (const candidate of waiting) {
    if (!candidate.ready) continue;
    const padded = Math.max(longest, candidate.tokens) * (admitted.length + 1);
    if (candidate.width > rows || (admitted.length > 0 && padded > tokenBudget)) break;
    admitted.push(candidate);
    rows -= candidate.width;
    longest = Math.max(longest, candidate.tokens);
  }
  return admitted;
}
