"""Which requests come when: mixed lengths, Poisson arrivals, a half with a shared prefix. Pure.

Prompts are random token ids, so that every system reads the same tokens whatever its tokenizer, and nothing is known
of a prompt but the prefix that it was meant to share.
"""

import math
import random
from typing import NamedTuple

FIRST_ID = 100  # ids from here are ordinary tokens in every vocabulary we use


class Mix(NamedTuple):
    """What requests are like: tokens from least to most, short ones as likely as long ones on a logarithmic scale."""

    prompt: tuple[int, int] = (16, 384)
    answer: tuple[int, int] = (16, 192)
    prefix: int = 128  # tokens that those of a shared prefix begin with, besides their own
    sharing: float = 0.5
    vocabulary: int = 40_000


class Asked(NamedTuple):
    """One request: seconds from the start, ids of the prompt, and how many tokens are wanted, no fewer."""

    at: float
    prompt: list[int]
    tokens: int


def requests(seed: int, count: int, rate: float, mix: Mix) -> list[Asked]:
    """`count` of them, `rate` a second on average."""
    draw = random.Random(seed)
    prefix = _ids(draw, mix.prefix, mix)
    found, at = [], 0.0
    for number in range(count):
        at += draw.expovariate(rate)
        own = _ids(draw, _length(draw, mix.prompt), mix)
        shared = int((number + 1) * mix.sharing) > int(number * mix.sharing)  # exactly so many of any that follow
        found.append(Asked(at, prefix + own if shared else own, _length(draw, mix.answer)))
    return found


def _length(draw: random.Random, bounds: tuple[int, int]) -> int:
    least, most = bounds
    return round(math.exp(draw.uniform(math.log(least), math.log(most))))


def _ids(draw: random.Random, count: int, mix: Mix) -> list[int]:
    return [draw.randrange(min(FIRST_ID, mix.vocabulary // 2), mix.vocabulary) for _ in range(count)]
