"""Native code over one row of logits, for sampling: the token, the likeliest, what log-probabilities need.

Every vector level gives the same, so the best that this processor has is taken.
"""

import ctypes
import functools

import numpy as np
import numpy.typing as npt

from twofold.kernels.arithmetic import F32
from twofold.kernels.binding import ChoiceStruct, Functions

U32 = npt.NDArray[np.uint32]
PANEL = 16  # the kernels write whole panels


class Choosing:
    """The kernels at one vector level. Safe to share between threads."""

    def __init__(self, level: str | None = None) -> None:
        """`level`: default the best this processor has."""
        self._functions = Functions()
        self._level = self._functions.level((level or self._functions.levels()[0]).encode())

    def token(self, logits: F32, choice: ChoiceStruct) -> int | None:
        """What `engine.sampling.sample` chooses from f32[V]; None where it takes the definition itself to tell.

        That is where sums in another order could change the choice, and for a top-k of more than 1024.
        """
        weights, ids = _room(len(logits)), np.empty(len(logits), np.int32)
        found: int = self._functions.choose(
            self._level, ctypes.addressof(choice), _address(logits), _address(weights), _address(ids)
        )
        return None if found < 0 else found

    def mask(self, logits: F32, allowed: U32, left: F32) -> F32:
        """What `engine.sampling.masked` gives for f32[V] and the bits uint32[ceil(V / 32)], in `left` f32[V]."""
        self._functions.mask(self._level, _address(logits), len(logits), _address(allowed), _address(left))
        return left

    def log_partition(self, logits: F32, most: float) -> float:
        """`arithmetic.log_partition` of f32[V], whose largest is `most`."""
        room = _room(len(logits))
        value: float = self._functions.log_partition(self._level, _address(logits), len(logits), most, _address(room))
        return value

    def top(self, logits: F32, k: int) -> list[int]:
        """The k <= V largest of f32[V]: ids, likeliest first, the lower id first among equals."""
        ids = np.empty(k, np.int32)
        self._functions.top(self._level, _address(logits), len(logits), k, _address(ids))
        found: list[int] = ids.tolist()
        return found


@functools.cache
def best() -> Choosing:
    """The kernels at the best level of this processor."""
    return Choosing()


def _room(width: int) -> F32:
    return np.empty(width + PANEL, np.float32)


def _address(array: npt.NDArray[np.float32] | npt.NDArray[np.int32] | U32) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
