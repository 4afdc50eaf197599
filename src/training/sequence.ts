/**
 * Examples as token ids: [BOS][prompt][caption][EOS], an image's tokens to come after BOS. The prompt is tokenised exactly as serving will
 * tokenise it, and the caption as the text that continues it, so that the model meets in training what it meets at work.
 */
import type { Tokenizer } from '../backbone/tokenizer.js';
import { AppError } from '../errors.js';
import type { BadRow, Example } from './data/example.js';

export interface SequenceOptions {
  readonly prompt: string;
  /** Tokens that an image takes. */
  readonly imageTokens: number;
  /** The longest row, image included; the final EOS is predicted and takes no place. */
  readonly maxTokens: number;
  /** Of an example with several captions, all or the first one. */
  readonly captions: 'all' | 'first';
}

/** Many sequences in few arrays: a million of them are no million objects. */
export class Sequences {
  readonly #ids: Int32Array;
  readonly #starts: Int32Array;
  /** Index of the example that each came from. */
  readonly examples: Int32Array;
  /** Tokens before the first one that is predicted: BOS and prompt. */
  readonly given: number;

  constructor(ids: readonly (readonly number[])[], examples: readonly number[], given: number) {
    this.examples = Int32Array.from(examples);
    this.given = given;
    this.#starts = new Int32Array(ids.length + 1);
    ids.forEach((each, index) => {
      this.#starts[index + 1] = (this.#starts[index] as number) + each.length;
    });
    this.#ids = new Int32Array(this.#starts[ids.length] as number);
    ids.forEach((each, index) => {
      this.#ids.set(each, this.#starts[index]);
    });
  }

  get count(): number {
    return this.examples.length;
  }

  /** BOS, prompt, caption, EOS. */
  ids(index: number): Int32Array {
    return this.#ids.subarray(this.#starts[index], this.#starts[index + 1]);
  }

  /** Tokens of each row without its image: all ids but the last, which is only predicted. */
  lengths(): Int32Array {
    return Int32Array.from({ length: this.count }, (_, index) => this.ids(index).length - 1);
  }
}

/** Tokenises examples. A caption that does not fit is left out and told; throws `invalid_config` where the prompt itself does not. */
export function tokenize(
  examples: readonly Example[],
  tokenizer: Tokenizer,
  { prompt, imageTokens, maxTokens, captions }: SequenceOptions,
): { readonly sequences: Sequences; readonly bad: readonly BadRow[] } {
  const given = tokenizer.encode(prompt);
  const [eos] = tokenizer.eosIds;
  if (eos === undefined)
    throw new AppError(
      'invalid_config',
      'Expected a checkpoint that names an end-of-sequence token (eos_token_id) but it names none',
    );
  const room = maxTokens - imageTokens;
  if (room <= 0)
    throw new AppError(
      'invalid_config',
      `Expected rows of more than the ${imageTokens} tokens that an image takes but received at most ${maxTokens}`,
    );
  if (given.length > room)
    throw new AppError(
      'invalid_config',
      `Expected a prompt of at most ${room} tokens (of ${maxTokens}, the image takes ${imageTokens}) but received ${given.length}`,
    );
  const ids: number[][] = [];
  const owners: number[] = [];
  const bad: BadRow[] = [];
  examples.forEach((example, owner) => {
    for (const caption of captions === 'first' ? example.captions.slice(0, 1) : example.captions) {
      const row = [...given, ...tokenizer.encodeAfter(prompt, caption), eos];
      if (row.length - 1 > room) {
        const length = row.length - 1 + imageTokens;
        bad.push({ origin: example.origin, reason: `Expected a row of at most ${maxTokens} tokens but received ${length}` });
        continue;
      }
      ids.push(row);
      owners.push(owner);
    }
  });
  return { sequences: new Sequences(ids, owners, given.length), bad };
}
