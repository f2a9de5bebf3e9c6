"""The text of an answer as Python programs have it while it comes."""

import asyncio
from types import TracebackType
from typing import Self

from twofold.engine.ask import Ask, Output
from twofold.engine.request import Piece
from twofold.errors import RequestError


class TextStream:
    """Iterate for the text of an answer, with `for` or `async for`; then `output` is the whole.

    An error of the engine is raised to whoever iterates. Who wants no more lets it go, or closes it.
    """

    def __init__(self, ask: Ask, owner: object) -> None:
        """`ask`: which was begun; `owner`: whom it needs to stay."""
        self._ask, self._owner = ask, owner
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
        self._ask.close()

    @property
    def output(self) -> Output:
        """The complete answer; RequestError before its end."""
        if not self._over:
            raise RequestError("the answer has not ended; iterate to its end first")
        return self._ask.output

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        for piece in self._ask.answer:
            text = self._take(piece)
            if self._over:
                self._ask.finish()
            if text:
                return text
        raise StopIteration

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        async for piece in self._ask.answer:
            text = self._take(piece)
            if self._over:
                await asyncio.to_thread(self._ask.finish)
            if text:
                return text
        raise StopAsyncIteration

    def _take(self, piece: Piece) -> str:
        text = self._ask.read(piece)
        self._over = piece.finish is not None
        return text
