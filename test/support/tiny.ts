/**
 * A tiny backbone, made from a seed: real files in the real formats (a llama of two layers, a MobileNetV2 of few channels, a BPE tokenizer),
 * so that tests run the real code on something that needs no download. Its weights are random; its captions mean nothing.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import { writeSafetensors } from '../../src/tensor/safetensors.js';
import type { Tensor } from '../../src/tensor/tensor.js';

export const TINY = {
  hiddenSize: 32,
  heads: 2,
  kvHeads: 1,
  layers: 2,
  intermediate: 48,
  imageDim: 128,
  imageTokens: 4,
  imageSize: 64,
  contextLength: 128,
} as const;

/** Standard normal numbers from a seed (Box-Muller). */
export class Gaussian {
  readonly #random;

  constructor(seed: number) {
    this.#random = xoroshiro128plus(seed);
  }

  next(): number {
    return Math.sqrt(-2 * Math.log(this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  /** In (0, 1). */
  uniform(): number {
    return ((this.#random.next() >>> 0) + 0.5) / 2 ** 32;
  }

  array(length: number, deviation: number, mean = 0): Float32Array {
    return Float32Array.from({ length }, () => mean + deviation * this.next());
  }
}

export function tensor(shape: readonly number[], values: Float32Array): Tensor {
  return { dtype: 'float32', shape, data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
}

/** Writes `backbone.json`, `language/` and `vision/` into a folder and returns the folder. */
export async function makeTinyBackbone(folder: string, seed = 1): Promise<string> {
  const language = path.join(folder, 'language');
  const vision = path.join(folder, 'vision');
  await mkdir(language, { recursive: true });
  await mkdir(vision, { recursive: true });
  await writeFile(
    path.join(folder, 'backbone.json'),
    JSON.stringify({ format: 'graft-backbone/1', name: 'tiny', vision: 'vision', language: 'language' }),
  );
  await makeLanguage(language, seed);
  await makeVision(vision, seed + 1);
  return folder;
}

async function makeLanguage(folder: string, seed: number): Promise<void> {
  const { hiddenSize: d, heads, kvHeads, layers, intermediate, contextLength } = TINY;
  const tokenizer = tinyTokenizer();
  const vocabSize = Object.keys(tokenizer.model.vocab).length;
  const random = new Gaussian(seed);
  const tensors = new Map<string, Tensor>();
  const matrix = (name: string, rows: number, columns: number): void => {
    tensors.set(name, tensor([rows, columns], random.array(rows * columns, 1.5 / Math.sqrt(columns))));
  };
  const norm = (name: string): void => {
    tensors.set(name, tensor([d], random.array(d, 0.1, 1)));
  };
  const kv = (kvHeads * d) / heads;
  // Large enough that the next token is rarely a near tie.
  tensors.set('model.embed_tokens.weight', tensor([vocabSize, d], random.array(vocabSize * d, 1)));
  for (let layer = 0; layer < layers; layer++) {
    const prefix = `model.layers.${layer}`;
    norm(`${prefix}.input_layernorm.weight`);
    norm(`${prefix}.post_attention_layernorm.weight`);
    matrix(`${prefix}.self_attn.q_proj.weight`, d, d);
    matrix(`${prefix}.self_attn.k_proj.weight`, kv, d);
    matrix(`${prefix}.self_attn.v_proj.weight`, kv, d);
    matrix(`${prefix}.self_attn.o_proj.weight`, d, d);
    matrix(`${prefix}.mlp.gate_proj.weight`, intermediate, d);
    matrix(`${prefix}.mlp.up_proj.weight`, intermediate, d);
    matrix(`${prefix}.mlp.down_proj.weight`, d, intermediate);
  }
  norm('model.norm.weight');
  await writeSafetensors(path.join(folder, 'model.safetensors'), tensors);
  const config = {
    model_type: 'llama',
    hidden_size: d,
    intermediate_size: intermediate,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    vocab_size: vocabSize,
    max_position_embeddings: contextLength,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000,
    hidden_act: 'silu',
    tie_word_embeddings: true,
    bos_token_id: 1,
    eos_token_id: 2,
  };
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(config));
  await writeFile(path.join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  await writeFile(
    path.join(folder, 'tokenizer_config.json'),
    JSON.stringify({ bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>' }),
  );
}

/** Characters, and a few merges, in llama's manner (a word starts with ▁). */
function tinyTokenizer() {
  const merges = [
    '▁ a',
    '▁ t',
    't h',
    'h e',
    'i n',
    'e r',
    'o n',
    'r e',
    'a t',
    'd o',
    '▁ c',
    '▁ s',
    '▁t he',
    '▁ d',
    'do g',
    '▁ do',
    '▁c at',
    '▁ b',
  ];
  const symbols = [
    '<unk>',
    '<s>',
    '</s>',
    '▁',
    ...Array.from('abcdefghijklmnopqrstuvwxyz0123456789.,!?-\'":äöüéèçñ'),
    ...merges.map((merge) => merge.replace(' ', '')),
  ];
  const vocab = Object.fromEntries([...new Set(symbols)].map((symbol, id) => [symbol, id]));
  const special = (id: number, content: string) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [special(0, '<unk>'), special(1, '<s>'), special(2, '</s>')],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [
        { SpecialToken: { id: '<s>', type_id: 0 } },
        { Sequence: { id: 'A', type_id: 0 } },
        { Sequence: { id: 'B', type_id: 1 } },
      ],
      special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
    },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: '<unk>',
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: false,
      vocab,
      merges,
    },
  };
}

async function makeVision(folder: string, seed: number): Promise<void> {
  const random = new Gaussian(seed);
  const tensors = new Map<string, Tensor>();
  const conv = (name: string, out: number, perGroup: number, kernel: number): void => {
    const layer = `mobilenet_v2.${name}`;
    tensors.set(
      `${layer}.convolution.weight`,
      tensor(
        [out, perGroup, kernel, kernel],
        random.array(out * perGroup * kernel ** 2, 1.5 / Math.sqrt(perGroup * kernel ** 2)),
      ),
    );
    tensors.set(`${layer}.normalization.weight`, tensor([out], random.array(out, 0.1, 1)));
    tensors.set(`${layer}.normalization.bias`, tensor([out], random.array(out, 0.1)));
    tensors.set(`${layer}.normalization.running_mean`, tensor([out], random.array(out, 0.1)));
    tensors.set(`${layer}.normalization.running_var`, tensor([out], random.array(out, 0.1, 1).map(Math.abs)));
  };
  // Depth multiplier 0.1 of the family's channels, none below 8.
  const channels = [8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 16, 16, 16, 16, 16, 16, 32];
  conv('conv_stem.first_conv', 8, 3, 3);
  conv('conv_stem.conv_3x3', 8, 1, 3);
  conv('conv_stem.reduce_1x1', 8, 8, 1);
  for (let block = 0; block < 16; block++) {
    const from = channels[block] as number;
    conv(`layer.${block}.expand_1x1`, from * 6, from, 1);
    conv(`layer.${block}.conv_3x3`, from * 6, 1, 3);
    conv(`layer.${block}.reduce_1x1`, channels[block + 1] as number, from * 6, 1);
  }
  conv('conv_1x1', TINY.imageDim, 32, 1);
  await writeSafetensors(path.join(folder, 'model.safetensors'), tensors);
  const config = {
    model_type: 'mobilenet_v2',
    depth_multiplier: 0.1,
    finegrained_output: false,
    tf_padding: true,
    hidden_act: 'relu6',
    image_size: TINY.imageSize,
  };
  const processor = {
    image_processor_type: 'MobileNetV2ImageProcessor',
    do_resize: true,
    size: { height: TINY.imageSize, width: TINY.imageSize },
    resample: 2,
    do_center_crop: false,
    do_rescale: true,
    rescale_factor: 1 / 255,
    do_normalize: true,
    image_mean: [0.5, 0.5, 0.5],
    image_std: [0.5, 0.5, 0.5],
  };
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(config));
  await writeFile(path.join(folder, 'preprocessor_config.json'), JSON.stringify(processor));
}
