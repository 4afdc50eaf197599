/**
 * ROUGE-L: how much of a caption and of its references is a common subsequence (Lin, 2004), as coco-caption's `Rouge` computes it:
 * the best precision and the best recall over the references, be they of different ones, in an F-measure that favours recall.
 */
import type { Sample } from './ngrams.js';

const BETA = 1.2;

/** The mean over all images. */
export function rougeL(samples: readonly Sample[]): number {
  return samples.reduce((sum, sample) => sum + score(sample), 0) / samples.length;
}

function score({ caption, references }: Sample): number {
  const words = orBlank(caption);
  let precision = 0;
  let recall = 0;
  for (const reference of references.map(orBlank)) {
    const common = commonLength(words, reference);
    precision = Math.max(precision, common / words.length);
    recall = Math.max(recall, common / reference.length);
  }
  if (precision === 0 || recall === 0) return 0;
  return ((1 + BETA ** 2) * precision * recall) / (recall + BETA ** 2 * precision);
}

/** coco-caption splits text at spaces: an empty caption is one empty word, and a match for an empty reference. */
function orBlank(words: readonly string[]): readonly string[] {
  return words.length > 0 ? words : [''];
}

/** The length of the longest common subsequence, by rows of the usual table, of which two are kept. */
function commonLength(a: readonly string[], b: readonly string[]): number {
  let above = new Uint32Array(b.length + 1);
  for (const word of a) {
    const row = new Uint32Array(b.length + 1);
    for (const [index, other] of b.entries()) {
      row[index + 1] = word === other ? (above[index] ?? 0) + 1 : Math.max(above[index + 1] ?? 0, row[index] ?? 0);
    }
    above = row;
  }
  return above[b.length] ?? 0;
}
