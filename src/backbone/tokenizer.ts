/**
 * Text to token ids and back, from a checkpoint's `tokenizer.json`. A thin layer over Hugging Face's pure JavaScript tokenizers that pins
 * down what the rest relies on: BOS comes first, decoding never rewrites spaces, and the end-of-sequence ids are the model's own.
 */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { Tokenizer as TokenizersJs } from '@huggingface/tokenizers';
import { z } from 'zod';
import { AppError } from '../errors.js';
import { quote } from '../tensor/json.js';
import { parseWith, readJson, readText, requireJson } from './config.js';
import { Pieces } from './pieces.js';

/** The largest in use (256,000 tokens, with merges) are about 35 MB. */
const MAX_TOKENIZER_BYTES = 128 * 1024 * 1024;

/** What we use of the package, whose own declarations do not resolve under Node's module rules. */
interface RawTokenizer {
  encode(text: string, options?: { readonly add_special_tokens: boolean }): { readonly ids: number[] };
  decode(ids: readonly number[], options: { readonly clean_up_tokenization_spaces: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
  get_vocab(): ReadonlyMap<string, number>;
  get_added_tokens_decoder(): ReadonlyMap<number, { readonly special: boolean }>;
}
const Raw = TokenizersJs as unknown as new (tokenizer: object, config: object) => RawTokenizer;

const tokenId = z.int().nonnegative();
const ids = z
  .union([tokenId, z.array(tokenId)], {
    error: ({ input }) => `Expected a token id, or a list of them, but received ${quote(input)}`,
  })
  .nullish();
const ModelConfig = z.looseObject({ bos_token_id: tokenId.nullish(), eos_token_id: ids });
const AddedToken = z.looseObject({ content: z.string() });
const TokenizerConfig = z.looseObject({
  bos_token: z
    .union([z.string(), AddedToken], {
      error: ({ input }) => `Expected a token, or an object with its content, but received ${quote(input)}`,
    })
    .nullish(),
});

export class Tokenizer {
  readonly #raw: RawTokenizer;
  readonly #special: ReadonlySet<number>;
  readonly bosId: number;
  /** Every id that ends a sequence: those of config.json and of generation_config.json. */
  readonly eosIds: readonly number[];
  readonly vocabSize: number;
  /** UTF-16 units of the longest token: no text of n of them is fewer than n / longestToken tokens. */
  readonly longestToken: number;
  /** The bytes of single tokens; null where the decoder is of a kind that has none. */
  readonly pieces: Pieces | null;

  private constructor(
    { raw, vocabSize, longestToken, special, pieces }: BuiltTokenizer,
    bosId: number,
    eosIds: readonly number[],
  ) {
    this.#raw = raw;
    this.bosId = bosId;
    this.eosIds = eosIds;
    this.vocabSize = vocabSize;
    this.longestToken = longestToken;
    this.pieces = pieces;
    this.#special = special;
  }

  /** Reads `tokenizer.json` and the token ids of the config files beside it. Throws `invalid_file`. */
  static async open(folder: string): Promise<Tokenizer> {
    const tokenizer = await readTokenizer(folder);
    const tokenizerConfig = await readJson(folder, 'tokenizer_config.json');
    const config = await requireJson(folder, 'config.json');
    const generation = await readJson(folder, 'generation_config.json');
    const model = parseWith(ModelConfig, config, path.join(folder, 'config.json'));
    const sampling = parseWith(ModelConfig, generation ?? {}, path.join(folder, 'generation_config.json'));
    const { bos_token: bosToken } = parseWith(TokenizerConfig, tokenizerConfig ?? {}, path.join(folder, 'tokenizer_config.json'));

    const bosName = typeof bosToken === 'string' ? bosToken : bosToken?.content;
    const built = build(folder, tokenizer, tokenizerConfig ?? {}, bosName);
    const bosId = built.bosId ?? model.bos_token_id;
    if (bosId == null)
      throw new AppError(
        'invalid_file',
        `${folder}: Expected a beginning-of-sequence token in tokenizer.json or config.json but there is none`,
      );
    const eosIds = new Set([model.eos_token_id ?? [], sampling.eos_token_id ?? []].flat());
    return new Tokenizer(built, bosId, [...eosIds]);
  }

  /** Token ids of a text, BOS first whatever the post-processor adds; `''` gives BOS alone. */
  encode(text: string): number[] {
    const { ids } = this.#raw.encode(text);
    return ids[0] === this.bosId ? ids : [this.bosId, ...ids];
  }

  /** Token ids of a text that says itself how it begins: nothing is put before it, and special tokens are where it names them. */
  encodeWhole(text: string): number[] {
    return this.#raw.encode(text, { add_special_tokens: false }).ids;
  }

  /**
   * The ids with which `text` continues a prompt, as generation would: the prompt's own ids stand, even where a tokenizer would merge
   * across the seam. A space is put between the two where the prompt does not end in one.
   */
  encodeAfter(prompt: string, text: string): number[] {
    const given = this.encode(prompt);
    const separator = prompt === '' || /\s$/.test(prompt) ? '' : ' ';
    const whole = this.encode(`${prompt}${separator}${text}`);
    return given.every((id, index) => whole[index] === id) ? whole.slice(given.length) : this.encode(text).slice(1);
  }

  /** The text of ids without special tokens, exactly as the decoder of tokenizer.json gives it. */
  decode(ids: readonly number[]): string {
    const plain = ids.filter((id) => !this.#special.has(id));
    return plain.length === 0 ? '' : this.#raw.decode(plain, { clean_up_tokenization_spaces: false });
  }

  /** A token as the vocabulary writes it. */
  tokenOf(id: number): string {
    return this.#raw.id_to_token(id) ?? '';
  }

  /** Whether `decode` leaves this id out. */
  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }
}

async function readTokenizer(folder: string): Promise<object> {
  const file = path.join(folder, 'tokenizer.json');
  const info = await stat(file).catch(() => undefined);
  if (!info?.isFile()) throw new AppError('invalid_file', `${folder}: Expected a file tokenizer.json but there is none`);
  if (info.size > MAX_TOKENIZER_BYTES)
    throw new AppError('invalid_file', `${file}: Expected at most ${MAX_TOKENIZER_BYTES} bytes but received ${info.size}`);
  const value = await parseFile(file);
  if (typeof value !== 'object' || value === null)
    throw new AppError('invalid_file', `${file}: Expected an object but received ${quote(value)}`);
  return value;
}

/** Not through `parseJson`: a vocabulary has hundreds of thousands of keys, and the package takes the last of two as Python does. */
async function parseFile(file: string): Promise<unknown> {
  const text = await readText(file);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new AppError(
      'invalid_file',
      `${file}: Expected JSON but received text that does not parse (${(error as Error).message})`,
    );
  }
}

/** What the package makes of a file, asked once for everything that it may fail at. */
interface BuiltTokenizer {
  readonly raw: RawTokenizer;
  readonly vocabSize: number;
  readonly longestToken: number;
  readonly special: ReadonlySet<number>;
  readonly pieces: Pieces | null;
  /** What it puts before a text, or else the id of the token of this name. */
  readonly bosId: number | undefined;
}

function build(folder: string, tokenizer: object, config: object, bosName: string | undefined): BuiltTokenizer {
  try {
    const raw = new Raw(tokenizer, config);
    const vocabulary = raw.get_vocab();
    let longestToken = 1;
    for (const token of vocabulary.keys()) longestToken = Math.max(longestToken, token.length);
    const added = raw.get_added_tokens_decoder();
    const special = [...added].filter(([, { special: isSpecial }]) => isSpecial).map(([id]) => id);
    const decoder: unknown = 'decoder' in tokenizer ? tokenizer.decoder : null;
    const pieces = Pieces.of(
      decoder,
      (id) => raw.id_to_token(id),
      (id) => added.has(id),
    );
    const bosId = raw.encode('').ids[0] ?? (bosName === undefined ? undefined : raw.token_to_id(bosName));
    return { raw, vocabSize: vocabulary.size, longestToken, special: new Set(special), pieces, bosId };
  } catch (error) {
    const file = path.join(folder, 'tokenizer.json');
    throw new AppError(
      'invalid_file',
      `${file}: Expected a tokenizer that can be built but received: ${(error as Error).message}`,
      { cause: error },
    );
  }
}
