"""An answer, read to its end."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from twofold.engine.request import Chosen, Piece, Usage
from twofold.model.tokenizer import Tokenizer


class Told(Protocol):
    """An answer under way: its pieces come as they are known, and `usage` is right after the last."""

    usage: Usage

    def __aiter__(self) -> AsyncIterator[Piece]:
        """The pieces, the last with its `finish`; a TwofoldError if the engine fails."""


@dataclass
class Whole:
    """A complete answer: its text, its tokens, how it ended and what it took."""

    usage: Usage
    text: str = ""
    chosen: list[Chosen] = field(default_factory=list)
    finish: str = "stop"

    def add(self, pieces: Iterable[Piece]) -> None:
        """What comes next."""
        texts = [self.text]
        for piece in pieces:
            texts.append(piece.text)
            self.chosen += piece.chosen
            self.finish = piece.finish or self.finish
        self.text = "".join(texts)


async def whole(answer: Told) -> Whole:
    """All of `answer`; raises the engine's TwofoldError."""
    pieces = [piece async for piece in answer]
    read = Whole(answer.usage)
    read.add(pieces)
    return read


def matched(tokenizer: Tokenizer, chosen: list[Chosen], stops: tuple[str, ...]) -> str | None:
    """Which of `stops` ended an answer of these tokens: the first to occur in their text."""
    if not stops:
        return None
    text = tokenizer.decode(token.token for token in chosen)
    places = [(text.find(stop), stop) for stop in stops if stop in text]
    return min(places)[1] if places else None
