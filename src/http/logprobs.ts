/** How likely tokens were, in OpenAI's two shapes: a list of objects for chat, parallel lists for completions. */
import type { Likelihood, TokenLikelihood } from '../serving/likelihood.js';

/** What stands for a probability of zero: JSON has no infinity, and this is what OpenAI writes. */
const LEAST = -9999;

const logprobOf = ({ logprob }: Likelihood): number => Math.max(LEAST, logprob);
const bodyOf = (one: Likelihood): object => ({ token: one.token, logprob: logprobOf(one), bytes: one.bytes });

/** `logprobs` of a chat's choice; null where they were not asked for. */
export function chatLogprobs(tokens: readonly TokenLikelihood[] | undefined): object | null {
  if (tokens === undefined) return null;
  return { content: tokens.map((token) => ({ ...bodyOf(token), top_logprobs: token.top.map(bodyOf) })), refusal: null };
}

/** `logprobs` of a completion's choice; null where they were not asked for. The token itself is always among the most likely. */
export function completionLogprobs(tokens: readonly TokenLikelihood[] | undefined): object | null {
  if (tokens === undefined) return null;
  return {
    tokens: tokens.map(keyOf),
    token_logprobs: tokens.map(logprobOf),
    top_logprobs: tokens.map((token) => {
      const told = new Map<string, number>();
      // Where two tokens have one text, the likelier is the one that is told.
      for (const one of [...token.top, token]) if (!told.has(keyOf(one))) told.set(keyOf(one), logprobOf(one));
      return Object.fromEntries(told);
    }),
    text_offset: tokens.map(({ offset }) => offset),
  };
}

/** A token as a key: its text, or as OpenAI writes what is no whole text, `bytes:\xe6\xbc`. */
function keyOf({ token, bytes }: Likelihood): string {
  if (bytes === null || !token.includes('\uFFFD')) return token;
  return `bytes:${bytes.map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`;
}
