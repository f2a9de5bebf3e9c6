"""The unigram model: of all ways to divide a word into tokens the likeliest. The `tokenizers` library finds it.

Source: Kudo 2018, "Subword Regularization"; Kudo & Richardson 2018 (SentencePiece).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import models

from twofold.errors import ModelError
from twofold.model.bpe import REMEDY, Ids, Piece
from twofold.model.strings import Strings
from twofold.model.tokenizer_metadata import BYTE, CONTROL, UNKNOWN

_NEVER = ""  # the text of a token that text never becomes


class Unigram:
    """One vocabulary with its scores, ready to use. Safe to share between threads."""

    def __init__(
        self, tokens: Strings, scores: npt.NDArray[np.float32], types: Ids, *,
        unknown: int | None, byte_tokens: Ids | None,
    ) -> None:  # fmt: skip
        """`scores` are logarithms of probabilities. Characters that no token has become `byte_tokens` (i32[256], by
        byte; -1: none) or else `unknown`.

        Raises ModelError if there is no unknown token, and for a token that is there twice.
        """
        if unknown is None:
            raise ModelError(f"the tokenizer is unigram and names no unknown id; {REMEDY}")
        seen: set[str] = set()
        for token in tokens:
            if token in seen:
                raise ModelError(f"the tokenizer has the token {token[:60]!r} twice; {REMEDY}")
            seen.add(token)
        self._unknown: int = unknown
        self._byte_tokens: list[int] | None = None if byte_tokens is None else byte_tokens.tolist()
        hidden = np.isin(types, (CONTROL, UNKNOWN, BYTE)).tolist()
        texts = [_NEVER if never else token for token, never in zip(tokens, hidden, strict=True)]
        self._model = models.Unigram(list(zip(texts, scores.tolist(), strict=True)), unknown)

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """The token ids of words, in the vocabulary's writing, and of tokens that are decided."""
        ids: list[int] = []
        for piece in pieces:
            ids += [piece] if isinstance(piece, int) else self._word(piece)
        return ids

    def _word(self, word: str) -> list[int]:
        ids: list[int] = []
        for token in self._model.tokenize(word):
            ids += [token.id] if token.id != self._unknown else self._spelled(token.value)
        return ids

    def _spelled(self, text: str) -> list[int]:
        """The tokens of the bytes of a text that no token has, if there are all of them."""
        spelled = [-1] if self._byte_tokens is None else [self._byte_tokens[byte] for byte in text.encode()]
        return spelled if min(spelled) >= 0 else [self._unknown]
