/** What each family makes of config.json files as checkpoints have them, and the rotary settings in every spelling. */
import { describe, expect, it } from 'vitest';
import { readGpt2 } from '../../../../src/backbone/language/gpt2.js';
import { readLlama } from '../../../../src/backbone/language/llama.js';
import { readMistral } from '../../../../src/backbone/language/mistral.js';
import { readOpt } from '../../../../src/backbone/language/opt.js';
import { readPhi3 } from '../../../../src/backbone/language/phi3.js';
import { readQwen2 } from '../../../../src/backbone/language/qwen2.js';
import { readQwen3 } from '../../../../src/backbone/language/qwen3.js';

const COMMON = { attention_dropout: 0, hidden_act: 'silu', initializer_range: 0.02, torch_dtype: 'bfloat16', use_cache: true };

const SMOLLM2 = {
  ...COMMON,
  architectures: ['LlamaForCausalLM'],
  attention_bias: false,
  bos_token_id: 0,
  eos_token_id: 0,
  hidden_size: 576,
  intermediate_size: 1536,
  is_llama_config: true,
  max_position_embeddings: 8192,
  mlp_bias: false,
  model_type: 'llama',
  num_attention_heads: 9,
  num_hidden_layers: 30,
  num_key_value_heads: 3,
  pretraining_tp: 1,
  rms_norm_eps: 1e-5,
  rope_interleaved: false,
  rope_scaling: null,
  rope_theta: 100_000,
  tie_word_embeddings: true,
  transformers_version: '4.40.1',
  vocab_size: 49_152,
};

const LLAMA3 = {
  factor: 32,
  high_freq_factor: 4,
  low_freq_factor: 1,
  original_max_position_embeddings: 8192,
  rope_type: 'llama3',
};
const LLAMA_3_2 = {
  ...COMMON,
  architectures: ['LlamaForCausalLM'],
  attention_bias: false,
  head_dim: 64,
  hidden_size: 2048,
  intermediate_size: 8192,
  max_position_embeddings: 131_072,
  mlp_bias: false,
  model_type: 'llama',
  num_attention_heads: 32,
  num_hidden_layers: 16,
  num_key_value_heads: 8,
  pretraining_tp: 1,
  rms_norm_eps: 1e-5,
  rope_scaling: LLAMA3,
  rope_theta: 500_000,
  tie_word_embeddings: true,
  vocab_size: 128_256,
};

const MISTRAL = {
  ...COMMON,
  architectures: ['MistralForCausalLM'],
  hidden_size: 4096,
  intermediate_size: 14_336,
  max_position_embeddings: 32_768,
  model_type: 'mistral',
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  sliding_window: 4096,
  tie_word_embeddings: false,
  vocab_size: 32_000,
};

const QWEN2_5 = {
  ...COMMON,
  architectures: ['Qwen2ForCausalLM'],
  hidden_size: 896,
  intermediate_size: 4864,
  max_position_embeddings: 32_768,
  max_window_layers: 24,
  model_type: 'qwen2',
  num_attention_heads: 14,
  num_hidden_layers: 24,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-6,
  rope_theta: 1_000_000,
  sliding_window: 32_768,
  tie_word_embeddings: true,
  use_mrope: false,
  use_sliding_window: false,
  vocab_size: 151_936,
};

const QWEN3 = {
  ...COMMON,
  architectures: ['Qwen3ForCausalLM'],
  attention_bias: false,
  head_dim: 128,
  hidden_size: 1024,
  intermediate_size: 3072,
  max_position_embeddings: 40_960,
  max_window_layers: 28,
  model_type: 'qwen3',
  num_attention_heads: 16,
  num_hidden_layers: 28,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-6,
  rope_scaling: null,
  rope_theta: 1_000_000,
  sliding_window: null,
  tie_word_embeddings: true,
  use_sliding_window: false,
  vocab_size: 151_936,
};

const PHI3 = {
  ...COMMON,
  architectures: ['Phi3ForCausalLM'],
  attention_bias: false,
  embd_pdrop: 0,
  hidden_size: 3072,
  intermediate_size: 8192,
  max_position_embeddings: 4096,
  model_type: 'phi3',
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 32,
  original_max_position_embeddings: 4096,
  resid_pdrop: 0,
  rms_norm_eps: 1e-5,
  rope_scaling: null,
  rope_theta: 10_000,
  sliding_window: 2047,
  tie_word_embeddings: false,
  vocab_size: 32_064,
};

const GPT2 = {
  activation_function: 'gelu_new',
  architectures: ['GPT2LMHeadModel'],
  attn_pdrop: 0.1,
  bos_token_id: 50_256,
  embd_pdrop: 0.1,
  eos_token_id: 50_256,
  initializer_range: 0.02,
  layer_norm_epsilon: 1e-5,
  model_type: 'gpt2',
  n_ctx: 1024,
  n_embd: 768,
  n_head: 12,
  n_layer: 12,
  n_positions: 1024,
  resid_pdrop: 0.1,
  summary_type: 'cls_index',
  task_specific_params: { 'text-generation': { do_sample: true, max_length: 50 } },
  vocab_size: 50_257,
};

const OPT_350M = {
  _remove_final_layer_norm: false,
  activation_dropout: 0,
  activation_function: 'relu',
  architectures: ['OPTForCausalLM'],
  attention_dropout: 0,
  bos_token_id: 2,
  do_layer_norm_before: false,
  dropout: 0.1,
  eos_token_id: 2,
  ffn_dim: 4096,
  hidden_size: 1024,
  init_std: 0.02,
  layerdrop: 0,
  max_position_embeddings: 2048,
  model_type: 'opt',
  num_attention_heads: 16,
  num_hidden_layers: 24,
  pad_token_id: 1,
  prefix: '</s>',
  torch_dtype: 'float16',
  use_cache: true,
  vocab_size: 50_272,
  word_embed_proj_dim: 512,
};

describe('checkpoints people have, with the number of parameters that they are known to have', () => {
  it.each([
    ['SmolLM2 135M', readLlama, SMOLLM2, 134_515_008, 8192],
    ['Llama 3.2 1B', readLlama, LLAMA_3_2, 1_235_814_400, 131_072],
    ['Mistral 7B v0.1', readMistral, MISTRAL, 7_241_732_096, 4096],
    ['Phi 3 mini 4k', readPhi3, PHI3, 3_821_079_552, 2047],
    ['Qwen 2.5 0.5B', readQwen2, QWEN2_5, 494_032_768, 32_768],
    ['Qwen 3 0.6B', readQwen3, QWEN3, 596_049_920, 40_960],
    ['GPT-2', readGpt2, GPT2, 124_439_808, 1024],
    ['GPT-2 XL', readGpt2, { ...GPT2, n_embd: 1600, n_head: 25, n_layer: 48 }, 1_557_611_200, 1024],
    ['OPT 125M', readOpt, { model_type: 'opt' }, 125_239_296, 2048],
    ['OPT 350M', readOpt, OPT_350M, 331_196_416, 2048],
  ])('%s', (_, read, config, parameterCount, maxPositions) => {
    expect(read(config, 'config.json')).toMatchObject({ family: config.model_type, parameterCount, maxPositions });
  });
});

describe('a window', () => {
  it('is the longest sequence, where a layer has one', () => {
    const longest = (change: object): number => readQwen2({ ...QWEN2_5, sliding_window: 100, ...change }, 'config').maxPositions;
    expect(longest({})).toBe(32_768);
    expect(longest({ use_sliding_window: true })).toBe(32_768);
    expect(longest({ use_sliding_window: true, max_window_layers: 23 })).toBe(100);
    expect(longest({ use_sliding_window: true, max_window_layers: 23, sliding_window: null })).toBe(32_768);
    const layers = (slides: boolean) =>
      Array.from({ length: 24 }, (_, index) => `${slides && index === 7 ? 'sliding' : 'full'}_attention`);
    expect(longest({ use_sliding_window: true, layer_types: layers(true) })).toBe(100);
    expect(longest({ use_sliding_window: true, max_window_layers: 0, layer_types: layers(false) })).toBe(32_768);
  });

  it('is what mistral has unless it says that it has none', () => {
    const { sliding_window: _, ...silent } = MISTRAL;
    expect(readMistral(silent, 'config').maxPositions).toBe(4096);
    expect(readMistral({ ...silent, sliding_window: null }, 'config').maxPositions).toBe(32_768);
  });
});

describe('rotary positions', () => {
  const frequencies = (change: object): readonly number[] => {
    const { rope_scaling: __, rope_theta: _, ...rest } = LLAMA_3_2;
    return readLlama({ ...rest, ...change }, 'config').rotary?.inverseFrequencies ?? [];
  };
  const { rope_type: type, ...numbers } = LLAMA3;

  it('are the same in every spelling', () => {
    const newest = frequencies({ rope_parameters: { ...LLAMA3, rope_theta: 500_000 } });
    expect(frequencies({ rope_scaling: LLAMA3, rope_theta: 500_000 })).toEqual(newest);
    expect(frequencies({ rope_scaling: { ...numbers, type }, rope_theta: 500_000 })).toEqual(newest);
    expect(frequencies({ rope_parameters: LLAMA3, rope_theta: 500_000 })).toEqual(newest);
    expect(frequencies({ rope_parameters: LLAMA3 })).not.toEqual(newest);
  });

  it('of type linear are all slower by the factor', () => {
    const plain = frequencies({ rope_theta: 500_000 });
    const slowed = frequencies({ rope_scaling: { type: 'linear', factor: 4 }, rope_theta: 500_000 });
    expect(slowed).toEqual(plain.map((each) => each / 4));
  });

  it('of type llama3 begin with the longest sequence where they do not say at which', () => {
    const { original_max_position_embeddings: _, ...silent } = LLAMA3;
    const said = { ...LLAMA3, original_max_position_embeddings: LLAMA_3_2.max_position_embeddings };
    expect(frequencies({ rope_scaling: silent })).toEqual(frequencies({ rope_scaling: said }));
  });

  it.each(['yarn', 'dynamic', 'longrope', 3])('of type %s are refused, with the types that are known', (other) => {
    const received = JSON.stringify(other);
    const sentence = `Expected rotary positions of type default, linear, llama3 but received ${received}`;
    for (const key of ['rope_scaling', 'rope_parameters'])
      for (const spelling of ['type', 'rope_type'])
        expect(() => frequencies({ [key]: { [spelling]: other, factor: 4 } })).toThrow(`config: ${key}.rope_type: ${sentence}`);
  });

  it('of layers that differ are refused', () => {
    const nested = { full_attention: { rope_type: 'default', rope_theta: 1e6 }, sliding_attention: { rope_type: 'default' } };
    expect(() => frequencies({ rope_parameters: nested })).toThrow('default, linear, llama3 but received {"full_attention":');
  });

  it('of the long Phis are refused', () => {
    const long = { ...PHI3, rope_scaling: { type: 'longrope', short_factor: [1], long_factor: [2] } };
    expect(() => readPhi3(long, 'config')).toThrow('but received "longrope"');
  });

  it('that make no sense are refused', () => {
    expect(() => frequencies({ rope_scaling: { ...LLAMA3, high_freq_factor: 1 } })).toThrow(
      'rope_scaling.high_freq_factor: Expected more than low_freq_factor',
    );
    expect(() => frequencies({ rope_scaling: { type } })).toThrow(/factor: .*low_freq_factor: .*high_freq_factor: /);
    expect(() => frequencies({ rope_parameters: { partial_rotary_factor: 0.5 } })).toThrow('Expected every dimension to rotate');
  });
});

describe('gpt2 and opt refuse, in a sentence', () => {
  it.each([
    [
      'add_cross_attention: Expected attention within the text alone: cross-attention is not implemented',
      { add_cross_attention: true },
    ],
    ['n_head: Expected a divisor of n_embd 768 but received 10', { n_head: 10 }],
    ['n_positions: Expected number but received "1024"', { n_positions: '1024' }],
    ['layer_norm_epsilon: ', { layer_norm_epsilon: 0 }],
  ])('%s', (sentence, change) => {
    expect(() => readGpt2({ ...GPT2, ...change }, 'config')).toThrow(`config: ${sentence}`);
  });

  it.each([
    ['num_attention_heads: Expected a divisor of hidden_size 1024 but received 24', { num_attention_heads: 24 }],
    ['do_layer_norm_before: Expected boolean but received 1', { do_layer_norm_before: 1 }],
    ['word_embed_proj_dim: ', { word_embed_proj_dim: 0 }],
  ])('%s', (sentence, change) => {
    expect(() => readOpt({ ...OPT_350M, ...change }, 'config')).toThrow(`config: ${sentence}`);
  });

  it('activations that they do not know, with those that they do', () => {
    const sentence =
      'activation_function: Expected "gelu" or "gelu_new" or "gelu_fast" or "gelu_pytorch_tanh" or "quick_gelu" or "relu" or "silu" but received "tanh"';
    expect(() => readGpt2({ ...GPT2, activation_function: 'tanh' }, 'config')).toThrow(`config: ${sentence}`);
    expect(() => readOpt({ ...OPT_350M, activation_function: 'tanh' }, 'config')).toThrow(`config: ${sentence}`);
  });
});
