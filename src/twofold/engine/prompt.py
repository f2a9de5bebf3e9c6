"""What a prompt must be before it is worth encoding or asking."""

from collections.abc import Sequence

from twofold.errors import RequestError
from twofold.model.tokenizer import Tokenizer


def check_text(tokenizer: Tokenizer, text: str, positions: int) -> None:
    """RequestError for text that cannot fit so many positions even if every token were the longest there is.

    So much text takes the tokenizer seconds and hundreds of megabytes.
    """
    if len(text) > positions * tokenizer.longest_bytes:
        raise RequestError(
            f"the prompt has {len(text)} letters, far more than a context of {positions} positions holds; shorten it"
        )


def check_tokens(ids: Sequence[int], vocabulary: int) -> None:
    """RequestError if one of `ids` is not a token."""
    for token in (min(ids, default=0), max(ids, default=0)):
        if not 0 <= token < vocabulary:
            raise RequestError(f"token {token} is not in the vocabulary; the ids are 0 to {vocabulary - 1}")
