"""The closed list of operations: what a model may compute, and on which side of the cut each one falls.

The side follows from rule R1 alone. An operation is *context-free* if one token's output depends on that
token's activation and on fixed weights and on nothing else; every other operation is *context-aware*.

A segment is a straight line of context-free operations over named values; `n` is the number of rows (one row
a token), K the width of the input, R the number of output features. A context layer is one record of
context-aware operations. Adding a family adds no operation here unless the family computes something new;
`docs/numerics.md` gives the exact arithmetic of each.
"""

from enum import Enum
from typing import Literal

import msgspec
import numpy as np


class Side(Enum):
    """Which memory an operation belongs to."""

    CONTEXT_FREE = "context-free"
    CONTEXT_AWARE = "context-aware"


class Kind(msgspec.Struct, frozen=True):
    """One entry of the closed list: what `twofold inspect` and the docs print."""

    name: str
    side: Side
    shapes: str
    rule: str


class Embed(msgspec.Struct, frozen=True, tag=True):
    """out[n, K] f32 = weight[ids[n, 1]]; ids i32, each in [0, vocabulary)."""

    ids: str
    weight: str
    out: str


class RMSNorm(msgspec.Struct, frozen=True, tag=True):
    """out[n, K] f32 = x / sqrt(mean(x²) + epsilon) · weight[K] (Zhang and Sennrich 2019, arXiv 1910.07467).

    Where x is wider than the weight, each piece of the weight's width by itself, as the heads of a query.
    """

    x: str
    weight: str
    epsilon: float
    out: str


class LayerNorm(msgspec.Struct, frozen=True, tag=True):
    """out[n, K] f32 = (x - mean(x)) / sqrt(variance(x) + epsilon) · weight[K] (Ba et al. 2016, arXiv 1607.06450).

    Its bias, where a family has one, is a `Bias` of its own.
    """

    x: str
    weight: str
    epsilon: float
    out: str


class Bias(msgspec.Struct, frozen=True, tag=True):
    """out[n, K] f32 = x + weight[K]."""

    x: str
    weight: str
    out: str


class Linear(msgspec.Struct, frozen=True, tag=True):
    """out[n, R] f32 = x[n, K] · weight[R, K]ᵀ.

    Weights of a block format meet activations rounded to blocks of 32 integers of `activation_bits`, 8 or 16;
    weights of a float format meet them as they are.
    """

    x: str
    weight: str
    out: str
    activation_bits: Literal[8, 16] = 8


class SwiGLU(msgspec.Struct, frozen=True, tag=True):
    """out[n, K] f32 = gate / (1 + exp(-gate)) · up (Shazeer 2020, arXiv 2002.05202)."""

    gate: str
    up: str
    out: str


class GeGLU(msgspec.Struct, frozen=True, tag=True):
    """out[n, K] f32 = GELU(gate) · up with the tanh form of GELU (Shazeer 2020, arXiv 2002.05202; 1606.08415)."""

    gate: str
    up: str
    out: str


class ClampedSwiGLU(msgspec.Struct, frozen=True, tag=True):
    """out[n, K] f32 = g / (1 + exp(-slope · g)) · (u + 1).

    g and u are gate and up, both at most `limit`, u at least -limit (OpenAI 2025, arXiv 2508.10925). `limit` and
    `slope` are f32 values.
    """

    gate: str
    up: str
    out: str
    limit: float
    slope: float


class Add(msgspec.Struct, frozen=True, tag=True):
    """out[n, K] f32 = a + b: the residual."""

    a: str
    b: str
    out: str


class Scale(msgspec.Struct, frozen=True, tag=True):
    """out[n, K] f32 = x · factor, an f32 value."""

    x: str
    factor: float
    out: str


class Top(msgspec.Struct, frozen=True, tag=True):
    """out[n, k] i32: where the k largest of x[n, V] f32 stand, by falling value, the lower first among equals."""

    x: str
    k: int
    out: str


class Gather(msgspec.Struct, frozen=True, tag=True):
    """out[n, k] f32 = x[ids]: of each row of x[n, V] the values at ids[n, k] i32; 0 for an id outside the row."""

    x: str
    ids: str
    out: str


class LogSumExp(msgspec.Struct, frozen=True, tag=True):
    """out[n, 1] f32 = log(sum(exp(x[n, V]))): what turns a logit into a log-probability."""

    x: str
    out: str


class Route(msgspec.Struct, frozen=True, tag=True):
    """out[n, k] i32: the experts that each row goes to, by rising number; x[n, E] f32 (arXiv 1701.06538).

    They are the `k` of the largest x, or, if `sigmoid`, of the largest 1 / (1 + exp(-x)), with bias[E] added if there
    is a `weight`. Of `groups` of neighbouring experts, only those of the `kept` groups whose best two have the largest
    sum are considered (DeepSeek-AI 2024, arXiv 2412.19437).
    """

    x: str
    k: int
    out: str
    sigmoid: bool = False
    weight: str | None = None
    groups: int = 1
    kept: int = 1


class Shares(msgspec.Struct, frozen=True, tag=True):
    """out[n, k] f32: what the experts ids[n, k] i32 of each row weigh by its scores x[n, E] f32.

    `normalised`: the softmax of the chosen scores, else of all; or, if `sigmoid`, 1 / (1 + exp(-x)), over its sum if
    `normalised`. All times `scale`, an f32 value.
    """

    x: str
    ids: str
    out: str
    sigmoid: bool = False
    normalised: bool = True
    scale: float = 1.0


class Experts(msgspec.Struct, frozen=True, tag=True):
    """out[n, H] f32: the sum of shares[n, k] · expert(x[n, H]) over ids[n, k], by rising number.

    Each expert is a segment of its own: `count` of them from segment `first` on, which take "expert in" and give
    "expert out", f32[H] both.
    """

    x: str
    ids: str
    shares: str
    first: int
    count: int
    out: str


VectorOperation = RMSNorm | LayerNorm | Bias | Route  # their tensor, if any, is one row, kept as f32
WeightlessOperation = (
    SwiGLU | GeGLU | ClampedSwiGLU | Add | Scale | Top | Gather | LogSumExp | Shares | Experts
)  # they hold no tensor
WeightOperation = Embed | Linear | VectorOperation | WeightlessOperation


class Rotary(msgspec.Struct, frozen=True):
    """Rotary position embedding (Su et al. 2021, arXiv 2104.09864); context parameters only.

    `frequencies` f32 of the pairs, radians a position; the first `dimensions` elements of a head are turned, the rest
    passes through. `interleaved`: the pair i is (2i, 2i+1), else it is (i, i + dimensions / 2). Cosine and sine are
    multiplied by `magnitude` f32.
    """

    frequencies: tuple[float, ...]
    interleaved: bool
    magnitude: float = 1.0

    @property
    def dimensions(self) -> int:
        """Elements of a head that are turned: two a pair."""
        return 2 * len(self.frequencies)


class Attention(msgspec.Struct, frozen=True, tag=True):
    """The context-aware operations of one layer: rotate q and k, append k and v to the KV cache, attend.

    Takes planes q f16[n, heads · head_dim], k and v f16[n, kv_heads · head_dim]; gives attended
    f16[n, heads · head_dim]. Grouped heads: query head h reads KV head h // (heads / kv_heads)
    (Ainslie et al. 2023, arXiv 2305.13245).

    `window`: a row sees its last `window` positions, itself among them (Beltagy et al. 2020, arXiv 2004.05150);
    0: all. `soft_cap`: scores become cap · tanh(score / cap) (Gemma Team 2024, arXiv 2408.00118); 0: none.
    `sinks`: a logit for each query head that joins the softmax's sum and has no value (OpenAI 2025,
    arXiv 2508.10925); empty: none. All three are f32 values.
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    rotary: Rotary
    window: int = 0
    soft_cap: float = 0.0
    sinks: tuple[float, ...] = ()

    @property
    def context_bytes(self) -> int:
        """Bytes the KV cache of this layer grows by with each token (K and V, f16)."""
        return 2 * 2 * self.kv_heads * self.head_dim

    @property
    def flops_per_position(self) -> int:
        """Floating-point operations of a row for each position that it sees: two products of every query head."""
        return 2 * 2 * self.heads * self.head_dim


def rounded(value: float) -> float:
    """The nearest float32: context parameters travel as values of that type."""
    return float(np.float32(value))


ContextLayer = Attention  # a union once a second kind of context layer exists

KINDS: tuple[Kind, ...] = (
    Kind("embed", Side.CONTEXT_FREE, "ids i32[n,1] → f32[n,K]", "R1: a table look-up by this token's id alone"),
    Kind("rms_norm", Side.CONTEXT_FREE, "f32[n,K] → f32[n,K]", "R1: this row and fixed weights"),
    Kind("layer_norm", Side.CONTEXT_FREE, "f32[n,K] → f32[n,K]", "R1: this row and fixed weights"),
    Kind("bias", Side.CONTEXT_FREE, "f32[n,K] → f32[n,K]", "R1: this row and fixed weights"),
    Kind("linear", Side.CONTEXT_FREE, "[n,K] → f32[n,R]", "R1: this row and fixed weights"),
    Kind("swiglu", Side.CONTEXT_FREE, "f32[n,K], f32[n,K] → f32[n,K]", "R1: this row, element by element"),
    Kind("geglu", Side.CONTEXT_FREE, "f32[n,K], f32[n,K] → f32[n,K]", "R1: this row, element by element"),
    Kind("clamped_swiglu", Side.CONTEXT_FREE, "f32[n,K], f32[n,K] → f32[n,K]", "R1: this row, element by element"),
    Kind("add", Side.CONTEXT_FREE, "f32[n,K], f32[n,K] → f32[n,K]", "R1: this row, element by element"),
    Kind("scale", Side.CONTEXT_FREE, "f32[n,K] → f32[n,K]", "R1: this row, element by element"),
    Kind("top", Side.CONTEXT_FREE, "f32[n,V] → i32[n,k]", "R1: this row, which of its values are largest"),
    Kind("gather", Side.CONTEXT_FREE, "f32[n,V], i32[n,k] → f32[n,k]", "R1: this row's own values"),
    Kind("log_sum_exp", Side.CONTEXT_FREE, "f32[n,V] → f32[n,1]", "R1: this row, summed"),
    Kind("route", Side.CONTEXT_FREE, "f32[n,E] → i32[n,k]", "R1: this row and fixed weights"),
    Kind("shares", Side.CONTEXT_FREE, "f32[n,E], i32[n,k] → f32[n,k]", "R1: this row's own values"),
    Kind("experts", Side.CONTEXT_FREE, "f32[n,H], i32[n,k], f32[n,k] → f32[n,H]", "R1: this row and fixed weights"),
    Kind(
        "rotary",
        Side.CONTEXT_AWARE,
        "f16[n,h·d] → f32[n,h·d]",
        "R1: reads where in the session the token stands",
    ),
    Kind("append", Side.CONTEXT_AWARE, "f16[n,kv·d] ×2 → KV cache", "R1: writes what the session has seen"),
    Kind(
        "attend",
        Side.CONTEXT_AWARE,
        "f32[n,h·d], KV cache → f16[n,h·d]",
        "R1: reads what the session has seen",
    ),
    Kind("sample", Side.CONTEXT_AWARE, "f32[1,V] → id", "R1: reads the session's seed, position and settings"),
    Kind("tokenise", Side.CONTEXT_AWARE, "text ↔ ids", "R1: reads the text before and after"),
)
BY_NAME: dict[str, Kind] = {kind.name: kind for kind in KINDS}

_NAMES: dict[type, str] = {
    Embed: "embed",
    RMSNorm: "rms_norm",
    LayerNorm: "layer_norm",
    Bias: "bias",
    Linear: "linear",
    SwiGLU: "swiglu",
    GeGLU: "geglu",
    ClampedSwiGLU: "clamped_swiglu",
    Add: "add",
    Scale: "scale",
    Top: "top",
    Gather: "gather",
    LogSumExp: "log_sum_exp",
    Route: "route",
    Shares: "shares",
    Experts: "experts",
}


def kind_of(operation: WeightOperation) -> Kind:
    """The entry of the closed list that an operation of a segment belongs to."""
    return BY_NAME[_NAMES[type(operation)]]


CONTEXT_KINDS: dict[type, tuple[str, ...]] = {Attention: ("rotary", "append", "attend")}


def inputs_of(operation: WeightOperation) -> tuple[str, ...]:
    """Names of the values an operation reads."""
    match operation:
        case Embed():
            return (operation.ids,)
        case RMSNorm() | LayerNorm() | Bias() | Linear() | Scale() | Top() | LogSumExp() | Route():
            return (operation.x,)
        case SwiGLU() | GeGLU() | ClampedSwiGLU():
            return (operation.gate, operation.up)
        case Add():
            return (operation.a, operation.b)
        case Gather() | Shares():
            return (operation.x, operation.ids)
        case Experts():
            return (operation.x, operation.ids, operation.shares)


def weight_of(operation: WeightOperation) -> str | None:
    """Name of the tensor an operation holds, if any."""
    return None if isinstance(operation, WeightlessOperation) else operation.weight
