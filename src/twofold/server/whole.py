"""An answer, read to its end."""

from dataclasses import dataclass, field

from twofold.engine.request import Chosen, Usage
from twofold.model.tokenizer import Tokenizer
from twofold.server.served import Answering


@dataclass
class Whole:
    """A complete answer: its text, its tokens, how it ended and what it took."""

    usage: Usage
    text: str = ""
    chosen: list[Chosen] = field(default_factory=list)
    finish: str = "stop"


async def whole(answer: Answering) -> Whole:
    """All of `answer`; raises the engine's TwofoldError."""
    read = Whole(answer.usage)
    parts = []
    async for piece in answer:
        parts.append(piece.text)
        read.chosen += piece.chosen
        read.finish = piece.finish or read.finish
    read.text, read.usage = "".join(parts), answer.usage
    return read


def matched(tokenizer: Tokenizer, chosen: list[Chosen], stops: tuple[str, ...]) -> str | None:
    """Which of `stops` ended an answer of these tokens: the first to occur in their text."""
    if not stops:
        return None
    text = tokenizer.decode(token.token for token in chosen)
    places = [(text.find(stop), stop) for stop in stops if stop in text]
    return min(places)[1] if places else None
