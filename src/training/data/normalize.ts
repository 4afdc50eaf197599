/**
 * How captions are spelt before they are learned. Five people write "A dog runs .", "a dog runs" and "A dog runs": a small model spends
 * itself on the difference unless there is none.
 */

export type Normalization = 'none' | 'caption';

/**
 * `none`: trimmed, nothing else. `caption`: lower case, single spaces, none before punctuation, exactly one full stop at the end, which also
 * takes the place of a final `!` or `?`. Empty where nothing remains.
 */
export function normalize(text: string, style: Normalization): string {
  if (style === 'none') return text.trim();
  const words = text
    .toLowerCase()
    .replaceAll(/\s+/g, ' ')
    .replaceAll(/ (?=[.,!?;:'])/g, '');
  const end = endOf(words);
  return end === 0 ? '' : `${words.slice(0, end).trimStart()}.`;
}

/** Length without the marks that end it. A loop, for a pattern that ends in `$` would begin again at every mark of a long row of them. */
function endOf(text: string): number {
  let end = text.length;
  while (end > 0 && ' .!?'.includes(text.charAt(end - 1))) end--;
  return end;
}
