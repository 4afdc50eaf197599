/**
 * Token ids to text while they come. What was handed on is never taken back: half a character is held until its other bytes are there,
 * and text that may still become a stop string is held until it is one or cannot be one. Whatever the pieces, they add up to the text that
 * decoding all ids at once gives (cut before the first stop string).
 */
import type { Tokenizer } from '../backbone/tokenizer.js';

/** Tokens kept as left context: decoders treat the first token of a text differently (they strip its space). */
const CONTEXT_TOKENS = 4;
/** Past this the window moves on, so that a step costs the same however long the text is. */
const WINDOW_TOKENS = 12;
/** What bytes decode to that are not (yet) UTF-8. */
const UNFINISHED = /\uFFFD+$/;

export interface TextStreamOptions {
  /** Text that ends the stream; it is not part of the text. */
  readonly stop?: readonly string[];
  /** Ids that came before, for the spacing of the first new token; their text is not part of the stream. */
  readonly prefixIds?: readonly number[];
}

export class TextStream {
  readonly #tokenizer: Tokenizer;
  readonly #filter: StopFilter;
  readonly #ids: number[];
  readonly #prefixLength: number;
  #windowStart = 0;
  /** UTF-16 units of the window's text that the filter has. */
  #windowTaken: number;
  /** Everything that the filter has. */
  #text = '';

  constructor(tokenizer: Tokenizer, { stop = [], prefixIds = [] }: TextStreamOptions = {}) {
    this.#tokenizer = tokenizer;
    this.#filter = new StopFilter(stop);
    this.#ids = prefixIds.filter((id) => !tokenizer.isSpecial(id)).slice(-CONTEXT_TOKENS);
    const prefix = tokenizer.decode(this.#ids);
    this.#prefixLength = this.#windowTaken = prefix.length;
  }

  /** Whether a stop string came; nothing more will. */
  get stopped(): boolean {
    return this.#filter.stopped;
  }

  /** Takes one token and returns the text that became final with it, possibly none. */
  push(tokenId: number): string {
    if (this.stopped || this.#tokenizer.isSpecial(tokenId)) return '';
    this.#ids.push(tokenId);
    const text = this.#tokenizer.decode(this.#ids.slice(this.#windowStart));
    const whole = text.replace(UNFINISHED, '');
    const fresh = whole.slice(this.#windowTaken);
    this.#windowTaken = Math.max(this.#windowTaken, whole.length);
    if (whole.length === text.length && this.#ids.length - this.#windowStart > WINDOW_TOKENS) this.#moveWindow();
    this.#text += fresh;
    return this.#filter.push(fresh);
  }

  /** No more tokens: the text that was held back, as far as it is before a stop string. */
  finish(): string {
    if (this.stopped) return '';
    const all = this.#tokenizer.decode(this.#ids).slice(this.#prefixLength);
    return this.#filter.push(all.slice(this.#text.length)) + this.#filter.finish();
  }

  #moveWindow(): void {
    this.#windowStart = this.#ids.length - CONTEXT_TOKENS;
    this.#windowTaken = this.#tokenizer.decode(this.#ids.slice(this.#windowStart)).length;
  }
}

/**
 * Ends a text before the stop string that is complete first. That depends on the characters alone, not on the pieces they come in:
 * of several that end at the same character the longest counts.
 */
export class StopFilter {
  readonly #stops: readonly string[];
  #held = '';
  stopped = false;

  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((stop) => stop !== '');
  }

  /** The part of the text that no stop string can claim any more. */
  push(text: string): string {
    if (this.stopped) return '';
    const pending = this.#held + text;
    const start = this.#firstStop(pending);
    if (start !== undefined) {
      this.stopped = true;
      this.#held = '';
      return pending.slice(0, start);
    }
    const safe = pending.length - this.#possible(pending);
    this.#held = pending.slice(safe);
    return pending.slice(0, safe);
  }

  /** What was held back after all. */
  finish(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }

  #firstStop(text: string): number | undefined {
    let first: { start: number; end: number } | undefined;
    for (const stop of this.#stops) {
      const start = text.indexOf(stop);
      const end = start + stop.length;
      if (start >= 0 && (!first || end < first.end || (end === first.end && start < first.start))) first = { start, end };
    }
    return first?.start;
  }

  /** Length of the longest end of the text that begins a stop string. */
  #possible(text: string): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
        if (text.endsWith(stop.slice(0, length))) longest = length;
      }
    }
    return longest;
  }
}
