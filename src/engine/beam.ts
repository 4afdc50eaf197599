/**
 * Beam search with the decisions of transformers' `generate(num_beams, do_sample=False)`, checked against it case by case.
 *
 * The search owns no model and no KV: it takes one row of logits a live beam and answers which beam each new beam continues, so
 * that whoever holds the KV can move it. transformers keeps full tensors and marks what does not count with -1e9; here what does
 * not count is absent, and a beam is a chain of tokens that shares its past with its siblings.
 */
import { argmax, checkPenalty, decay, penalized, Ranking } from './sampler.js';

export interface BeamOptions {
  readonly numBeams: number;
  /** Finished scores are divided by length ** lengthPenalty: above 0 favours long sequences, below 0 short ones. */
  readonly lengthPenalty: number;
  /** true: stop as soon as numBeams sequences are finished. false: go on while the best live beam could beat the worst of them. */
  readonly earlyStopping: boolean;
  readonly eosIds: readonly number[];
  /** Most tokens to generate, an end-of-sequence token included. */
  readonly maxTokens: number;
  readonly vocabSize: number;
  /** 1 = off; over prompt and generated tokens. */
  readonly repetitionPenalty: number;
  readonly promptIds: readonly number[];
  /** How many of the best sequences `result` gives, at most numBeams. */
  readonly n: number;
}

/** How to go on: new beam i is beam `parents[i]` followed by `tokens[i]`. Both are empty once the search has finished. */
export interface BeamStep {
  readonly parents: readonly number[];
  readonly tokens: readonly number[];
}

export interface BeamResult {
  /** Without the end-of-sequence token. */
  readonly tokenIds: readonly number[];
  /** Sum of log-probabilities, the end-of-sequence token's included, over length ** lengthPenalty. */
  readonly score: number;
  readonly finishReason: 'stop' | 'length';
}

/** A generated sequence: its last token, and what came before it. null: only the prompt so far. */
interface Chain {
  readonly token: number;
  readonly past: Chain | null;
}

interface Stem {
  readonly chain: Chain | null;
  /** Sum of log-probabilities, rounded to float32 at every step as transformers' is. */
  readonly score: number;
}

interface Beam extends Stem {
  readonly chain: Chain;
  /** Index of the stem it continues. */
  readonly parent: number;
}

interface Finished {
  readonly chain: Chain;
  readonly score: number;
  readonly reason: 'stop' | 'length';
}

const ROOT: Stem = { chain: null, score: 0 };
const NOTHING: BeamStep = { parents: [], tokens: [] };

export class BeamSearch {
  /** Rows that the search takes in a batch, from `start` to its end. */
  readonly width: number;
  readonly #options: BeamOptions;
  readonly #eos: ReadonlySet<number>;
  readonly #logProbs: Float32Array; // [vocab]
  readonly #candidates: Ranking;
  /** Best first. */
  #live: readonly Beam[] = [];
  /** At most numBeams, best first. */
  #done: readonly Finished[] = [];
  #length = 0;
  #finished = false;

  /** Throws RangeError for options outside their range. */
  constructor(options: BeamOptions) {
    this.#options = options;
    this.#eos = new Set(options.eosIds);
    // Enough that numBeams candidates can go on even where every end-of-sequence token of every beam is among the best.
    const capacity = Math.max(2, 1 + this.#eos.size) * options.numBeams;
    checkOptions(options, capacity);
    this.width = options.numBeams;
    this.#logProbs = new Float32Array(options.vocabSize);
    this.#candidates = new Ranking(capacity);
  }

  get finished(): boolean {
    return this.#finished;
  }

  /**
   * The first step, from the prompt's one row: `logits` [vocab], only read. All parents are 0, that row.
   * Throws AppError `internal` for logits that nothing can be chosen from.
   */
  start(logits: Float32Array): BeamStep {
    if (this.#length > 0) throw new TypeError('Expected start to be called once, before any step');
    return this.#advance([ROOT], [logits]);
  }

  /** Every later step: `logits` holds one row [vocab] a live beam, in the order of the last BeamStep. Throws as `start` does. */
  step(logits: readonly Float32Array[]): BeamStep {
    if (this.#length === 0 || this.#finished)
      throw new TypeError('Expected step to be called between start and the end of the search');
    return this.#advance(this.#live, logits);
  }

  /** The n best sequences, best first. Throws TypeError while the search has not finished. */
  result(): BeamResult[] {
    if (!this.#finished) throw new TypeError('Expected result to be called after the end of the search');
    return this.#done.slice(0, this.#options.n).map(({ chain, score, reason }) => {
      const tokenIds = unroll(chain);
      return { tokenIds: reason === 'stop' ? tokenIds.slice(0, -1) : tokenIds, score, finishReason: reason };
    });
  }

  #advance(stems: readonly Stem[], logits: readonly Float32Array[]): BeamStep {
    const { numBeams, maxTokens } = this.#options;
    const candidates = this.#rank(stems, logits);
    this.#length += 1;
    const ends = (beam: Beam): boolean => this.#length === maxTokens || this.#eos.has(beam.chain.token);
    // A sequence that ends counts only where it is among the numBeams best of the step; the others would have had to beat those.
    this.#finish(candidates.slice(0, numBeams).filter(ends));
    this.#live = candidates.filter((beam) => !ends(beam)).slice(0, numBeams);
    this.#finished = this.#mustStop();
    if (this.#finished) return NOTHING;
    return { parents: this.#live.map((beam) => beam.parent), tokens: this.#live.map((beam) => beam.chain.token) };
  }

  /** The best continuations of all beams, best first; of equal scores the one of the earlier beam, then the lower token. */
  #rank(stems: readonly Stem[], logits: readonly Float32Array[]): Beam[] {
    const { vocabSize } = this.#options;
    if (logits.length !== stems.length)
      throw new RangeError(`Expected logits of ${stems.length} beams but received ${logits.length}`);
    const candidates = this.#candidates;
    const limit = candidates.keys.length;
    candidates.size = 0;
    for (const [index, row] of logits.entries()) {
      const { chain, score } = stems[index] as Stem;
      const logProbs = this.#scoreTokens(row, chain);
      const offset = index * vocabSize;
      for (let token = 0; token < vocabSize; token += 1) {
        candidates.offer(Math.fround((logProbs[token] as number) + score), offset + token, limit);
      }
    }
    const ranked: Beam[] = [];
    for (; candidates.size > 0; candidates.dropWorst()) {
      const flat = candidates.ids[0] as number;
      const parent = Math.floor(flat / vocabSize);
      const past = (stems[parent] as Stem).chain;
      ranked.push({ chain: { token: flat % vocabSize, past }, parent, score: candidates.keys[0] as number });
    }
    return ranked.reverse();
  }

  /** log_softmax, and then the repetition penalty: in beam search transformers penalises log-probabilities, not logits. */
  #scoreTokens(logits: Float32Array, chain: Chain | null): Float32Array {
    const { vocabSize, repetitionPenalty, promptIds } = this.#options;
    if (logits.length !== vocabSize) throw new RangeError(`Expected ${vocabSize} logits but received ${logits.length}`);
    const peak = logits[argmax(logits)] as number;
    let sum = 0;
    for (let token = 0; token < vocabSize; token += 1) sum += decay((logits[token] as number) - peak);
    const shift = peak + Math.log(sum);
    const logProbs = this.#logProbs;
    for (let token = 0; token < vocabSize; token += 1) logProbs[token] = (logits[token] as number) - shift;
    if (repetitionPenalty === 1) return logProbs;
    // From the logits, not from logProbs: a token that occurs twice is penalised once.
    const penalize = (id: number): void => {
      logProbs[id] = penalized(Math.fround((logits[id] as number) - shift), repetitionPenalty);
    };
    for (const id of promptIds) if (id < vocabSize) penalize(id);
    for (let link = chain; link !== null; link = link.past) penalize(link.token);
    return logProbs;
  }

  #finish(beams: readonly Beam[]): void {
    const ended = beams.map(
      ({ chain, score }): Finished => ({
        chain,
        score: this.#perLength(score),
        reason: this.#eos.has(chain.token) ? 'stop' : 'length',
      }),
    );
    // The sort is stable: of equal scores the one that finished first stays ahead.
    this.#done = [...this.#done, ...ended].sort((a, b) => b.score - a.score).slice(0, this.#options.numBeams);
  }

  #mustStop(): boolean {
    const { numBeams, maxTokens, earlyStopping } = this.#options;
    if (this.#length === maxTokens) return true;
    if (this.#done.length < numBeams) return false;
    if (earlyStopping) return true;
    // transformers' estimate of what a live beam can still reach: its score at its present length.
    const [best] = this.#live;
    const worst = this.#done.at(-1);
    return best === undefined || worst === undefined || this.#perLength(best.score) <= worst.score;
  }

  /** A score at the present length, in transformers' float32. */
  #perLength(score: number): number {
    return Math.fround(score / Math.fround(this.#length ** this.#options.lengthPenalty));
  }
}

function unroll(chain: Chain): number[] {
  const tokens: number[] = [];
  for (let link: Chain | null = chain; link !== null; link = link.past) tokens.push(link.token);
  return tokens.reverse();
}

function checkOptions(
  { numBeams, n, maxTokens, lengthPenalty, vocabSize, repetitionPenalty }: BeamOptions,
  capacity: number,
): void {
  if (!(Number.isInteger(numBeams) && numBeams >= 1)) {
    throw new RangeError(`Expected numBeams to be an integer of at least 1 but received ${numBeams}`);
  }
  if (!(Number.isInteger(n) && n >= 1 && n <= numBeams)) {
    throw new RangeError(`Expected n to be an integer from 1 to numBeams (${numBeams}) but received ${n}`);
  }
  if (!(Number.isInteger(maxTokens) && maxTokens >= 1)) {
    throw new RangeError(`Expected maxTokens to be an integer of at least 1 but received ${maxTokens}`);
  }
  if (!Number.isFinite(lengthPenalty)) {
    throw new RangeError(`Expected lengthPenalty to be a finite number but received ${lengthPenalty}`);
  }
  if (!(Number.isInteger(vocabSize) && vocabSize >= capacity)) {
    throw new RangeError(
      `Expected vocabSize to be an integer of at least ${capacity}, what ${numBeams} beams choose from, but received ${vocabSize}`,
    );
  }
  checkPenalty(repetitionPenalty);
}
