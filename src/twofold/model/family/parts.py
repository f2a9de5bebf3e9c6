"""The pieces that families are put together from: a `Layer` is what stands around one context layer, `stack` makes
segments of layers, and `Parts` makes operations and notes the shapes of the tensors that they hold.

Tensors and metadata have GGUF's names, wherever a checkpoint comes from; a bias is there if the checkpoint has it.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from twofold.errors import ModelError
from twofold.model.family.base import BLOCK, PANEL, Blueprint, Facts, check_widths, rotary_of, rotary_shapes
from twofold.model.operations import (
    Add,
    Attention,
    Bias,
    ContextLayer,
    Embed,
    GeGLU,
    Linear,
    RMSNorm,
    Rotary,
    Scale,
    SwiGLU,
    WeightOperation,
    rounded,
)
from twofold.model.segment import Cut, Plane, Segment

Operations = tuple[WeightOperation, ...]


@dataclass(frozen=True)
class Layer:
    """`into` makes q, k and v of the carry; `out_of` makes the carry of what was attended to and the carry."""

    into: Operations
    context: ContextLayer
    out_of: Operations


@dataclass(frozen=True)
class Size:
    """The widths of a Transformer."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    epsilon: float

    @classmethod
    def of(cls, facts: Facts) -> "Size":
        """As the metadata states them; raises ModelError for widths that do not fit each other or the kernels."""
        hidden, heads = facts.integer("embedding_length"), facts.integer("attention.head_count", high=4096)
        size = cls(
            layers=facts.integer("block_count", high=1024),
            hidden=hidden,
            ffn=facts.integer("feed_forward_length"),
            heads=heads,
            kv_heads=facts.integer("attention.head_count_kv", heads, high=heads),
            head_dim=facts.integer("attention.key_length", hidden // heads, high=1024),
            vocabulary=facts.vocabulary(),
            epsilon=facts.number("attention.layer_norm_rms_epsilon"),
        )
        facts.refuse("attention.value_length", (size.head_dim,), "a value head of another width than the key head")
        if heads % size.kv_heads:
            raise ModelError(f"{heads} attention heads cannot share {size.kv_heads} KV heads evenly")
        check_widths(BLOCK, embedding_length=hidden, feed_forward_length=size.ffn, attention_width=size.q)
        check_widths(PANEL, head_width=size.head_dim)
        return size

    @property
    def q(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        """Width of all key heads."""
        return self.kv_heads * self.head_dim

    def attention(self, rotary: Rotary, *, scale: float | None = None, window: int = 0) -> Attention:
        """Attention of these heads, scaled by 1/√head_dim unless told."""
        scale = self.head_dim**-0.5 if scale is None else scale
        return Attention(self.heads, self.kv_heads, self.head_dim, rounded(scale), rotary, window)


@dataclass
class Parts:
    """Operations on tensors whose names begin with `prefix`; `shapes` is filled with (rows, width) of each.

    `experts` is filled with a segment for each expert of each layer.
    """

    facts: Facts
    size: Size
    prefix: str = ""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    experts: list[Segment] = field(default_factory=list)

    def layer(self, number: int) -> "Parts":
        """The same for the tensors of one layer."""
        return Parts(self.facts, self.size, f"blk.{number}.", self.shapes, self.experts)

    def norm(self, x: str, name: str, out: str, *, width: int = 0) -> RMSNorm:
        """RMS norm with the tensor `name`, over the hidden width or over pieces of `width`."""
        return RMSNorm(x, self.tensor(name, 1, width or self.size.hidden), self.size.epsilon, out)

    def linear(
        self, x: str, name: str, out: str, rows: int, width: int, *, activation_bits: Literal[8, 16] = 8
    ) -> Operations:
        """A product with the tensor `name`, and its bias if the checkpoint has one."""
        product = Linear(x, self.tensor(name, rows, width), out, activation_bits)
        return (product, *self._bias(name, out, rows))

    def rows_of(self, x: str, name: str, outs: Sequence[tuple[str, int, Literal[8, 16]]], width: int) -> Operations:
        """Products with consecutive rows of one tensor: `outs` are (name, rows, activation bits) in its order."""
        self.tensor(name, sum(rows for _, rows, _ in outs), width)
        made: list[WeightOperation] = []
        first = 0
        for out, rows, bits in outs:
            part = f"{self.prefix}{name}.weight[{first}:{first + rows}]"
            made.append(Linear(x, part, out, bits))
            first += rows
        return tuple(made)

    def qkv(self, x: str) -> Operations:
        """Planes q, k and v of x; what is kept for long, k and v, from activations of 16 bits."""
        hidden, q, kv = self.size.hidden, self.size.q, self.size.kv
        return (
            *self.linear(x, "attn_q", "q", q, hidden),
            *self.linear(x, "attn_k", "k", kv, hidden, activation_bits=16),
            *self.linear(x, "attn_v", "v", kv, hidden, activation_bits=16),
        )

    def head_norms(self) -> Operations:
        """Each head of q and of k normalised by itself (Henry et al. 2020, arXiv 2010.04245)."""
        width = self.size.head_dim
        return (
            self.norm("q", "attn_q_norm", "q", width=width),
            self.norm("k", "attn_k_norm", "k", width=width),
        )

    def width_norms(self) -> Operations:
        """All heads of q normalised together, and all of k."""
        return (
            self.norm("q", "attn_q_norm", "q", width=self.size.q),
            self.norm("k", "attn_k_norm", "k", width=self.size.kv),
        )

    def attention_out(self, out: str) -> Operations:
        """The product that follows attention."""
        return self.linear("attended", "attn_output", out, self.size.hidden, self.size.q)

    def gated(self, x: str, gate: type[SwiGLU | GeGLU], out: str, *, suffix: str = "", ffn: int = 0) -> Operations:
        """A gated feed-forward part of `ffn` features, the model's unless told; tensors' names end in `suffix`."""
        hidden, ffn = self.size.hidden, ffn or self.size.ffn
        return (
            *self.linear(x, f"ffn_gate{suffix}", "gate", ffn, hidden),
            *self.linear(x, f"ffn_up{suffix}", "up", ffn, hidden),
            gate("gate", "up", "product"),
            *self.linear("product", f"ffn_down{suffix}", out, hidden, ffn),
        )

    def pre_norm_out(self, *ffn: WeightOperation, x: str = "ffn in", norm: str = "ffn_norm") -> Operations:
        """What follows attention in a pre-norm Transformer; `ffn` makes "ffn out" of `x`, normalised by `norm`."""
        return (
            *self.attention_out("mixed"),
            Add("carry", "mixed", "middle"),
            self.norm("middle", norm, x),
            *ffn,
            Add("middle", "ffn out", "carry"),
        )

    def bias(self, name: str, *shape: int) -> str | None:
        """The name of the bias `name`, if the checkpoint has it."""
        full = f"{self.prefix}{name}.bias"
        if full not in self.facts.tensor_names:
            return None
        self.shapes[full] = shape
        return full

    def tensor(self, name: str, *shape: int) -> str:
        """The full name of the tensor `name`, whose shape is noted."""
        full = f"{self.prefix}{name}.weight"
        self.shapes[full] = shape
        return full

    def _bias(self, name: str, out: str, rows: int) -> Operations:
        full = self.bias(name, 1, rows)
        return (Bias(out, full, out),) if full else ()


def pre_norm(parts: Parts, attention: ContextLayer, *, head_norms: bool = False) -> Layer:
    """A layer as Llama has it: norm, attention, residual, norm, SwiGLU, residual."""
    into = pre_norm_into(parts, head_norms=head_norms)
    return Layer(into, attention, parts.pre_norm_out(*parts.gated("ffn in", SwiGLU, "ffn out")))


def pre_norm_into(parts: Parts, *, head_norms: bool = False) -> Operations:
    """The first half of such a layer: norm, then q, k and v."""
    norms = parts.head_norms() if head_norms else ()
    return (parts.norm("carry", "attn_norm", "normed"), *parts.qkv("normed"), *norms)


def uniform(
    facts: Facts, layer: Callable[[Parts, Attention], Layer], *, interleaved: bool, windowed: bool = False
) -> Blueprint:
    """A stack of equal layers, whose heads are all turned by the rotary embedding that the checkpoint describes.

    `windowed`: they see a window of positions where the checkpoint says so; else a checkpoint that does is refused.
    """
    size = Size.of(facts)
    if not windowed:
        facts.refuse("attention.sliding_window", (0,), "sliding-window attention")
    rotary = rotary_of(facts, size.head_dim, interleaved=interleaved)
    attention = size.attention(rotary, window=facts.integer("attention.sliding_window", 0, low=0) if windowed else 0)
    parts = Parts(facts, size, shapes=rotary_shapes(facts, rotary))
    return stack(parts, lambda _, one: layer(one, attention))


def stack(parts: Parts, layer: Callable[[int, Parts], Layer], *, embedding_scale: float = 1.0) -> Blueprint:
    """An embedding, `size.layers` layers and a head, which is the embedding's tensor if the checkpoint has no other."""
    size, facts = parts.size, parts.facts
    layers = [layer(i, parts.layer(i)) for i in range(size.layers)]
    carry, attended = Plane("carry", size.hidden, "f32"), Plane("attended", size.q, "f16")
    made = (carry, Plane("q", size.q, "f16"), Plane("k", size.kv, "f16"), Plane("v", size.kv, "f16"))
    name = "output" if "output.weight" in facts.tensor_names else "token_embd"
    head = parts.linear("normed", name, "logits", size.vocabulary, size.hidden)
    ending = (parts.norm("carry", "output_norm", "normed"), *head)
    embed: list[WeightOperation] = [Embed("ids", "token_embd.weight", "carry")]
    if embedding_scale != 1.0:
        embed.append(Scale("carry", rounded(embedding_scale), "carry"))
    parts.shapes["token_embd.weight"] = (size.vocabulary, size.hidden)

    first = Segment(Cut((Plane("ids", 1, "i32"),), made), (*embed, *layers[0].into))
    between = [
        Segment(Cut((attended, carry), made), (*before.out_of, *after.into))
        for before, after in itertools.pairwise(layers)
    ]
    last = Segment(Cut((attended, carry), (Plane("logits", size.vocabulary, "f32"),)), (*layers[-1].out_of, *ending))
    return Blueprint(
        (first, *between, last), tuple(each.context for each in layers), parts.shapes, tuple(parts.experts)
    )
