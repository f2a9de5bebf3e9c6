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

    def __init__(self, tokens: Strings, scores: npt.NDArray[np.float32], types: Ids, unknown: int | None) -> None:
        """`scores` are logarithms of probabilities; `unknown` stands for characters that no token has.

        Raises ModelError if there is no unknown token, and for a token that is there twice.
        """
        if unknown is None:
            raise ModelError(f"the tokenizer is unigram and names no unknown id; {REMEDY}")
        seen: set[str] = set()
        for token in tokens:
            if token in seen:
                raise ModelError(f"the tokenizer has the token {token[:60]!r} twice; {REMEDY}")
            seen.add(token)
        hidden = np.isin(types, (CONTROL, UNKNOWN)).tolist()
        texts = [_NEVER if never else token for token, never in zip(tokens, hidden, strict=True)]
        self._model = models.Unigram(
            list(zip(texts, scores.tolist(), strict=True)), unknown, bool((types == BYTE).any())
        )

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """The token ids of words, in the vocabulary's writing, and of tokens that are decided."""
        ids: list[int] = []
        for piece in pieces:
            ids += [piece] if isinstance(piece, int) else [token.id for token in self._model.tokenize(piece)]
        return ids
