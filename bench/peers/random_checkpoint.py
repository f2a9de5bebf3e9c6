"""A Hugging Face checkpoint of random bf16 weights in the shape of bench/random_model.py, for peers that export it.

    PEER_PYTHON bench/peers/random_checkpoint.py TOKENIZER_DIR OUT_DIR

Runs in a peer's environment (transformers, torch). `TOKENIZER_DIR` is a checkpoint of SmolLM2, whose tokenizer is
copied. bench/README.md has the export commands that follow.
"""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

SHAPE = LlamaConfig(
    hidden_size=2048,
    intermediate_size=8192,
    num_hidden_layers=16,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=64,
    vocab_size=49152,
    max_position_embeddings=8192,
    tie_word_embeddings=True,
    bos_token_id=1,
    eos_token_id=2,
    dtype="bfloat16",
)


def main() -> None:
    """Write model, configuration and tokenizer."""
    source, out = sys.argv[1:3]
    torch.manual_seed(0)
    LlamaForCausalLM(SHAPE).bfloat16().save_pretrained(out)
    AutoTokenizer.from_pretrained(source).save_pretrained(out)


if __name__ == "__main__":
    main()
