"""The manifest: all that a context processor needs to know of a model, and no weight.

It travels when a context processor attaches (a few kilobytes): the planes of every cut and the small context
parameters (head layout, scale, rotary frequencies) of every layer.
"""

from collections.abc import Iterable

import msgspec

from twofold.model.operations import ContextLayer
from twofold.model.segment import Cut, Mixture, Plane, Segment

# The exact arithmetic, written down in docs/numerics.md. Processors that differ in it refuse each other.
NUMERICS = 1


class Manifest(msgspec.Struct, frozen=True):
    """One model as both sides of the cut know it."""

    digest: str  # SHA-256 of the checkpoint file, hexadecimal
    name: str
    family: str
    numerics: int
    vocabulary: int  # tokens, = width of the logits plane
    context_length: int  # positions the model was made for
    cuts: tuple[Cut, ...]  # of segments 0 .. L, of the other ends of a step, and of the parts of mixtures
    layers: tuple[ContextLayer, ...]  # L of them
    mixtures: tuple[Mixture, ...] = ()  # by rising segment

    @property
    def segments(self) -> int:
        """Number of segments: one a layer, the ends of a step, and the parts of mixtures."""
        return len(self.cuts)

    @property
    def ends(self) -> range:
        """The segments that end a step."""
        return range(len(self.layers), min((each.first for each in self.mixtures), default=len(self.cuts)))

    def holding(self, segments: Iterable[int], experts: frozenset[int] | None = None) -> frozenset[int]:
        """What is held of a model by whoever holds `segments`, and of each mixture the `experts` (None: all).

        That is also the parts of their mixtures; and a mixture's segment only if all its experts are held.
        """
        held = set(segments)
        for each in self.mixtures:
            if each.segment in held:
                own = {each.first + expert for expert in experts or () if expert < each.count}
                held |= {each.front, each.back, *(each.experts if experts is None else own)}
                if not held.issuperset(each.experts):
                    held.discard(each.segment)
        return frozenset(held)

    def planes(self) -> tuple[Plane, ...]:
        """Every distinct plane of every cut, in the order of first use."""
        found: dict[str, Plane] = {}
        for cut in self.cuts:
            for plane in (*cut.takes, *cut.gives):
                found.setdefault(plane.name, plane)
        return tuple(found.values())

    def context_bytes_per_token(self) -> int:
        """Bytes that context memory grows by with each token of a session."""
        return sum(layer.context_bytes for layer in self.layers)


class Model(msgspec.Struct, frozen=True):
    """A model: its manifest and, for the weight side, the operations of each segment."""

    manifest: Manifest
    segments: tuple[Segment, ...]
