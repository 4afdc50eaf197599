/**
 * How likely the model found a token, and which tokens it found the most likely: log-probabilities of its own logits, before temperature, top-k,
 * top-p and repetition penalty, in float64. Computed only for the rows that ask.
 */
import { decay, Ranking } from './sampler.js';

export interface TokenLogprobs {
  readonly logprob: number;
  /** [token id, log-probability] of the most likely tokens, best first; of equals the lower id first. */
  readonly top: readonly (readonly [number, number])[];
}

/** `logits` [vocab] must be such as the sampler takes; `count` says how many of the most likely tokens are told. */
export function tokenLogprobs(logits: Float32Array, tokenId: number, count: number): TokenLogprobs {
  const ranking = new Ranking(Math.min(count, logits.length));
  const limit = ranking.keys.length;
  let peak = -Infinity;
  for (const logit of logits) peak = Math.max(peak, logit);
  let sum = 0;
  for (let id = 0; id < logits.length; id += 1) {
    const logit = logits[id] as number;
    sum += decay(logit - peak);
    if (limit > 0) ranking.offer(logit, id, limit);
  }
  const total = peak + Math.log(sum);
  const top: [number, number][] = [];
  for (; ranking.size > 0; ranking.dropWorst()) top.push([ranking.ids[0] as number, (ranking.keys[0] as number) - total]);
  return { logprob: (logits[tokenId] as number) - total, top: top.reverse() };
}
