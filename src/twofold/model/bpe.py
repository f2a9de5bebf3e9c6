"""Byte pair encoding: words to token ids by the merges of a vocabulary. What is said here is done in native/bpe.c.

A word is its bytes, each the token of one byte. Among all neighbours that a merge names, the best merge is done, at its
leftmost place, until none is left. Sources: Sennrich et al. 2016; over bytes, Radford et al. 2019 (GPT-2).
"""

import ctypes
import functools
import weakref
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from twofold.errors import DeviceError, ModelError
from twofold.model.strings import Ends, Strings
from twofold.native import library

REMEDY = "fetch the model again or convert it with a current converter"


class _Problem(IntEnum):
    """Why tf_bpe_new made nothing."""

    OUT_OF_MEMORY = 1
    TWICE = 2
    EMPTY = 3
    NO_PAIR = 4
    NO_LEFT = 5
    NO_RIGHT = 6
    NO_WHOLE = 7


class Bpe:
    """The merges of one vocabulary, ready to use. Safe to share between threads."""

    def __init__(self, tokens: Strings, merges: Strings, *, whole_words: bool) -> None:
        """`tokens` are in GPT-2's letters for bytes; `merges` are "left right", best first.

        `whole_words`: a word that is a token is taken as it is, without merging. Raises ModelError, naming the first,
        for a token that is empty or there twice and for a merge that is not two tokens that make a third.
        """
        problem = np.zeros(2, np.int32)
        self._kept = tokens, merges, tokens.end, merges.end  # native code points into them
        self._address = _functions().tf_bpe_new(
            tokens.text, tokens.end.ctypes.data, len(tokens),
            merges.text, merges.end.ctypes.data, len(merges), whole_words, problem.ctypes.data,
        )  # fmt: skip
        if not self._address:
            raise _refusal(_Problem(int(problem[0])), int(problem[1]), tokens, merges)
        weakref.finalize(self, _functions().tf_bpe_free, self._address)

    def encode(self, text: bytes, ends: Ends, known: npt.NDArray[np.int32]) -> list[int]:
        """The token ids of `text`, which is cut into words that end at `ends`, the last of them at its end.

        `known`: a word's token where it is decided, else -1. A byte that no token stands for is left out. Raises
        DeviceError if there is no memory for the longest word.
        """
        ids = np.empty(len(text), np.int32)
        count = _functions().tf_bpe_encode(
            self._address, text, ends.ctypes.data, known.ctypes.data, len(ends), ids.ctypes.data
        )
        if count < 0:
            raise DeviceError(f"memory ran out over a text of {len(text)} bytes; shorten it")
        found: list[int] = ids[:count].tolist()
        return found


def _refusal(problem: _Problem, where: int, tokens: Strings, merges: Strings) -> ModelError | DeviceError:
    if problem is _Problem.OUT_OF_MEMORY:
        return DeviceError(f"no memory for a vocabulary of {len(tokens)} tokens; close programs")
    if problem is _Problem.TWICE:
        return ModelError(f"the tokenizer has the token {tokens[where][:60]!r} twice; {REMEDY}")
    if problem is _Problem.EMPTY:
        return ModelError(f"token {where} of the tokenizer is empty; {REMEDY}")
    merge = merges[where]
    if problem is _Problem.NO_PAIR:
        return ModelError(f"tokenizer merge {where} is {merge[:60]!r}, not two tokens and a space; {REMEDY}")
    left, _, right = merge.partition(" ")
    token = {_Problem.NO_LEFT: left, _Problem.NO_RIGHT: right}.get(problem, left + right)
    return ModelError(f"tokenizer merge {where} names {token[:60]!r}, which is not in the vocabulary; {REMEDY}")


@functools.cache
def _functions() -> ctypes.CDLL:
    """The library, with the signatures of native/bpe.c set."""
    native, pointer = library(), ctypes.c_void_p
    strings = (ctypes.c_char_p, pointer, ctypes.c_int32)
    native.tf_bpe_new.restype = pointer
    native.tf_bpe_new.argtypes = (*strings, *strings, ctypes.c_int32, pointer)
    native.tf_bpe_free.restype = None
    native.tf_bpe_free.argtypes = (pointer,)
    native.tf_bpe_encode.restype = ctypes.c_int64
    native.tf_bpe_encode.argtypes = (pointer, ctypes.c_char_p, pointer, pointer, ctypes.c_int64, pointer)
    return native
