/** What each family makes of config.json files as checkpoints have them, and the rotary settings in every spelling. */
import { describe, expect, it } from 'vitest';
import { readLlama } from '../../../../src/backbone/language/llama.js';
import { readMistral } from '../../../../src/backbone/language/mistral.js';

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

describe('checkpoints people have, with the number of parameters that they are known to have', () => {
  it.each([
    ['SmolLM2 135M', readLlama, SMOLLM2, 134_515_008, 8192],
    ['Llama 3.2 1B', readLlama, LLAMA_3_2, 1_235_814_400, 131_072],
    ['Mistral 7B v0.1', readMistral, MISTRAL, 7_241_732_096, 4096],
  ])('%s', (_, read, config, parameterCount, maxPositions) => {
    expect(read(config, 'config.json')).toMatchObject({ family: config.model_type, parameterCount, maxPositions });
  });
});

describe('a window', () => {
  it('is what mistral has unless it says that it has none', () => {
    const { sliding_window: _, ...silent } = MISTRAL;
    expect(readMistral(silent, 'config').maxPositions).toBe(4096);
    expect(readMistral({ ...silent, sliding_window: null }, 'config').maxPositions).toBe(32_768);
  });
});

describe('rotary positions', () => {
  const frequencies = (change: object): readonly number[] => {
    const { rope_scaling: __, rope_theta: _, ...rest } = LLAMA_3_2;
    return readLlama({ ...rest, ...change }, 'config').rotary.inverseFrequencies;
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

  it('that make no sense are refused', () => {
    expect(() => frequencies({ rope_scaling: { ...LLAMA3, high_freq_factor: 1 } })).toThrow(
      'rope_scaling.high_freq_factor: Expected more than low_freq_factor',
    );
    expect(() => frequencies({ rope_scaling: { type } })).toThrow(/factor: .*low_freq_factor: .*high_freq_factor: /);
    expect(() => frequencies({ rope_parameters: { partial_rotary_factor: 0.5 } })).toThrow('Expected every dimension to rotate');
  });
});
