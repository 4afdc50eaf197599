/** What the metrics compare: the words of captions, and for BLEU and CIDEr the counts of their n-grams. */

/** One image: the words of its caption, and of each of its references. */
export interface Sample {
  readonly caption: readonly string[];
  readonly references: readonly (readonly string[])[];
}

/** The longest n-gram that counts. */
export const ORDERS = [1, 2, 3, 4] as const;

/** How often each n-gram occurs, by its words joined with spaces; which is unique, as no word has one. */
export type Counts = ReadonlyMap<string, number>;

/** The counts of n-grams of 1, 2, 3 and 4 words, in this order. */
export function countNgrams(words: readonly string[]): Counts[] {
  return ORDERS.map((order) => {
    const counts = new Map<string, number>();
    for (let start = 0; start + order <= words.length; start++) {
      const ngram = words.slice(start, start + order).join(' ');
      counts.set(ngram, (counts.get(ngram) ?? 0) + 1);
    }
    return counts;
  });
}
