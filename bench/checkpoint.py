"""A llama of SmolLM-135M's shape with random weights, made by transformers: what `npm run bench:precision` serves.

    python bench/checkpoint.py FOLDER float32|bfloat16
"""
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

folder, dtype = sys.argv[1:]
torch.manual_seed(0)
config = LlamaConfig(
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    vocab_size=49152,
    max_position_embeddings=2048,
    rms_norm_eps=1e-5,
    tie_word_embeddings=True,
    bos_token_id=1,
    # An id that no sequence ends with in practice.
    eos_token_id=0,
)
LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder)
