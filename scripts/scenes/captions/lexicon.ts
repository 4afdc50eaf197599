/** What words mean: the judge's way back from a caption to what it claims. Of phrases that begin alike, the longest one counts. */
import {
  type Background,
  type Colour,
  type Kind,
  MAX_COUNT,
  type Place,
  type Relation,
  type Size,
} from '../../../src/scenes/world.js';

export type Meaning =
  | { readonly is: 'kind'; readonly kind: Kind; readonly number: 'one' | 'many' | 'any' }
  | { readonly is: 'colour'; readonly colour: Colour }
  | { readonly is: 'size'; readonly size: Size }
  | { readonly is: 'count'; readonly count: number }
  | { readonly is: 'place'; readonly place: Place }
  | { readonly is: 'relation'; readonly relation: Relation }
  | { readonly is: 'background'; readonly background: Background }
  /** The end of a clause, or of a thing in a list. */
  | { readonly is: 'break' }
  /** A word that belongs to the language and claims nothing. */
  | { readonly is: 'filler' }
  | { readonly is: 'unknown' };

type Known = Exclude<Meaning, { is: 'unknown' }>;

/** A word and its plural. */
export type Noun = readonly [one: string, many: string];

export class Lexicon {
  /** Whether colours stand behind their noun. */
  readonly colourFollows: boolean;
  readonly #meanings = new Map<string, Known>();
  #longest = 1;

  constructor({ colourFollows = false }: { colourFollows?: boolean } = {}) {
    this.colourFollows = colourFollows;
    this.add({ is: 'break' }, ',', ';', ':', '.', '!', '?');
    for (let count = 1; count <= MAX_COUNT; count++) this.add({ is: 'count', count }, String(count));
  }

  add(meaning: Known, ...phrases: readonly string[]): void {
    for (const phrase of phrases) {
      const words = tokens(phrase);
      this.#longest = Math.max(this.#longest, words.length);
      this.#meanings.set(words.join(' '), meaning);
    }
  }

  /** A list of phrases a meaning. */
  addAll<T extends string>(table: Readonly<Record<T, readonly string[]>>, meaning: (name: T) => Known): void {
    for (const name of Object.keys(table) as T[]) this.add(meaning(name), ...table[name]);
  }

  addNoun(kind: Kind, [one, many]: Noun): void {
    if (one === many) this.add({ is: 'kind', kind, number: 'any' }, one);
    else {
      this.add({ is: 'kind', kind, number: 'one' }, one);
      this.add({ is: 'kind', kind, number: 'many' }, many);
    }
  }

  read(caption: string): Meaning[] {
    const words = tokens(caption);
    const read: Meaning[] = [];
    for (let start = 0; start < words.length; ) {
      const length = this.#phraseAt(words, start);
      read.push(this.#meanings.get(words.slice(start, start + length).join(' ')) ?? { is: 'unknown' });
      start += length;
    }
    return read;
  }

  /** Words in the longest phrase that begins here; 1 where none is known. */
  #phraseAt(words: readonly string[], start: number): number {
    for (let length = Math.min(this.#longest, words.length - start); length > 1; length--)
      if (this.#meanings.has(words.slice(start, start + length).join(' '))) return length;
    return 1;
  }
}

/** Words and marks; an apostrophe or a hyphen parts words and is dropped. */
function tokens(text: string): string[] {
  return (
    text
      .normalize('NFC')
      .toLowerCase()
      .match(/[\p{L}\p{N}]+|[.,;:!?]/gu) ?? []
  );
}
