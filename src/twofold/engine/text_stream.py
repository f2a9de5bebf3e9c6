"""Answers as Python programs have them: whole, or their text as it becomes certain."""

from types import TracebackType
from typing import Self

import msgspec

from twofold.engine.answer import Answer
from twofold.engine.request import Chosen, Piece, Usage
from twofold.engine.whole import Whole
from twofold.errors import RequestError


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """A complete answer. `token_ids` has the token that ended it; `text` has neither that nor a stop string."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str  # "stop", "length", or "cancelled" if it was ended before
    usage: Usage
    logprobs: tuple[Chosen, ...] | None = None  # a token each, if they were asked for


def output_of(whole: Whole) -> Output:
    """What was read to its end."""
    told = any(chosen.logprob is not None for chosen in whole.chosen)
    return Output(
        text=whole.text,
        token_ids=tuple(chosen.token for chosen in whole.chosen),
        finish_reason=whole.finish,
        usage=whole.usage,
        logprobs=tuple(whole.chosen) if told else None,
    )


def output(answer: Answer) -> Output:
    """All of `answer`, once it is there; raises the engine's TwofoldError."""
    read = Whole(answer.usage)
    read.add(answer)
    return output_of(read)


class TextStream:
    """Iterate for the text of an answer, with `for` or `async for`; then `output` is the whole.

    An error of the engine is raised to whoever iterates. Who wants no more lets it go, or closes it.
    """

    def __init__(self, answer: Answer, owner: object) -> None:
        """`owner`: whom the answer needs to stay."""
        self._answer, self._owner = answer, owner
        self._whole = Whole(answer.usage)
        self._over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """End the answer within a step, as "cancelled", if it has not ended; as often as one likes."""
        if not self._over:
            self._answer.cancel()

    @property
    def output(self) -> Output:
        """The complete answer; RequestError before its end."""
        if not self._over:
            raise RequestError("the answer has not ended; iterate to its end first")
        return output_of(self._whole)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        for piece in self._answer:
            if text := self._take(piece):
                return text
        raise StopIteration

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        async for piece in self._answer:
            if text := self._take(piece):
                return text
        raise StopAsyncIteration

    def _take(self, piece: Piece) -> str:
        self._whole.add([piece])
        self._over = piece.finish is not None
        return piece.text
