/**
 * BLEU of a whole set: clipped n-gram precision and a penalty for brevity (Papineni et al., ACL 2002), as coco-caption's `BleuScorer`
 * computes it: the length of the closest reference, and its two constants, without which scores of few captions differ.
 */
import { countNgrams, ORDERS, type Sample } from './ngrams.js';

export interface BleuCounts {
  /** Words in all captions, and in the reference of each that is closest in length. */
  readonly testLength: number;
  readonly referenceLength: number;
  /** N-grams in all captions, and those of them that the references have; of 1, 2, 3 and 4 words. */
  readonly guess: readonly number[];
  readonly correct: readonly number[];
}

/** Keeps a precision of nothing at zero, and a set without n-grams from dividing by it. */
const TINY = 1e-15;
const SMALL = 1e-9;

export function countBleu(samples: readonly Sample[]): BleuCounts {
  let testLength = 0;
  let referenceLength = 0;
  const guess = ORDERS.map(() => 0);
  const correct = ORDERS.map(() => 0);
  for (const { caption, references } of samples) {
    testLength += caption.length;
    referenceLength += closest(
      caption.length,
      references.map(({ length }) => length),
    );
    const counted = references.map(countNgrams);
    for (const [index, counts] of countNgrams(caption).entries()) {
      for (const [ngram, count] of counts) {
        const most = Math.max(...counted.map((reference) => reference[index]?.get(ngram) ?? 0));
        guess[index] = (guess[index] ?? 0) + count;
        correct[index] = (correct[index] ?? 0) + Math.min(count, most);
      }
    }
  }
  return { testLength, referenceLength, guess, correct };
}

/** BLEU-1 to BLEU-4: geometric means of the precisions up to each order, times the penalty exp(1 - reference / test length). */
export function bleu({ testLength, referenceLength, guess, correct }: BleuCounts): number[] {
  const ratio = (testLength + TINY) / (referenceLength + SMALL);
  const penalty = ratio < 1 ? Math.exp(1 - 1 / ratio) : 1;
  let product = 1;
  return ORDERS.map((order, index) => {
    product *= ((correct[index] ?? 0) + TINY) / ((guess[index] ?? 0) + SMALL);
    return product ** (1 / order) * penalty;
  });
}

/** Of two equally close lengths, the shorter. */
function closest(length: number, candidates: readonly number[]): number {
  return candidates.reduce((best, candidate) => {
    const nearer = Math.abs(candidate - length) - Math.abs(best - length);
    return nearer < 0 || (nearer === 0 && candidate < best) ? candidate : best;
  });
}
