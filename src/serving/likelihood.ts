/**
 * How likely each token of a text was, as clients read it: with the token's text, bytes and place. Tokens become text late (half a character, or
 * what may still become a stop string, is held back), and so does what is known of them: a token is told when the text that it begins is, and
 * never where a stop string has cut that off.
 */
import type { Tokenizer } from '../backbone/tokenizer.js';
import type { TokenLogprobs } from './protocol.js';

export interface Likelihood {
  /** U+FFFD where its bytes are no whole characters; the name of a special token, which is no text. */
  readonly token: string;
  /** null for a special token. */
  readonly bytes: readonly number[] | null;
  /** May be -Infinity. */
  readonly logprob: number;
}

export interface TokenLikelihood extends Likelihood {
  /** Characters (code points) of the text before it; tokens of one character share it. */
  readonly offset: number;
  /** The most likely tokens in its place, best first. */
  readonly top: readonly Likelihood[];
}

const SPACE = 0x20;
const WHOLE = new TextDecoder('utf-8', { ignoreBOM: true });

export class LikelihoodStream {
  readonly #tokenizer: Tokenizer;
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  /** The text's first token is yet to come, and loses its space. */
  #isAtStart: boolean;
  /** Characters that all tokens so far have made whole. */
  #characters = 0;
  /** Of those, what has been told. */
  #told = 0;
  #held: TokenLikelihood[] = [];

  /** `prefixIds` came before the text. Throws TypeError for a tokenizer without bytes for its tokens. */
  constructor(tokenizer: Tokenizer, prefixIds: readonly number[]) {
    if (tokenizer.pieces === null) throw new TypeError('Expected a tokenizer that says which bytes a token is');
    this.#tokenizer = tokenizer;
    this.#isAtStart = tokenizer.pieces.stripsSpace && prefixIds.every((id) => tokenizer.isSpecial(id));
  }

  /** Takes a token of the text. */
  push(tokenId: number, { logprob, top }: TokenLogprobs): void {
    const own = this.#describe(tokenId, logprob);
    this.#held.push({ ...own, offset: this.#characters, top: top.map(([id, other]) => this.#describe(id, other)) });
    if (own.bytes === null) return;
    this.#isAtStart = false;
    this.#characters += lengthOf(this.#decoder.decode(Uint8Array.from(own.bytes), { stream: true }));
  }

  /** The tokens that begin before the end of the text that has been told, these new pieces of it included. */
  take(text: string): TokenLikelihood[] {
    this.#told += lengthOf(text);
    const end = this.#held.findIndex(({ offset }) => offset >= this.#told);
    return this.#held.splice(0, end === -1 ? this.#held.length : end);
  }

  /** What is left at the end of a text that no stop string has cut. */
  finish(): TokenLikelihood[] {
    return this.#held.splice(0);
  }

  #describe(id: number, logprob: number): Likelihood {
    const { pieces } = this.#tokenizer;
    if (pieces === null || this.#tokenizer.isSpecial(id)) return { token: this.#tokenizer.tokenOf(id), bytes: null, logprob };
    const whole = pieces.bytesOf(id);
    const bytes = this.#isAtStart && whole[0] === SPACE ? whole.subarray(1) : whole;
    return { token: WHOLE.decode(bytes), bytes: [...bytes], logprob };
  }
}

function lengthOf(text: string): number {
  let length = 0;
  for (const _ of text) length++;
  return length;
}
