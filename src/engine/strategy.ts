/**
 * How the tokens of one request are chosen, whatever it asks for: independent samples or a beam search, behind one step.
 * A strategy owns no rows: it takes logits of its live sequences and says which sequence each next one continues, and with which token.
 */
import { BeamSearch } from './beam.js';
import { type TokenLogprobs, tokenLogprobs } from './logprobs.js';
import { Sampler } from './sampler.js';

export interface Sampling {
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly repetitionPenalty: number;
  readonly seed: number | null;
  readonly n: number;
  readonly numBeams: number;
  readonly lengthPenalty: number;
  readonly earlyStopping: boolean;
  /** How many of the most likely tokens are told with each that is drawn; absent: nothing is. Not for beams. */
  readonly logprobs?: number;
}

/** A token that can be shown: choice, token id, and how likely it was where that is asked for. */
export type Emission = readonly [number, number, TokenLogprobs?];

/** The most likely token every time: one sequence, the same whatever the seed. */
export const GREEDY: Omit<Sampling, 'maxTokens'> = {
  temperature: 0,
  topK: 0,
  topP: 1,
  repetitionPenalty: 1,
  seed: 0,
  n: 1,
  numBeams: 1,
  lengthPenalty: 1,
  earlyStopping: false,
};

export interface Draw {
  /** The live sequences from here on: sequence i continues old sequence parents[i] with tokens[i]. Empty: all is finished. */
  readonly parents: readonly number[];
  readonly tokens: readonly number[];
  /** What can be shown already. */
  readonly emitted: readonly Emission[];
}

export interface Choice {
  readonly index: number;
  /** Without the end-of-sequence token. */
  readonly tokenIds: readonly number[];
  readonly finishReason: 'stop' | 'length';
}

export interface Strategy {
  /** The most live sequences at any time. */
  readonly width: number;
  /** `logits`: one [vocabSize] a live sequence, in order; a single one at the start. Throws AppError where they are not numbers. */
  advance(logits: readonly Float32Array[]): Draw;
  /** What has been generated, once all is finished. */
  choices(): readonly Choice[];
  /** Generated tokens so far, all sequences together. */
  readonly generated: number;
}

export interface Vocabulary {
  readonly size: number;
  readonly eosIds: readonly number[];
}

/** The most sequences of a request that are alive at any time. */
export function widthOf({ numBeams, n }: Sampling): number {
  return numBeams > 1 ? numBeams : n;
}

export function strategyFor(sampling: Sampling, vocabulary: Vocabulary, promptIds: readonly number[]): Strategy {
  return sampling.numBeams > 1 ? new Beams(sampling, vocabulary, promptIds) : new Samples(sampling, vocabulary, promptIds);
}

/** `n` sequences that know nothing of each other; a finished one leaves. */
class Samples implements Strategy {
  readonly width: number;
  readonly #maxTokens: number;
  readonly #logprobs: number | undefined;
  readonly #eos: ReadonlySet<number>;
  readonly #samplers: readonly Sampler[];
  readonly #tokens: number[][];
  readonly #reasons: ('stop' | 'length')[];
  #live: number[];
  #started = false;

  constructor(sampling: Sampling, vocabulary: Vocabulary, promptIds: readonly number[]) {
    this.width = widthOf(sampling);
    this.#maxTokens = sampling.maxTokens;
    this.#logprobs = sampling.logprobs;
    this.#eos = new Set(vocabulary.eosIds);
    this.#live = Array.from({ length: sampling.n }, (_, choice) => choice);
    this.#samplers = this.#live.map((choice) => new Sampler(sampling, vocabulary.size, promptIds, choice));
    this.#tokens = this.#live.map(() => []);
    this.#reasons = this.#live.map(() => 'length');
  }

  advance(logits: readonly Float32Array[]): Draw {
    const parents: number[] = [];
    const tokens: number[] = [];
    const emitted: Emission[] = [];
    const next: number[] = [];
    this.#live.forEach((choice, position) => {
      // All samples start from the one row that holds the prompt.
      const parent = this.#started ? position : 0;
      const own = logits[parent] as Float32Array;
      const token = (this.#samplers[choice] as Sampler).next(own);
      if (this.#eos.has(token)) {
        this.#reasons[choice] = 'stop';
        return;
      }
      const sequence = this.#tokens[choice] as number[];
      sequence.push(token);
      emitted.push(this.#logprobs === undefined ? [choice, token] : [choice, token, tokenLogprobs(own, token, this.#logprobs)]);
      if (sequence.length >= this.#maxTokens) return;
      parents.push(parent);
      tokens.push(token);
      next.push(choice);
    });
    this.#started = true;
    this.#live = next;
    return { parents, tokens, emitted };
  }

  choices(): Choice[] {
    return this.#tokens.map((tokenIds, index) => ({ index, tokenIds, finishReason: this.#reasons[index] as 'stop' | 'length' }));
  }

  get generated(): number {
    return this.#tokens.reduce((total, { length }) => total + length, 0);
  }
}

/** Beam search; nothing can be shown before the end, since any beam may still win. */
class Beams implements Strategy {
  readonly width: number;
  readonly #search: BeamSearch;
  #started = false;
  #steps = 0;

  constructor(sampling: Sampling, { size, eosIds }: Vocabulary, promptIds: readonly number[]) {
    const { maxTokens, numBeams, lengthPenalty, earlyStopping, repetitionPenalty, n } = sampling;
    this.width = widthOf(sampling);
    this.#search = new BeamSearch({
      numBeams,
      lengthPenalty,
      earlyStopping,
      eosIds,
      maxTokens,
      vocabSize: size,
      repetitionPenalty,
      promptIds,
      n,
    });
  }

  advance(logits: readonly Float32Array[]): Draw {
    const step = this.#started ? this.#search.step(logits) : this.#search.start(logits[0] as Float32Array);
    this.#started = true;
    this.#steps++;
    return { ...step, emitted: [] };
  }

  choices(): Choice[] {
    return this.#search.result().map(({ tokenIds, finishReason }, index) => ({ index, tokenIds, finishReason }));
  }

  get generated(): number {
    return this.#steps * this.width;
  }
}
