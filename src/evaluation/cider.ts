/**
 * CIDEr: how alike a caption and its references are in the n-grams that few images share (Vedantam et al., CVPR 2015), as
 * coco-caption's `Cider` computes it, which is the paper's CIDEr-D: clipped counts, and a Gaussian penalty on the difference in length.
 * Document frequencies come from the references at hand: scores of different sets do not compare, and one image scores 0.
 */
import { type Counts, countNgrams, type Sample } from './ngrams.js';

const SIGMA = 6;
const SCALE = 10;

/** Weighted n-grams of one order, and their Euclidean norm. */
interface Vector {
  readonly weights: Counts;
  readonly norm: number;
}

/** The mean over all images; 10 would be the most. */
export function cider(samples: readonly Sample[]): number {
  const references = samples.map((sample) => sample.references.map(countNgrams));
  const weigh = weigher(references);
  const scores = samples.map(({ caption }, image) => {
    const counts = countNgrams(caption);
    return mean((references[image] ?? []).map((reference) => similarity(counts, reference, weigh)));
  });
  return SCALE * mean(scores);
}

/** Frequency in the caption times log(images / images whose references have the n-gram). */
function weigher(references: readonly (readonly Counts[])[][]): (counts: Counts) => Vector {
  const images = new Map<string, number>();
  for (const image of references) {
    for (const ngram of new Set(image.flatMap((orders) => orders.flatMap((counts) => [...counts.keys()])))) {
      images.set(ngram, (images.get(ngram) ?? 0) + 1);
    }
  }
  const most = Math.log(references.length);
  return (counts) => {
    const weights = new Map<string, number>();
    let squares = 0;
    for (const [ngram, count] of counts) {
      const weight = count * (most - Math.log(images.get(ngram) ?? 1));
      weights.set(ngram, weight);
      squares += weight ** 2;
    }
    return { weights, norm: Math.sqrt(squares) };
  };
}

/** Mean over the orders of the clipped cosine, times the penalty. Both count pairs of words, which is how coco-caption measures length. */
function similarity(caption: readonly Counts[], reference: readonly Counts[], weigh: (counts: Counts) => Vector): number {
  const difference = pairs(caption) - pairs(reference);
  const cosines = caption.map((counts, index) => cosine(weigh(counts), weigh(reference[index] ?? new Map())));
  return mean(cosines) * Math.exp(-(difference ** 2) / (2 * SIGMA ** 2));
}

function cosine(caption: Vector, reference: Vector): number {
  let product = 0;
  for (const [ngram, weight] of caption.weights) {
    const other = reference.weights.get(ngram) ?? 0;
    product += Math.min(weight, other) * other;
  }
  const norms = caption.norm * reference.norm;
  return norms === 0 ? product : product / norms;
}

function pairs(orders: readonly Counts[]): number {
  return [...(orders[1]?.values() ?? [])].reduce((sum, count) => sum + count, 0);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
