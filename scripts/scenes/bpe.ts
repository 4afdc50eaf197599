/**
 * Learns a byte-level BPE tokenizer from text, as the two JSON files of a checkpoint folder. It gives what the BpeTrainer of Hugging Face's
 * `tokenizers` gives, ties included, so that whoever doubts it can train the same one there. Distinct words are counted first and pairs are
 * counted anew only in words that change: a million words of captions are a few hundred distinct ones.
 */

export interface BpeOptions {
  /** Most tokens: special ones, the 256 bytes, and merges until it is full or no pair is seen twice. */
  readonly vocabulary: number;
  /** Their ids are 0, 1 and so on. The third, where there is one, is for padding. */
  readonly special: readonly [bos: string, eos: string, ...others: string[]];
  /** The longest sequence that the model takes. */
  readonly maxTokens: number;
}

export interface TokenizerFiles {
  /** tokenizer.json, by the names that it has there. */
  readonly tokenizer: {
    readonly [part: string]: unknown;
    readonly model: {
      readonly [part: string]: unknown;
      readonly vocab: Readonly<Record<string, number>>;
      readonly merges: readonly Merge[];
    };
  };
  /** tokenizer_config.json */
  readonly tokenizerConfig: Readonly<Record<string, unknown>>;
}

type Merge = readonly [left: string, right: string];

/** Tokens of the word so far, and how often the text has it. */
interface Word {
  tokens: readonly number[];
  readonly count: number;
}

interface Pair {
  readonly left: number;
  readonly right: number;
  count: number;
  /** Every word that has it, and some that no longer do. */
  readonly words: Set<Word>;
}

/** A pair that is seen once says nothing of the language. */
const MIN_COUNT = 2;

/** GPT-2's words: a space belongs to what follows. Unicode's white space, as in `tokenizers`: JavaScript's `\s` is another set. */
const WORD =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** GPT-2's visible character of each byte: printable bytes are themselves, the others come from 256 upwards. */
const CHARACTERS = visibleBytes();

/** Throws RangeError where the vocabulary has no room for the special tokens and the bytes. */
export function trainBpe(lines: Iterable<string>, { vocabulary, special, maxTokens }: BpeOptions): TokenizerFiles {
  const ids = new Map<string, number>();
  for (const token of [...special, ...[...CHARACTERS].sort()]) if (!ids.has(token)) ids.set(token, ids.size);
  if (vocabulary < ids.size) throw new RangeError(`Expected a vocabulary of at least ${ids.size} but received ${vocabulary}`);
  const merges = learn(wordsOf(lines, ids), ids, vocabulary);
  const [bos, eos, pad] = special;
  return {
    tokenizer: tokenizerJson(ids, merges, special),
    tokenizerConfig: {
      tokenizer_class: 'PreTrainedTokenizerFast',
      bos_token: bos,
      eos_token: eos,
      ...(pad === undefined ? {} : { pad_token: pad }),
      clean_up_tokenization_spaces: false,
      model_max_length: maxTokens,
    },
  };
}

function wordsOf(lines: Iterable<string>, ids: ReadonlyMap<string, number>): Word[] {
  const counts = new Map<string, number>();
  for (const line of lines) for (const word of line.match(WORD) ?? []) counts.set(word, (counts.get(word) ?? 0) + 1);
  const byteIds = CHARACTERS.map((character) => ids.get(character) as number);
  return [...counts].map(([word, count]) => ({
    tokens: Array.from(Buffer.from(word), (byte) => byteIds[byte] as number),
    count,
  }));
}

/** Merges the most frequent pair again and again, and adds what comes of it to `ids`. */
function learn(words: readonly Word[], ids: Map<string, number>, vocabulary: number): Merge[] {
  const names = [...ids.keys()];
  const pairs = new Pairs(vocabulary);
  for (const word of words) pairs.count(word, 1);
  const merges: Merge[] = [];
  while (ids.size < vocabulary) {
    const best = pairs.best();
    if (best === undefined || best.count < MIN_COUNT) break;
    const merge = [names[best.left] as string, names[best.right] as string] as const;
    const name = merge.join('');
    // Two merges may spell the same token, and a merge may spell a special one.
    const id = ids.get(name) ?? names.push(name) - 1;
    ids.set(name, id);
    merges.push(merge);
    for (const word of best.words) {
      pairs.count(word, -1);
      word.tokens = merged(word.tokens, best, id);
      pairs.count(word, 1);
    }
  }
  return merges;
}

/** From the left, so that of three alike the first two are merged. */
function merged(tokens: readonly number[], { left, right }: Pair, id: number): number[] {
  const result: number[] = [];
  for (let index = 0; index < tokens.length; index++) {
    const token = tokens[index] as number;
    const found = token === left && tokens[index + 1] === right;
    result.push(found ? id : token);
    if (found) index++;
  }
  return result;
}

class Pairs {
  readonly #vocabulary: number;
  readonly #pairs = new Map<number, Pair>();

  /** `vocabulary`: every id is less. */
  constructor(vocabulary: number) {
    this.#vocabulary = vocabulary;
  }

  /** Adds a word's pairs as they are now (`sign` 1), or takes them away (-1). */
  count(word: Word, sign: 1 | -1): void {
    for (let index = 1; index < word.tokens.length; index++)
      this.#add(word.tokens[index - 1] as number, word.tokens[index] as number, sign * word.count, word);
  }

  /** The most frequent pair; of equals the one of the lowest left id, then of the lowest right id. A scan: there are some hundreds. */
  best(): Pair | undefined {
    let best: Pair | undefined;
    for (const pair of this.#pairs.values())
      if (best === undefined || pair.count > best.count || (pair.count === best.count && this.#key(pair) < this.#key(best)))
        best = pair;
    return best;
  }

  #add(left: number, right: number, count: number, word: Word): void {
    const key = this.#key({ left, right });
    const pair = this.#pairs.get(key) ?? { left, right, count: 0, words: new Set() };
    pair.count += count;
    pair.words.add(word);
    if (pair.count === 0) this.#pairs.delete(key);
    else this.#pairs.set(key, pair);
  }

  /** In the order of left ids, then of right ones. */
  #key({ left, right }: Pick<Pair, 'left' | 'right'>): number {
    return left * this.#vocabulary + right;
  }
}

function tokenizerJson(
  ids: ReadonlyMap<string, number>,
  merges: readonly Merge[],
  special: BpeOptions['special'],
): TokenizerFiles['tokenizer'] {
  const [bos] = special;
  const begin = (type: number) => ({ SpecialToken: { id: bos, type_id: type } });
  const sequence = (id: 'A' | 'B', type: number) => ({ Sequence: { id, type_id: type } });
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: special.map((content, id) => ({ id, content, ...flags })),
    // None, so that decoding gives back the very text.
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: true },
    post_processor: {
      type: 'TemplateProcessing',
      single: [begin(0), sequence('A', 0)],
      pair: [begin(0), sequence('A', 0), begin(1), sequence('B', 1)],
      special_tokens: { [bos]: { id: bos, ids: [ids.get(bos)], tokens: [bos] } },
    },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(ids),
      merges,
    },
  };
}

function visibleBytes(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    return String.fromCodePoint(printable ? byte : next++);
  });
}
