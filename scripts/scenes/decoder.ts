/**
 * The decoder before its first step: a llama's config.json, a tokenizer learned from the text that it is going to read, and that text.
 * `graft train --method full --init random` does the rest.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { replaceFile } from '../../src/tensor/folder.js';
import { trainBpe } from './bpe.js';
import { documentsOf } from './corpus.js';

/** Tokens of the vocabulary: every word that captions have is one, and a few hundred bytes and pieces spell any other. */
const VOCABULARY = 800;
/** Sixty-four image tokens, a prompt and a long caption, twice over. */
const MAX_TOKENS = 256;
const SPECIAL = ['<s>', '</s>'] as const;

const CONFIG = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: 128,
  intermediate_size: 384,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  hidden_act: 'silu',
  rms_norm_eps: 1e-6,
  rope_theta: 10_000,
  tie_word_embeddings: true,
  attention_bias: false,
  mlp_bias: false,
  max_position_embeddings: MAX_TOKENS,
  bos_token_id: 0,
  eos_token_id: 1,
  torch_dtype: 'float32',
};

/** Writes the checkpoint's folder without weights, and the text of so many scenes into `corpus`; `done` hears of every scene. */
export async function prepareDecoder(
  { checkpoint, corpus, seed, scenes }: { checkpoint: string; corpus: string; seed: number; scenes: number },
  done: (scenes: number) => void,
): Promise<void> {
  const texts = Array.from({ length: scenes }, (_, index) => {
    done(index + 1);
    return documentsOf(seed, index);
  }).flat();
  const { tokenizer, tokenizerConfig } = trainBpe(texts, { vocabulary: VOCABULARY, special: SPECIAL, maxTokens: MAX_TOKENS });
  const config = { ...CONFIG, vocab_size: Object.keys(tokenizer.model.vocab).length };
  await mkdir(checkpoint, { recursive: true });
  const json = (value: object): string => `${JSON.stringify(value, null, 2)}\n`;
  await writeFile(join(checkpoint, 'config.json'), json(config));
  await writeFile(join(checkpoint, 'tokenizer.json'), json(tokenizer));
  await writeFile(join(checkpoint, 'tokenizer_config.json'), json(tokenizerConfig));
  // Last, and whole or not there: it says that this stage is done.
  await replaceFile(corpus, new TextEncoder().encode(texts.map((text) => `${JSON.stringify({ text })}\n`).join('')));
}
