"""Choosing the next token from a row of logits: context-aware, so it stays on the context side.

Reproducible to the bit on every host: exponentials are ours, sums run in a fixed order, and the random number
of a token is a function of the seed and the token's position alone, so neither load nor chunking changes it.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twofold.errors import ModelError, RequestError
from twofold.kernels.arithmetic import F32, I64, exp
from twofold.kernels.choosing import U32

MASK = (1 << 64) - 1
COLDEST = 1e-4  # below it, logits divided by it leave the range in which float32 still tells them apart


@dataclass(frozen=True)
class Sampling:
    """How to choose: temperature 0 takes the likeliest token; top_k 0, top_p 1 and min_p 0 are off.

    Any other temperature lies between 0.0001 and 100. The penalties are off at 1, 0 and 0; `logit_bias` holds
    (token, what is added to its logit), each from -100 to 100.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        """Raise RequestError for a value outside its range."""
        if self.temperature != 0.0:
            _within("temperature", self.temperature, COLDEST, 100.0)
        _within("top-p", self.top_p, 0.0, 1.0)
        _within("min-p", self.min_p, 0.0, 1.0)
        _within("top-k", self.top_k, 0, 1 << 31)
        _within("seed", self.seed, 0, MASK)
        if self.top_p == 0.0:
            raise RequestError("top-p is 0; it must be above 0 (1 turns it off)")
        _within("repetition-penalty", self.repetition_penalty, 0.01, 100.0)
        _within("presence-penalty", self.presence_penalty, -2.0, 2.0)
        _within("frequency-penalty", self.frequency_penalty, -2.0, 2.0)
        if len({token for token, _ in self.logit_bias}) != len(self.logit_bias):
            raise RequestError("logit-bias names a token twice; give each once")
        for token, bias in self.logit_bias:
            _within(f"logit-bias of token {token}", bias, -100.0, 100.0)

    @property
    def penalised(self) -> bool:
        """Whether a token's logit depends on the tokens before."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1.0, 0.0, 0.0)

    @property
    def largest(self) -> int | None:
        """How many of the largest logits decide; None if all do."""
        return 1 if self.temperature == 0.0 else self.top_k or None


def _within(name: str, value: float, low: float, high: float) -> None:
    if math.isnan(value) or not low <= value <= high:
        raise RequestError(f"{name} is {value}; it must lie between {low} and {high}")


def penalised(logits: F32, counts: I64, sampling: Sampling) -> F32:
    """Logits f32[n] of tokens that were seen, each `counts` i64[n] times in the answer (0: in the prompt alone).

    Repetition (Keskar et al. 2019, arXiv 1909.05858) divides what is above 0 and multiplies what is not; then frequency
    is subtracted for each time, and presence once, of what is in the answer.
    """
    repetition, frequency, presence = (
        np.float32(x) for x in (sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty)
    )
    repeated = np.where(logits > 0, logits / repetition, logits * repetition)
    result: F32 = (repeated - frequency * counts.astype(np.float32)) - presence * (counts > 0).astype(np.float32)
    return result


def sample(logits: F32, sampling: Sampling, position: int) -> int:
    """The token for `position` from logits f32[vocabulary]; ties go to the lower id.

    Order of the filters: temperature, top-k, top-p (Holtzman et al. 2020, arXiv 1904.09751: the smallest set of
    likeliest tokens whose share is at least top_p), min-p (arXiv 2407.01082: at least min_p times the likeliest).
    Raises ModelError for logits that are not numbers.
    """
    likeliest = likeliest_of(logits)
    if sampling.temperature == 0.0:
        return likeliest
    scaled = logits / np.float32(sampling.temperature)
    ids = _top_k(scaled, sampling.top_k) if 0 < sampling.top_k < len(scaled) else np.arange(len(scaled))
    weights = exp(scaled[ids] - scaled[ids].max()).astype(np.float64)
    if sampling.top_p < 1.0:
        ids, weights = _top_p(ids, weights, sampling.top_p)
    if sampling.min_p > 0.0:
        kept = weights >= sampling.min_p * weights.max()
        ids, weights = ids[kept], weights[kept]
    cumulative = np.cumsum(weights)
    drawn = uniform(sampling.seed, position) * cumulative[-1]
    return int(ids[min(int(np.searchsorted(cumulative, drawn, side="right")), len(ids) - 1)])


def masked(logits: F32, allowed: U32) -> F32:
    """Logits f32[V] with -infinity where a bit of `allowed` (uint32[ceil(V / 32)], the lowest first) is 0."""
    bits = np.unpackbits(allowed.astype("<u4").view(np.uint8), count=len(logits), bitorder="little")
    return np.where(bits, logits, np.float32(-np.inf))


def likeliest_of(logits: F32) -> int:
    """The token of the largest logit, the lower id among equals; ModelError for logits that are not numbers."""
    likeliest = int(logits.argmax())  # NaN counts as the largest
    if not math.isfinite(logits[likeliest]):
        raise ModelError(
            "the model gives logits that are not numbers, so its weights are damaged; download or convert it again"
        )
    return likeliest


def _top_k(scaled: F32, k: int) -> I64:
    """Ids of the k largest, in order of id; ties at the border go to the lower id."""
    border = np.partition(scaled, len(scaled) - k)[len(scaled) - k]
    above = np.flatnonzero(scaled > border)
    ties = np.flatnonzero(scaled == border)[: k - len(above)]
    return np.sort(np.concatenate([above, ties]))


def _top_p(ids: I64, weights: npt.NDArray[np.float64], top_p: float) -> tuple[I64, npt.NDArray[np.float64]]:
    """The likeliest tokens, most likely first, until their share reaches top_p."""
    total = np.cumsum(weights)[-1]
    # Tokens below this share cannot be needed: together they are less than 1 - top_p of the whole.
    possible = weights >= (1.0 - top_p) * total / len(weights) * 0.5
    ids, weights = ids[possible], weights[possible]
    order = np.argsort(-weights, kind="stable")
    ids, weights = ids[order], weights[order]
    count = int(np.searchsorted(np.cumsum(weights), top_p * total, side="left")) + 1
    return ids[:count], weights[:count]


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) with 53 random bits, from the seed and the position (SplitMix64, Steele et al. 2014)."""
    return (_mix(_mix(seed) + position) >> 11) * 2.0**-53


def _mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)
