"""Names of tensors on the model hub, said in GGUF's words."""

import re

from twofold.errors import ModelError

_WHOLE = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.sinks": "attn_sinks",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_STACKED = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down", "w1": "gate", "w3": "up", "w2": "down"}
_LAYER |= {
    f"{prefix}.{part}": name
    for prefix in ("mlp", "block_sparse_moe")
    for part, name in {
        "gate": "ffn_gate_inp",
        "router": "ffn_gate_inp",
        "correction": "exp_probs_b",
        **{f"experts.{theirs}": f"ffn_{ours}_exps" for theirs, ours in _STACKED.items()},
        **{f"shared_experts.{theirs}": f"ffn_{ours}_shexp" for theirs, ours in _STACKED.items()},
    }.items()
}
_POST_NORM = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_FAMILY = {
    "gemma3_text": _POST_NORM,
    "gpt_oss": {"post_attention_layernorm": "post_attention_norm"},
    "glm4_moe": {"post_attention_layernorm": "post_attention_norm"},
    "olmo2": _POST_NORM,
}
_NAMELESS = {
    "gate.e_score_correction_bias": "correction.bias",
    "e_score_correction_bias": "correction.bias",
    "self_attn.sinks": "self_attn.sinks.weight",
}  # of tensors that are no weight or bias of a module
_NAME = re.compile(r"(?:model\.)?(?:language_model\.)?(?:model\.)?(?:layers\.(\d{1,6})\.)?(.+)\.(weight|bias)")
_EXPERT = re.compile(r"(.+)\.experts\.(\d{1,6})\.(.+)")
# Buffers that old files carry and that are computed here.
_COMPUTED = re.compile(r".*\.rotary_emb\.inv_freq|.*\.attn\.(masked_)?bias")


def expert_of(name: str) -> tuple[str, int | None]:
    """(name without the expert's number, number) of a tensor that belongs to one expert; (name, None) of any other."""
    found = _EXPERT.fullmatch(name)
    return (f"{found[1]}.experts.{found[3]}", int(found[2])) if found else (name, None)


def gguf_name(family: str, name: str, layers: int) -> str | None:
    """GGUF's name of a tensor, None for one that nobody needs; raises ModelError for one that we have no word for.

    What stands past the last of the `layers` predicts further tokens, which nobody asks for.
    """
    if _COMPUTED.fullmatch(name):
        return None
    for ending, proper in _NAMELESS.items():
        name = name.removesuffix(ending) + proper if name.endswith(ending) else name
    found = _NAME.fullmatch(name)
    if found:
        layer, part, kind = found.groups()
        if layer is not None and int(layer) >= layers:
            return None
        words = _LAYER | _FAMILY.get(family, {}) if layer is not None else _WHOLE
        if part in words:
            return f"blk.{int(layer)}.{words[part]}.{kind}" if layer is not None else f"{words[part]}.{kind}"
    raise ModelError(
        f"tensor {name!r} is not part of a {family} model; the checkpoint is of a variant that is not supported"
    )
