"""Tiny random checkpoints of every family, made with Transformers' own classes, in the hub's form."""

from pathlib import Path

import torch
from random_blocks import on_the_grid
from tiny_hub import Tiny, config_of
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from twofold.model.format import F32, Format


def write_tiny(folder: Path, tiny: Tiny, *, seed: int = 0, grid: Format = F32) -> Path:
    """Write the checkpoint into `folder` and return `folder`; the same seed gives the same weights.

    Matrices have values that `grid` can keep as they are, all in float32.
    """
    torch.manual_seed(seed)
    config = AutoConfig.for_model(**config_of(tiny))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight += torch.randn_like(weight) / 10
            elif name.endswith("bias"):
                weight.copy_(torch.randn_like(weight) / 4)
            else:
                values = torch.randn_like(weight) / weight.shape[-1] ** 0.5
                weight.copy_(torch.from_numpy(on_the_grid(values.numpy(), grid)))
        for name, buffer in model.named_buffers():
            if name.endswith("correction_bias"):
                buffer.copy_(torch.randn_like(buffer) / 4)
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of the 256 bytes and one special token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|end|>": 0} | {letter: i + 1 for i, letter in enumerate(letters)}
    engine = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens(["<|end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=engine, eos_token="<|end|>")
