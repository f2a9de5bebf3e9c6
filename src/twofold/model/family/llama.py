"""The `llama` family: pre-norm Transformer with grouped heads, rotary positions and SwiGLU (arXiv 2302.13971).

GGUF stores q and k so that a rotary pair is two neighbours, hence `interleaved=True`.
"""

from twofold.errors import ModelError
from twofold.model.family.base import BLOCK, PANEL, Blueprint, Facts, check_widths, rotary_of, rotary_shapes
from twofold.model.operations import Add, Attention, Embed, Linear, RMSNorm, SwiGLU, WeightOperation, rounded
from twofold.model.segment import Cut, Plane, Segment
from twofold.model.strings import Strings


def build(facts: Facts) -> Blueprint:
    """The blueprint of a llama checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    layers, hidden = facts.integer("block_count", high=1024), facts.integer("embedding_length")
    ffn, heads = facts.integer("feed_forward_length"), facts.integer("attention.head_count", high=4096)
    kv_heads = facts.integer("attention.head_count_kv", heads, high=heads)
    head_dim = facts.integer("attention.key_length", hidden // heads, high=1024)
    vocabulary = len(_tokens(facts))
    epsilon = facts.number("attention.layer_norm_rms_epsilon")
    _refuse_variants(facts, head_dim)
    if heads % kv_heads:
        raise ModelError(f"{heads} attention heads cannot share {kv_heads} KV heads evenly")
    check_widths(BLOCK, embedding_length=hidden, feed_forward_length=ffn, attention_width=heads * head_dim)
    check_widths(PANEL, head_width=head_dim)

    q, kv = heads * head_dim, kv_heads * head_dim
    carry, attended = Plane("carry", hidden, "f32"), Plane("attended", q, "f16")
    made = (carry, Plane("q", q, "f16"), Plane("k", kv, "f16"), Plane("v", kv, "f16"))
    head = "output.weight" if "output.weight" in facts.tensor_names else "token_embd.weight"

    def into_layer(i: int) -> tuple[WeightOperation, ...]:
        p = f"blk.{i}."
        return (
            RMSNorm("carry", p + "attn_norm.weight", epsilon, "normed"),
            Linear("normed", p + "attn_q.weight", "q"),
            Linear("normed", p + "attn_k.weight", "k", activation_bits=16),
            Linear("normed", p + "attn_v.weight", "v", activation_bits=16),
        )

    def out_of_layer(i: int) -> tuple[WeightOperation, ...]:
        p = f"blk.{i}."
        return (
            Linear("attended", p + "attn_output.weight", "mixed"),
            Add("carry", "mixed", "middle"),
            RMSNorm("middle", p + "ffn_norm.weight", epsilon, "ffn in"),
            Linear("ffn in", p + "ffn_gate.weight", "gate"),
            Linear("ffn in", p + "ffn_up.weight", "up"),
            SwiGLU("gate", "up", "product"),
            Linear("product", p + "ffn_down.weight", "ffn out"),
            Add("middle", "ffn out", "carry"),
        )

    first = Segment(Cut((Plane("ids", 1, "i32"),), made), (Embed("ids", "token_embd.weight", "carry"), *into_layer(0)))
    between = [Segment(Cut((attended, carry), made), (*out_of_layer(i), *into_layer(i + 1))) for i in range(layers - 1)]
    ending = (RMSNorm("carry", "output_norm.weight", epsilon, "normed"), Linear("normed", head, "logits"))
    last = Segment(Cut((attended, carry), (Plane("logits", vocabulary, "f32"),)), (*out_of_layer(layers - 1), *ending))

    rotary = rotary_of(facts, head_dim, interleaved=True)
    attention = Attention(heads, kv_heads, head_dim, rounded(head_dim**-0.5), rotary)
    shapes = {
        "token_embd.weight": (vocabulary, hidden),
        head: (vocabulary, hidden),
        "output_norm.weight": (1, hidden),
        **rotary_shapes(facts, rotary),
    }
    for i in range(layers):
        per_layer = {"attn_norm": (1, hidden), "ffn_norm": (1, hidden), "attn_q": (q, hidden), "attn_k": (kv, hidden),
                     "attn_v": (kv, hidden), "attn_output": (hidden, q), "ffn_gate": (ffn, hidden),
                     "ffn_up": (ffn, hidden), "ffn_down": (hidden, ffn)}  # fmt: skip
        shapes |= {f"blk.{i}.{name}.weight": shape for name, shape in per_layer.items()}
    return Blueprint((first, *between, last), (attention,) * layers, shapes)


def _tokens(facts: Facts) -> Strings:
    tokens = facts.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, Strings) or not tokens:
        raise ModelError("metadata tokenizer.ggml.tokens is missing, so the size of the vocabulary is unknown")
    return tokens


def _refuse_variants(facts: Facts, head_dim: int) -> None:
    facts.refuse("expert_count", (0,), "a mixture of experts")
    facts.refuse("attention.value_length", (head_dim,), "a value head of another width than the key head")
    facts.refuse("attention.sliding_window", (0,), "sliding-window attention")
