/**
 * One sequence's next token from its logits, with the decisions of transformers' `generate`: repetition penalty, then greedy, or
 * temperature, top-k, top-p and a draw.
 *
 * A sampler belongs to one sequence and sees nothing but that sequence's logits, so a token depends on (seed, choice, position,
 * logits) and never on the batch. It runs once a row a step over the whole vocabulary: its buffers live as long as it does, and
 * neither top-k nor top-p sorts the vocabulary.
 */
import { AppError } from '../errors.js';
import { drawSeed, uniforms } from './random.js';

export interface Sampling {
  /** 0 = greedy. */
  readonly temperature: number;
  /** 0 = off. */
  readonly topK: number;
  /** 1 = off. */
  readonly topP: number;
  /** 1 = off; over prompt and generated tokens. */
  readonly repetitionPenalty: number;
  /** null draws one. */
  readonly seed: number | null;
}

/** What a draw chooses from. Token ids come in no particular order; probabilities are positive and add up to 1. */
export interface Distribution {
  readonly tokenIds: readonly number[];
  readonly probabilities: readonly number[];
}

export class Sampler {
  readonly #sampling: Sampling;
  readonly #vocabSize: number;
  readonly #uniform: () => number;
  /** Ids that the repetition penalty touches. */
  readonly #seen = new Set<number>();
  /** The penalised copy of the logits; empty where there is no penalty. */
  readonly #scores: Float32Array; // [vocab]
  /** Tokens that a draw may still choose, and their weights relative to the best token's 1; empty for greedy. */
  readonly #kept: Ranking; // [vocab]

  /**
   * `choice` tells the samples of one request apart: each has its own stream of random numbers.
   * Prompt ids past the vocabulary are ignored, as transformers does (an embedding may be longer than the output layer).
   * Throws RangeError for parameters outside their range.
   */
  constructor(sampling: Sampling, vocabSize: number, promptIds: readonly number[], choice: number) {
    checkSampling(sampling);
    this.#sampling = sampling;
    this.#vocabSize = vocabSize;
    this.#uniform = uniforms(sampling.seed ?? drawSeed(), choice);
    this.#kept = new Ranking(sampling.temperature === 0 ? 0 : vocabSize);
    this.#scores = new Float32Array(sampling.repetitionPenalty === 1 ? 0 : vocabSize);
    for (const id of promptIds) this.#remember(id);
  }

  /**
   * The next token of the sequence, which the repetition penalty sees from then on.
   * `logits` [vocab] is only read. Throws AppError `internal` where it holds NaN or +Infinity, or nothing above -Infinity:
   * the model failed for this row, and no other row need care.
   */
  next(logits: Float32Array): number {
    const scores = this.#penalize(logits);
    const best = argmax(scores);
    const token = this.#sampling.temperature === 0 ? best : this.#draw(scores, best);
    this.#remember(token);
    return token;
  }

  /** What `next` would choose from, given these logits; changes nothing. Throws as `next` does. */
  distribution(logits: Float32Array): Distribution {
    const scores = this.#penalize(logits);
    const best = argmax(scores);
    if (this.#sampling.temperature === 0) return { tokenIds: [best], probabilities: [1] };
    const total = this.#warp(scores, best);
    const { ids, keys, size } = this.#kept;
    return {
      tokenIds: [...ids.subarray(0, size)],
      probabilities: Array.from(keys.subarray(0, size), (weight) => weight / total),
    };
  }

  #penalize(logits: Float32Array): Float32Array {
    if (logits.length !== this.#vocabSize) {
      throw new RangeError(`Expected ${this.#vocabSize} logits but received ${logits.length}`);
    }
    if (this.#sampling.repetitionPenalty === 1) return logits;
    this.#scores.set(logits);
    for (const id of this.#seen) this.#scores[id] = penalized(logits[id] as number, this.#sampling.repetitionPenalty);
    return this.#scores;
  }

  /** One uniform number a call, whatever the candidates: the n-th token always reads the n-th number of the stream. */
  #draw(scores: Float32Array, best: number): number {
    let target = this.#uniform() * this.#warp(scores, best);
    const { ids, keys, size } = this.#kept;
    for (let at = 0; at < size; at += 1) {
      target -= keys[at] as number;
      if (target < 0) return ids[at] as number;
    }
    return ids[size - 1] as number; // rounding left a hair's breadth past the last one
  }

  /** Leaves the tokens that pass temperature, top-k and top-p in #kept, and returns the sum of their weights. */
  #warp(scores: Float32Array, best: number): number {
    const { temperature, topK, topP } = this.#sampling;
    const kept = this.#kept;
    const floor = topK > 0 && topK < scores.length ? this.#kthLargest(scores, topK) : -Infinity;
    const peak = scores[best] as number;
    const { keys, ids } = kept;
    let size = 0;
    let total = 0;
    for (let id = 0; id < scores.length; id += 1) {
      const score = scores[id] as number;
      if (score < floor) continue;
      const weight = decay((score - peak) / temperature);
      if (weight === 0) continue;
      keys[size] = weight;
      ids[size] = id;
      size += 1;
      total += weight;
    }
    kept.size = size;
    return topP < 1 ? this.#nucleus(total, topP) : total;
  }

  /** Temperature keeps the order, so top-k may look at bare scores. Ties with the k-th stay in, as in TopKLogitsWarper. */
  #kthLargest(scores: Float32Array, k: number): number {
    const kept = this.#kept;
    kept.size = 0;
    for (let id = 0; id < scores.length; id += 1) kept.offer(scores[id] as number, id, k);
    return kept.keys[0] as number;
  }

  /**
   * TopPLogitsWarper: from the least likely token up, drop while the dropped mass stays within 1 - p; the best token always stays.
   * A token lighter than the n-th part of that mass goes unordered, for n of them cannot exceed it. The rest is split around a
   * pivot, as quickselect does, and only the half that holds the boundary is split again: no sort, linear in what is left.
   */
  #nucleus(total: number, topP: number): number {
    const kept = this.#kept;
    const { keys, ids } = kept;
    let budget = (1 - topP) * total;
    const light = budget / kept.size; // at most 1, the best token's weight: that one stays
    let size = 0;
    for (let at = 0; at < kept.size; at += 1) {
      const weight = keys[at] as number;
      if (weight < light) {
        budget -= weight;
        continue;
      }
      keys[size] = weight;
      ids[size] = ids[at] as number;
      size += 1;
    }
    kept.size = size;
    let from = 0; // what is before it goes
    let to = size; // what is at it or after it stays
    while (from < to) {
      const cut = kept.split(from, to);
      const mass = sum(keys.subarray(from, cut));
      if (mass > budget) {
        to = cut;
        continue;
      }
      budget -= mass;
      from = cut;
      const pivot = keys[cut] as number;
      if (pivot > budget || cut === size - 1) break;
      budget -= pivot;
      from = cut + 1;
    }
    keys.copyWithin(0, from, size);
    ids.copyWithin(0, from, size);
    kept.size = size - from;
    return sum(keys.subarray(0, kept.size));
  }

  #remember(id: number): void {
    if (this.#sampling.repetitionPenalty !== 1 && id < this.#vocabSize) this.#seen.add(id);
  }
}

/**
 * (key, id) pairs in one order: a higher key ranks first, and of equal keys the lower id. Every choice among tokens uses this
 * order, so a tie never depends on how a search happened to walk. `offer` and `dropWorst` keep the pairs as a binary heap, the
 * worst on top; whoever needs no heap writes `keys`, `ids` and `size` directly.
 */
export class Ranking {
  readonly keys: Float64Array;
  readonly ids: Int32Array;
  size = 0;

  constructor(capacity: number) {
    this.keys = new Float64Array(capacity);
    this.ids = new Int32Array(capacity);
  }

  /** Keeps the pair where it is among the best `limit` offered so far. */
  offer(key: number, id: number, limit: number): void {
    if (this.size < limit) this.#rise(key, id);
    else if (this.#isBelow(0, key, id)) this.#sink(0, key, id);
  }

  /** Removes the pair on top. */
  dropWorst(): void {
    this.size -= 1;
    if (this.size > 0) this.#sink(0, this.keys[this.size] as number, this.ids[this.size] as number);
  }

  /**
   * Moves what ranks below a pivot, the pair in the middle of [from, to), before it, and the others after it. Returns where the
   * pivot is then. The pairs are no heap afterwards.
   */
  split(from: number, to: number): number {
    const last = to - 1;
    this.#swap((from + last) >> 1, last);
    const key = this.keys[last] as number;
    const id = this.ids[last] as number;
    let cut = from;
    for (let at = from; at < last; at += 1) {
      if (this.#isBelow(at, key, id)) {
        this.#swap(at, cut);
        cut += 1;
      }
    }
    this.#swap(cut, last);
    return cut;
  }

  /** Whether the pair at `at` ranks below (key, id). */
  #isBelow(at: number, key: number, id: number): boolean {
    const own = this.keys[at] as number;
    return own < key || (own === key && (this.ids[at] as number) > id);
  }

  /** Adds the pair at the end and lifts it above all that rank better. */
  #rise(key: number, id: number): void {
    let at = this.size;
    this.size += 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.#isBelow(parent, key, id)) break;
      this.#put(at, this.keys[parent] as number, this.ids[parent] as number);
      at = parent;
    }
    this.#put(at, key, id);
  }

  /** Puts the pair in place of the one at `at`, or under it where others rank worse. */
  #sink(at: number, key: number, id: number): void {
    const { keys, ids, size } = this;
    let hole = at;
    for (let child = 2 * hole + 1; child < size; child = 2 * hole + 1) {
      const right = child + 1;
      if (right < size && this.#isBelow(right, keys[child] as number, ids[child] as number)) child = right;
      if (!this.#isBelow(child, key, id)) break;
      this.#put(hole, keys[child] as number, ids[child] as number);
      hole = child;
    }
    this.#put(hole, key, id);
  }

  #put(at: number, key: number, id: number): void {
    this.keys[at] = key;
    this.ids[at] = id;
  }

  #swap(a: number, b: number): void {
    const key = this.keys[a] as number;
    const id = this.ids[a] as number;
    this.#put(a, this.keys[b] as number, this.ids[b] as number);
    this.#put(b, key, id);
  }
}

/**
 * Index of the largest score, the lowest on ties. -Infinity is a legal score (a masked token).
 * Throws AppError `internal` for NaN, +Infinity, or no finite score at all: nothing can be chosen from those.
 */
export function argmax(scores: Float32Array): number {
  let best = -1;
  let peak = -Infinity;
  for (let id = 0; id < scores.length; id += 1) {
    const score = scores[id] as number;
    if (score > peak) {
      peak = score;
      best = id;
    } else if (!(score <= peak)) {
      throw unusable(`NaN at token ${id}`);
    }
  }
  if (best === -1) throw unusable(`-Infinity at all ${scores.length} tokens`);
  if (peak === Infinity) throw unusable(`Infinity at token ${best}`);
  return best;
}

/** 2^(j / 1024) and 2^-k: see `decay`. */
const FRACTIONS = Float64Array.from({ length: 1024 }, (_, j) => 2 ** (j / 1024));
const POWERS = Float64Array.from({ length: 1024 }, (_, k) => 2 ** -k);
const STEP = Math.LN2 / 1024;

/**
 * e^x for x from 0 down, within 1e-13 of it; 0 below -708, where it leaves the normal numbers.
 * Math.exp takes most of a softmax over a large vocabulary; this is three times as fast: x is split into n steps of ln 2 / 1024
 * and a rest so small that four terms of its series do.
 */
export function decay(x: number): number {
  if (x < -708) return 0;
  const n = (x / STEP - 0.5) | 0;
  const rest = x - n * STEP;
  return (FRACTIONS[n & 1023] as number) * (POWERS[-(n >> 10)] as number) * (1 + rest * (1 + rest * (0.5 + rest / 6)));
}

function sum(values: Float64Array): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

function unusable(received: string): AppError {
  return new AppError(
    'internal',
    `Expected logits to be finite or -Infinity, with at least one finite, but received ${received}`,
  );
}

/** RepetitionPenaltyLogitsProcessor, in its float32: a penalty above 1 lowers the score on either side of zero. */
export function penalized(score: number, penalty: number): number {
  const factor = Math.fround(penalty);
  return Math.fround(score < 0 ? score * factor : score / factor);
}

function checkSampling({ temperature, topK, topP, repetitionPenalty }: Sampling): void {
  if (!(temperature >= 0 && temperature < Infinity)) {
    throw new RangeError(`Expected temperature to be a finite number of at least 0 but received ${temperature}`);
  }
  if (!(Number.isInteger(topK) && topK >= 0)) {
    throw new RangeError(`Expected topK to be an integer of at least 0 but received ${topK}`);
  }
  if (!(topP >= 0 && topP <= 1)) {
    throw new RangeError(`Expected topP to be a number from 0 to 1 but received ${topP}`);
  }
  checkPenalty(repetitionPenalty);
}

/** Throws RangeError where float32 arithmetic could not use it. */
export function checkPenalty(repetitionPenalty: number): void {
  if (!(Math.fround(repetitionPenalty) > 0 && Math.fround(repetitionPenalty) < Infinity)) {
    throw new RangeError(`Expected repetitionPenalty to be a finite number above 0 but received ${repetitionPenalty}`);
  }
}
