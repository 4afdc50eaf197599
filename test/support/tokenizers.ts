/** Small tokenizers of the kinds that real checkpoints use, written as the files that a checkpoint folder holds. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';

const BYTES = Array.from({ length: 256 }, (_, byte) => byte);

export interface TokenizerFiles {
  readonly tokenizer: object;
  readonly tokenizerConfig?: object;
  readonly config?: object;
  readonly generationConfig?: object;
}

export async function writeTokenizer(folder: string, files: TokenizerFiles): Promise<string> {
  await mkdir(folder, { recursive: true });
  const { tokenizer, tokenizerConfig = {}, config = { bos_token_id: 1, eos_token_id: 2 }, generationConfig } = files;
  await writeFile(path.join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  await writeFile(path.join(folder, 'tokenizer_config.json'), JSON.stringify(tokenizerConfig));
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(config));
  if (generationConfig) await writeFile(path.join(folder, 'generation_config.json'), JSON.stringify(generationConfig));
  return folder;
}

/** Llama 2's kind: SentencePiece's ▁ for spaces, and a token for every byte that has no other. */
export function byteFallbackTokenizer(): object {
  const bytes = BYTES.map((byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
  const symbols = [
    '<unk>',
    '<s>',
    '</s>',
    ...bytes,
    '▁',
    ...Array.from('abcdefghijklmnopqrstuvwxyz.,!'),
    '▁a',
    'th',
    'the',
    '▁the',
    '▁▁',
  ];
  return tokenizerJson(symbols, ['▁ a', 't h', 'th e', '▁ the', '▁ ▁'], {
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    post_processor: bosFirst('<s>', 1),
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    byteFallback: true,
  });
}

/** GPT-2's and SmolLM's kind: every byte is a visible character, and no token is put before the text. */
export function byteLevelTokenizer(): object {
  const symbols = ['<unk>', '<|endoftext|>', '<|end|>', ...BYTES.map(byteCharacter), 'Ġa', 'th', 'the', 'Ġthe'];
  return tokenizerJson(symbols, ['Ġ a', 't h', 'th e', 'Ġ the'], {
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: false, use_regex: true },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    byteFallback: false,
  });
}

/** GPT-2's table: printable bytes are themselves, the others come from 256 upwards. */
function byteCharacter(byte: number): string {
  const printable = (value: number) => (value >= 33 && value <= 126) || (value >= 161 && value <= 172) || value >= 174;
  if (printable(byte)) return String.fromCodePoint(byte);
  return String.fromCodePoint(256 + BYTES.slice(0, byte).filter((value) => !printable(value)).length);
}

function bosFirst(token: string, id: number): object {
  const parts = [{ SpecialToken: { id: token, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }];
  return {
    type: 'TemplateProcessing',
    single: parts,
    pair: parts,
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
}

interface Parts {
  readonly normalizer: object | null;
  readonly pre_tokenizer: object | null;
  readonly post_processor: object;
  readonly decoder: object;
  readonly byteFallback: boolean;
}

/** The first three symbols are the special tokens. */
function tokenizerJson(symbols: readonly string[], merges: readonly string[], { byteFallback, ...parts }: Parts): object {
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: symbols.slice(0, 3).map((content, id) => ({ id, content, ...flags })),
    ...parts,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: byteFallback ? '<unk>' : null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: byteFallback,
      byte_fallback: byteFallback,
      vocab: Object.fromEntries(symbols.map((symbol, id) => [symbol, id])),
      merges,
    },
  };
}
