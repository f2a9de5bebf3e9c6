"""When an answer ends."""

from collections.abc import Set

import msgspec

from twofold.errors import RequestError


class Limits(msgspec.Struct, frozen=True):
    """When to stop: at a token of `stop_ids`, at an end token of the model, at a stop string, at `max_tokens`.

    Before `min_tokens` no token that ends the answer is chosen, and no stop string is looked for.
    """

    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    ignore_end: bool = False  # go on past the model's end tokens
    min_tokens: int = 0
    stop_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Raise RequestError for a limit that makes no sense."""
        if self.max_tokens < 1:
            raise RequestError(f"max-tokens is {self.max_tokens}; it must be at least 1")
        if not 0 <= self.min_tokens <= self.max_tokens:
            raise RequestError(
                f"min-tokens is {self.min_tokens}; it must lie between 0 and max-tokens, {self.max_tokens}"
            )
        if any(not text for text in self.stop):
            raise RequestError("a stop string is empty; leave it out instead")
        if any("\ud800" <= letter <= "\udfff" for text in self.stop for letter in text):
            raise RequestError("a stop string is not UTF-8 text; give text")
        if any(token < 0 for token in self.stop_ids):
            raise RequestError(f"stop-ids holds {min(self.stop_ids)}; a token id is 0 or more")

    def ends(self, end_ids: Set[int]) -> frozenset[int]:
        """The tokens that end the answer of a model whose end tokens are `end_ids`."""
        return frozenset(self.stop_ids) | (frozenset() if self.ignore_end else end_ids)
