"""Rotary frequencies: what a checkpoint's metadata says of them, turned into numbers once, when it is opened.

A frequency belongs to a pair of elements of a head; it is the angle of one position in radians. All is computed
in f64 and rounded to f32 at the end: the context parameters that travel are of that type.
"""

import math
from collections.abc import Sequence

from twofold.model.operations import Rotary, rounded

Frequencies = tuple[float, ...]


def plain(base: float, dimensions: int) -> Frequencies:
    """base^(-2i / dimensions) for each pair i (Su et al. 2021, arXiv 2104.09864)."""
    return tuple(base ** (-2 * i / dimensions) for i in range(dimensions // 2))


def linear(frequencies: Frequencies, factor: float) -> Frequencies:
    """Positions squeezed by `factor` (Chen et al. 2023, arXiv 2306.15595)."""
    return tuple(f / factor for f in frequencies)


def divided(frequencies: Frequencies, factors: Sequence[float]) -> Frequencies:
    """Each frequency divided by a factor of its own: Llama 3.1 (arXiv 2407.21783) and LongRoPE (arXiv 2402.13753)."""
    return tuple(f / factor for f, factor in zip(frequencies, factors, strict=True))


def yarn(
    base: float,
    dimensions: int,
    *,
    factor: float,
    original_length: int,
    fast: float,
    slow: float,
    whole_pairs: bool = True,
) -> Frequencies:
    """Frequencies that turn often stay, those that turn seldom are squeezed, a ramp between (arXiv 2309.00071).

    `fast` and `slow` are turns within `original_length` positions: above `fast` a frequency stays, below `slow` it
    is divided by `factor`. The ramp begins and ends at `whole_pairs`, or between them.
    """

    def pair_of(turns: float) -> float:
        return dimensions * math.log(original_length / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = pair_of(fast), pair_of(slow)
    if whole_pairs:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dimensions - 1)
    length = high - low or 0.001  # a ramp of no length is a step
    found = []
    for i, f in enumerate(plain(base, dimensions)):
        squeezed = min(max((i - low) / length, 0.0), 1.0)
        found.append(f / factor * squeezed + f * (1 - squeezed))
    return tuple(found)


def yarn_magnitude(factor: float) -> float:
    """What YaRN multiplies cosine and sine by: 0.1 ln(factor) + 1 (arXiv 2309.00071, section 3.4)."""
    return 0.1 * math.log(factor) + 1 if factor > 1 else 1.0


def long_magnitude(length: int, original_length: int) -> float:
    """What LongRoPE multiplies cosine and sine by (arXiv 2402.13753; as Phi-3 has it)."""
    scale = length / original_length
    return math.sqrt(1 + math.log(scale) / math.log(original_length)) if scale > 1 else 1.0


def rotary(frequencies: Frequencies, *, interleaved: bool, magnitude: float = 1.0) -> Rotary:
    """The context parameters, rounded to f32."""
    return Rotary(tuple(map(rounded, frequencies)), interleaved, rounded(magnitude))
