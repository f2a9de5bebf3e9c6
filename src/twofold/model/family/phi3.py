"""The `phi3` family: Llama with q, k and v in one matrix and gate and up in another (arXiv 2404.14219)."""

from twofold.model.family.base import Blueprint, Facts
from twofold.model.family.parts import Layer, Parts, uniform
from twofold.model.operations import Attention, SwiGLU


def build(facts: Facts) -> Blueprint:
    """The blueprint of a phi3 checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    return uniform(facts, _layer, interleaved=False, windowed=True)


def _layer(parts: Parts, attention: Attention) -> Layer:
    size = parts.size
    qkv = parts.rows_of("normed", "attn_qkv", (("q", size.q, 8), ("k", size.kv, 16), ("v", size.kv, 16)), size.hidden)
    ffn = (
        *parts.rows_of("ffn in", "ffn_up", (("gate", size.ffn, 8), ("up", size.ffn, 8)), size.hidden),
        SwiGLU("gate", "up", "product"),
        *parts.linear("product", "ffn_down", "ffn out", size.hidden, size.ffn),
    )
    return Layer((parts.norm("carry", "attn_norm", "normed"), *qkv), attention, parts.pre_norm_out(*ffn))
