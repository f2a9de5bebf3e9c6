"""Tiny random checkpoints of every family, made with Transformers' own classes, in the hub's form."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 320
_SHARED: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": 0,
}


@dataclass(frozen=True)
class Tiny:
    """One checkpoint: Transformers' `model_type` and what of its configuration differs from the shared part."""

    model_type: str
    config: dict[str, Any] = field(default_factory=dict)
    name: str = ""


# Where two experts' scores lie within the rounding of f16 planes of each other, either may be chosen; the mixtures here
# have no such place within the tokens of the test.
TINY = (
    Tiny("llama"),
    Tiny("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0,
         "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}, "llama3"),
    Tiny("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
         "original_max_position_embeddings": 64}}, "llama yarn"),
    Tiny("mistral", {"sliding_window": 48}),
    Tiny("qwen2"),
    Tiny("qwen3", {"head_dim": 32}),
    Tiny("gemma3_text", {"head_dim": 32, "sliding_window": 48, "num_hidden_layers": 7, "query_pre_attn_scalar": 24}),
    Tiny("phi3", {"sliding_window": 48}),
    Tiny("smollm3"),
    Tiny("olmo2"),
    Tiny("glm4_moe", {"first_k_dense_replace": 1, "n_routed_experts": 12, "num_experts_per_tok": 3, "n_group": 4,
         "topk_group": 2, "moe_intermediate_size": 32, "routed_scaling_factor": 1.5, "use_qk_norm": True,
         "head_dim": 32, "attention_bias": True}),
    Tiny("gpt_oss", {"num_local_experts": 16, "num_experts_per_tok": 2, "head_dim": 32, "sliding_window": 48,
         "intermediate_size": 64, "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
         "truncate": False, "original_max_position_embeddings": 64}}),
    Tiny("minimax_m2", {"num_local_experts": 8, "num_experts_per_tok": 3, "head_dim": 32,
         "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}}),
    Tiny("mixtral", {"num_local_experts": 4, "sliding_window": 48}),
    Tiny("qwen3_moe", {"head_dim": 32, "num_experts": 12, "num_experts_per_tok": 3, "moe_intermediate_size": 32,
         "norm_topk_prob": True}),
    Tiny("qwen3_moe", {"head_dim": 32, "num_experts": 12, "num_experts_per_tok": 3, "moe_intermediate_size": 32,
         "norm_topk_prob": False}, "qwen3_moe, all scores"),
)  # fmt: skip
IDS = [tiny.name or tiny.model_type for tiny in TINY]


def write_tiny(folder: Path, tiny: Tiny, *, seed: int = 0) -> Path:
    """Write the checkpoint into `folder` and return `folder`; the same seed gives the same weights."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(tiny.model_type, **(_SHARED | tiny.config))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight += torch.randn_like(weight) / 10
            elif name.endswith("bias"):
                weight.copy_(torch.randn_like(weight) / 4)
            else:
                weight.copy_(torch.randn_like(weight) / weight.shape[-1] ** 0.5)
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
