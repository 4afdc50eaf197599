/**
 * Markup as a type of its own. Captions, file names and reasons come from strangers' data: whatever is put into an `html` template is
 * escaped unless it is markup already, so that forgetting to escape is no mistake that one can make.
 */

/** Text that is markup. Only `html` and `trusted` make it. */
class Markup {
  constructor(readonly text: string) {}
}

export type { Markup };

export type Content = Markup | string | number | readonly Content[];

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** A template of markup; its values are text, or markup from other templates. Attributes must be quoted. */
export function html(strings: TemplateStringsArray, ...values: readonly Content[]): Markup {
  return new Markup(strings.map((part, index) => part + render(values[index] ?? '')).join(''));
}

/** Our own constant text, as it stands. */
export function trusted(text: string): Markup {
  return new Markup(text);
}

/** The first `maxLength` UTF-16 units of a text, with an ellipsis where some are missing. Never half a pair of surrogates. */
export function clip(text: string, maxLength: number): string {
  if (text.length <= maxLength) return text;
  return `${text.slice(0, maxLength).replace(/\p{Surrogate}$/u, '')}…`;
}

function render(content: Content): string {
  if (content instanceof Markup) return content.text;
  if (typeof content === 'string') return escapeText(content);
  if (typeof content === 'number') return String(content);
  if (Array.isArray(content)) return content.map(render).join('');
  throw new TypeError(`Expected text or markup but received ${typeof content}`);
}

/** Control characters and halves of surrogate pairs are no legal HTML: they show as the replacement character. */
function escapeText(text: string): string {
  return text
    .replace(/[&<>"']/g, (character) => ENTITIES[character] ?? '')
    .replace(/[\p{Control}\p{Surrogate}]/gu, (character) => ('\t\n\r'.includes(character) ? character : '\ufffd'));
}
