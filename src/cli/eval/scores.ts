/** Scores as people read them, and as programs do: under coco-caption's names, so that two outputs can be laid side by side. */
import type { CaptionScores } from '../../evaluation/captions.js';

/** A label and its value. */
export type Row = readonly [string, string];

/** The scores as they stand in the JSON that is printed. */
export function plainScores({ bleu1, bleu2, bleu3, bleu4, rougeL, cider, images, bleu }: CaptionScores) {
  const { testLength, referenceLength, guess, correct } = bleu;
  return {
    bleu_1: bleu1,
    bleu_2: bleu2,
    bleu_3: bleu3,
    bleu_4: bleu4,
    rouge_l: rougeL,
    cider,
    images,
    bleu_counts: { testlen: testLength, reflen: referenceLength, guess, correct },
  };
}

export function scoreRows({ bleu1, bleu2, bleu3, bleu4, rougeL, cider }: CaptionScores): Row[] {
  const scores = { 'BLEU-1': bleu1, 'BLEU-2': bleu2, 'BLEU-3': bleu3, 'BLEU-4': bleu4, 'ROUGE-L': rougeL, CIDEr: cider };
  return Object.entries(scores).map(([label, score]) => [label, score.toFixed(3)]);
}

/** What has to be known to read the scores. */
export function notesOn({ images }: CaptionScores): string[] {
  return images === 1 ? ['CIDEr of one image is 0 by definition: it weighs words by how few of the images have them.'] : [];
}

/** A headline, rows with their values to the right, and notes. */
export function tableOf(headline: string, rows: readonly Row[], notes: readonly string[]): string {
  const label = Math.max(...rows.map(([text]) => text.length));
  const value = Math.max(...rows.map(([, text]) => text.length));
  const lines = rows.map(([name, score]) => `  ${name.padEnd(label)}  ${score.padStart(value)}`);
  return [headline, '', ...lines, ...(notes.length > 0 ? ['', ...notes] : [])].join('\n');
}

/** `1 image`, `1,000 images`. */
export function countOf(count: number, noun: string): string {
  return `${count.toLocaleString('en-US')} ${noun}${count === 1 ? '' : 's'}`;
}
