/** Scores of captions against references, as coco-caption gives them: one tokeniser before all metrics, and the same images in each. */
import { type BleuCounts, bleu, countBleu } from './bleu.js';
import { cider } from './cider.js';
import { rougeL } from './rouge.js';
import { tokenize } from './tokens.js';

export type ImageId = number | string;

export interface CaptionScores {
  readonly bleu1: number;
  readonly bleu2: number;
  readonly bleu3: number;
  readonly bleu4: number;
  readonly rougeL: number;
  readonly cider: number;
  /** What BLEU was computed from: the figures to compare where two scores differ. */
  readonly bleu: BleuCounts;
  readonly images: number;
}

/**
 * Scores one caption an image. Only images that have a result count; others' references are ignored.
 * Throws RangeError where there is no result, or no reference for one.
 */
export function evaluateCaptions(
  references: ReadonlyMap<ImageId, readonly string[]>,
  results: ReadonlyMap<ImageId, string>,
): CaptionScores {
  if (results.size === 0) throw new RangeError('Expected a result at least but received none');
  const samples = [...results].map(([image, caption]) => {
    const texts = references.get(image) ?? [];
    if (texts.length === 0) throw new RangeError(`Expected a reference of image ${image} at least but received none`);
    return { caption: tokenize(caption), references: texts.map(tokenize) };
  });
  const counts = countBleu(samples);
  const [bleu1 = 0, bleu2 = 0, bleu3 = 0, bleu4 = 0] = bleu(counts);
  return { bleu1, bleu2, bleu3, bleu4, rougeL: rougeL(samples), cider: cider(samples), bleu: counts, images: samples.length };
}
