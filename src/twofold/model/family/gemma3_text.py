"""The `gemma3_text` family: norms before and behind each part, heads of q and k normalised, GeGLU, windows in five
layers of six, each kind of layer with a rotary base of its own (Gemma Team 2025, arXiv 2503.19786).
"""

from twofold.model.family.base import Blueprint, Facts, rotary_of
from twofold.model.family.parts import Layer, Parts, Size, stack
from twofold.model.operations import Add, Attention, GeGLU
from twofold.model.rotary import plain, rotary

FULL_EVERY, WINDOW_BASE = 6, 10000.0  # one layer of six sees all; the others turn by this base


def build(facts: Facts) -> Blueprint:
    """The blueprint of a gemma3 checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    size = Size.of(facts)
    facts.refuse("attn_logit_softcapping", (0.0,), "a soft cap on scores")
    facts.refuse("final_logit_softcapping", (0.0,), "a soft cap on logits")
    near = rotary(plain(facts.number("rope.freq_base_swa", WINDOW_BASE), size.head_dim), interleaved=False)
    scale = facts.number("attention.scale", size.head_dim**-0.5)
    full = size.attention(rotary_of(facts, size.head_dim, interleaved=False), scale=scale)
    windowed = size.attention(near, scale=scale, window=facts.integer("attention.sliding_window"))
    every = facts.integer("attention.sliding_window_pattern", FULL_EVERY)

    def layer(i: int, parts: Parts) -> Layer:
        return _layer(parts, windowed if (i + 1) % every else full)

    return stack(Parts(facts, size), layer, embedding_scale=size.hidden**0.5)


def _layer(parts: Parts, attention: Attention) -> Layer:
    into = (parts.norm("carry", "attn_norm", "normed"), *parts.qkv("normed"), *parts.head_norms())
    out_of = (
        *parts.attention_out("mixed"),
        parts.norm("mixed", "post_attention_norm", "mixed"),
        Add("carry", "mixed", "middle"),
        parts.norm("middle", "ffn_norm", "ffn in"),
        *parts.gated("ffn in", GeGLU, "ffn out"),
        parts.norm("ffn out", "post_ffw_norm", "ffn out"),
        Add("middle", "ffn out", "carry"),
    )
    return Layer(into, attention, out_of)
