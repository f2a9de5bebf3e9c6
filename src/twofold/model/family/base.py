"""What a family file builds from, and the loader that finds it by the architecture's name.

A family is one short file named after its `model_type`: it reads facts from the checkpoint's metadata and
returns a `Blueprint`: the segments, the context layers, and the shape of every tensor they need.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from twofold.errors import ModelError
from twofold.model import rotary
from twofold.model.operations import ContextLayer, Rotary
from twofold.model.segment import Mixture, Segment
from twofold.model.strings import Strings

BLOCK = 32  # activations are rounded to integers in blocks of 32
PANEL = 16  # lanes that the kernels work in


@dataclass(frozen=True)
class Facts:
    """The numbers a checkpoint's metadata states, read with errors that name the key."""

    architecture: str
    metadata: Mapping[str, object]
    tensor_names: frozenset[str]
    vector: Callable[[str], tuple[float, ...]]  # the values of a small tensor by its name

    def integer(self, key: str, default: int | None = None, *, low: int = 1, high: int = 1 << 24) -> int:
        """`<architecture>.<key>` as an integer in [low, high]."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ModelError(
                f"metadata {self.architecture}.{key} is {value!r}; an integer from {low} to {high} is needed"
            )
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """`<architecture>.<key>` as a finite positive number."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ModelError(f"metadata {self.architecture}.{key} is {value!r}; a positive number is needed")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """`<architecture>.<key>` as a truth value."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if not isinstance(value, bool):
            raise ModelError(f"metadata {self.architecture}.{key} is {value!r}; true or false is needed")
        return value

    def vocabulary(self) -> int:
        """Tokens of the vocabulary: the tokenizer's, or what the metadata states where there is no tokenizer."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        if isinstance(tokens, Strings) and tokens:
            return len(tokens)
        if f"{self.architecture}.vocab_size" in self.metadata:
            return self.integer("vocab_size")
        raise ModelError("metadata tokenizer.ggml.tokens is missing, so the size of the vocabulary is unknown")

    def refuse(self, key: str, allowed: tuple[object, ...], what: str) -> None:
        """Raise ModelError if `<architecture>.<key>` is present with a value other than those allowed."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        if value is not None and value not in allowed:
            raise ModelError(f"{what} (metadata {self.architecture}.{key} = {value!r}) is not supported yet")


@dataclass(frozen=True)
class Blueprint:
    """A model before its weights: segments 0 .. L, context layers 0 .. L-1, tensor name → shape, row-major.

    `experts`: segments that `Experts` name, from the one after the ends of the step on; `mixtures` follow from them.
    """

    segments: tuple[Segment, ...]
    layers: tuple[ContextLayer, ...]
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    experts: tuple[Segment, ...] = ()
    mixtures: tuple[Mixture, ...] = ()


FACTORS, SHORT, LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"
SCALINGS = ("none", "linear", "yarn", "longrope")
LARGEST_FREQUENCY, LARGEST_MAGNITUDE = 16.0, 1000.0  # angles stay exact, scores finite
_TURNS = {"fast": 32.0, "slow": 1.0}  # YaRN's own ramp


def rotary_of(facts: Facts, head_dim: int, *, interleaved: bool, whole_pairs: bool = True) -> Rotary:
    """The rotary embedding that the metadata and the small tensors of a GGUF file describe.

    `whole_pairs`: where YaRN's ramp begins and ends. Raises ModelError for a kind of scaling that is not one of
    SCALINGS, and for numbers that cannot be meant.
    """
    dimensions, base = facts.integer("rope.dimension_count", head_dim, high=head_dim), _base(facts)
    if dimensions % 2:
        raise ModelError(f"metadata {facts.architecture}.rope.dimension_count is {dimensions}; it must be even")
    facts.refuse("rope.scaling.type", SCALINGS, "this rotary scaling")
    facts.refuse("rope.scale_linear", (1.0,), "rotary scaling by the old key")
    facts.refuse("rope.scaling.yarn_log_multiplier", (), "rotary scaling with a multiplier of its own")
    frequencies, magnitude = _scaled(facts, base, dimensions, whole_pairs)
    if FACTORS in facts.tensor_names:
        frequencies = rotary.divided(frequencies, _factors(facts, FACTORS, dimensions // 2))
    if max(frequencies) > LARGEST_FREQUENCY or magnitude > LARGEST_MAGNITUDE:
        raise ModelError("the rotary scaling that the metadata describes is out of range; use another conversion")
    return rotary.rotary(frequencies, interleaved=interleaved, magnitude=magnitude)


def _base(facts: Facts) -> float:
    base = facts.number("rope.freq_base", 10000.0)
    if base <= 1:
        raise ModelError(f"metadata {facts.architecture}.rope.freq_base is {base}; a number above 1 is needed")
    return base


def _scaled(facts: Facts, base: float, dimensions: int, whole_pairs: bool) -> tuple[rotary.Frequencies, float]:
    """(frequencies, magnitude) by the kind of scaling; LongRoPE is told by its tensors too."""
    kind, plain = facts.metadata.get(f"{facts.architecture}.rope.scaling.type"), rotary.plain(base, dimensions)
    if kind == "linear":
        return rotary.linear(plain, facts.number("rope.scaling.factor")), 1.0
    if kind == "yarn":
        factor, original = facts.number("rope.scaling.factor"), _original_length(facts)
        fast, slow = (facts.number(f"rope.scaling.yarn_beta_{name}", turns) for name, turns in _TURNS.items())
        if not 1e-3 <= slow < fast <= 1e6:
            raise ModelError(f"metadata {facts.architecture}.rope.scaling: no ramp leads from {fast} to {slow} turns")
        frequencies = rotary.yarn(
            base, dimensions, factor=factor, original_length=original, fast=fast, slow=slow, whole_pairs=whole_pairs
        )
        return frequencies, facts.number("rope.scaling.attn_factor", 1.0) * rotary.yarn_magnitude(factor)
    if kind == "longrope" or LONG in facts.tensor_names:
        original, length = _original_length(facts), facts.integer("context_length", high=1 << 30)
        factors = _factors(facts, LONG if length > original else SHORT, dimensions // 2)
        magnitude = facts.number("rope.scaling.attn_factor", rotary.long_magnitude(length, original))
        return rotary.divided(plain, factors), magnitude
    return plain, 1.0


def _original_length(facts: Facts) -> int:
    """Positions that the model had seen before its rotary embedding was scaled."""
    return facts.integer("rope.scaling.original_context_length", low=2, high=1 << 30)


def rotary_shapes(facts: Facts, used: Rotary) -> dict[str, tuple[int, ...]]:
    """Shapes of the small tensors beside the rotary metadata, as far as the file has them."""
    return {name: (1, len(used.frequencies)) for name in (FACTORS, SHORT, LONG) if name in facts.tensor_names}


def _factors(facts: Facts, name: str, pairs: int) -> tuple[float, ...]:
    factors = facts.vector(name) if name in facts.tensor_names else ()
    if len(factors) != pairs or not all(0 < factor < float("inf") for factor in factors):
        raise ModelError(f"tensor {name}: {pairs} positive rotary factors are needed; use a complete file")
    return factors


def check_widths(multiple: int, **widths: int) -> None:
    """Raise ModelError unless every width is a multiple of `multiple`, which the arithmetic needs."""
    for name, width in widths.items():
        if width % multiple:
            words = name.replace("_", " ")
            raise ModelError(f"{words} {width} is not a multiple of {multiple}, which the kernels need")
