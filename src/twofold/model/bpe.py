"""Byte pair encoding: words to token ids by the merges of a vocabulary. What is said here is done in native/bpe.c.

A word is its characters, each the token of one. Among all neighbours that merge, the best merge is done, at its
leftmost place, until none is left. Sources: Sennrich et al. 2016; over bytes, Radford et al. 2019 (GPT-2); by the
scores of tokens, with bytes for unknown characters, Kudo & Richardson 2018 (SentencePiece).
"""

import ctypes
import functools
import weakref
from collections.abc import Sequence
from enum import IntEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from twofold.errors import DeviceError, ModelError, RequestError
from twofold.model.strings import Strings
from twofold.native import library
from twofold.units import GIB

Ids: TypeAlias = npt.NDArray[np.int32]
Piece: TypeAlias = str | int  # of a text: a word, or a token that is decided
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

    def __init__(
        self, tokens: Strings, merges: Strings | None, ranks: Ids, *,
        byte_tokens: Ids | None = None, unknown: int | None = None, whole_words: bool = False,
    ) -> None:  # fmt: skip
        """`merges` are "left right", best first; with None, two neighbours merge where their text is a token.

        `ranks`: i32 a token, -1 where text never becomes that token; of two tokens without merges the lower rank is
        done first. A character that is no token becomes `byte_tokens` (i32[256], by byte; -1: none) or else `unknown`;
        with neither it is left out. `whole_words`: a word that is a token is taken as it is, without merging. Raises
        ModelError, naming the first, for a token that is empty or there twice and for a merge that is not two tokens
        that make a third.
        """
        problem = np.zeros(2, np.int32)
        listed = merges if merges is not None else Strings(b"", b"")
        self._kept = tokens, listed, tokens.end, listed.end, ranks, byte_tokens  # native code points into them
        self._address = _functions().tf_bpe_new(
            tokens.text, tokens.end.ctypes.data, len(tokens), ranks.ctypes.data,
            None if merges is None else listed.text, listed.end.ctypes.data, len(listed),
            None if byte_tokens is None else byte_tokens.ctypes.data, -1 if unknown is None else unknown,
            whole_words, problem.ctypes.data,
        )  # fmt: skip
        if not self._address:
            raise _refusal(_Problem(int(problem[0])), int(problem[1]), tokens, listed)
        weakref.finalize(self, _functions().tf_bpe_free, self._address)

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """The token ids of words, in the vocabulary's writing, and of tokens that are decided.

        Raises RequestError for words of 2 GiB in all, DeviceError if there is no memory for the longest of them.
        """
        words = [piece if isinstance(piece, str) else "" for piece in pieces]
        known = np.array([-1 if isinstance(piece, str) else piece for piece in pieces], np.int32)
        joined = "".join(words)
        text = joined.encode()
        if len(text) >= 2 * GIB:
            raise RequestError("the text has 2 GiB or more, which no context holds; shorten it")
        lengths = map(len, words if len(text) == len(joined) else map(str.encode, words))
        ends = np.cumsum([*lengths], dtype=np.int32)
        ids = np.empty(len(text) + len(words), np.int32)
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
    native.tf_bpe_new.argtypes = (*strings, pointer, *strings, pointer, ctypes.c_int32, ctypes.c_int32, pointer)
    native.tf_bpe_free.restype = None
    native.tf_bpe_free.argtypes = (pointer,)
    native.tf_bpe_encode.restype = ctypes.c_int64
    native.tf_bpe_encode.argtypes = (pointer, ctypes.c_char_p, pointer, pointer, ctypes.c_int64, pointer)
    return native
