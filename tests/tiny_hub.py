"""Tiny models of every family, as configs of the hub. A family that is in the list inherits every test of families."""

from dataclasses import dataclass, field
from typing import Any

VOCABULARY = 320
_SHARED: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
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
    Tiny("glm4_moe", {"first_k_dense_replace": 1, "n_routed_experts": 12, "num_experts_per_tok": 3,
         "n_shared_experts": 1, "n_group": 4, "topk_group": 2,
         "moe_intermediate_size": 32, "routed_scaling_factor": 1.5, "use_qk_norm": True,
         "head_dim": 32, "attention_bias": True}),
    Tiny("gpt_oss", {"num_local_experts": 16, "num_experts_per_tok": 2, "head_dim": 32, "sliding_window": 48,
         "intermediate_size": 64, "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
         "truncate": False, "original_max_position_embeddings": 64}}),
    Tiny("minimax_m2", {"num_local_experts": 8, "num_experts_per_tok": 3, "head_dim": 32,
         "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}}),
    Tiny("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 48}),
    Tiny("qwen3_moe", {"head_dim": 32, "num_experts": 12, "num_experts_per_tok": 3, "moe_intermediate_size": 32,
         "norm_topk_prob": True}),
    Tiny("qwen3_moe", {"head_dim": 32, "num_experts": 12, "num_experts_per_tok": 3, "moe_intermediate_size": 32,
         "norm_topk_prob": False}, "qwen3_moe, all scores"),
)  # fmt: skip
IDS = [tiny.name or tiny.model_type for tiny in TINY]


def config_of(tiny: Tiny) -> dict[str, Any]:
    """Its config.json."""
    return {"model_type": tiny.model_type, **_SHARED, **tiny.config}
