"""Answers as server-sent events, and clients that go away.

Source: WHATWG HTML, section 9.2, server-sent events. A line that begins with a colon is a comment, which clients
skip: it keeps a connection alive through a long prefill.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from twofold.engine.request import Piece
from twofold.errors import TwofoldError
from twofold.server.record import Record
from twofold.server.refusal import Refusal, refusal_of
from twofold.server.served import Answering
from twofold.units import Seconds

PING = b": ping\n\n"
PING_SECONDS = Seconds(10.0)
STALLED_PINGS = 6  # so many times as long a client may read nothing before its answers are cancelled
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second: a proxy shall not collect them

encode = msgspec.json.Encoder().encode


def data(value: object) -> bytes:
    """An event without a name."""
    return b"data: " + encode(value) + b"\n\n"


def event(name: str, value: object) -> bytes:
    """An event with one."""
    return b"event: " + name.encode() + b"\n" + data(value)


class Writing(Protocol):
    """How a protocol writes answers as events; each method returns some, ready to send, or none."""

    def begin(self) -> bytes:
        """What stands before the first events of a piece; they are sent together."""

    def piece(self, index: int, piece: Piece) -> bytes:
        """The next piece of answer `index`; the last has a `finish`."""

    def end(self) -> bytes:
        """All answers are complete."""

    def failed(self, refusal: Refusal) -> bytes:
        """There will be no more."""


@contextlib.asynccontextmanager
async def attended(receive: Receive, answers: Sequence[Answering], record: Record) -> AsyncIterator[None]:
    """Inside, a client that goes away cancels the answers; afterwards none of them goes on."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        record.gone = True
        for answer in answers:
            answer.cancel()

    watching = asyncio.create_task(gone())
    try:
        yield
    finally:
        watching.cancel()
        for answer in answers:
            answer.cancel()
        record.add(answer.usage for answer in answers)


async def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class After:
    """`complete` is done once all answers are there, before the end is told; `held` is let go last."""

    complete: Callable[[], Awaitable[None]] = _nothing
    held: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)


class EventStream(Response):
    """Answers written as they come, those of several interleaved."""

    media_type = "text/event-stream"

    def __init__(
        self,
        answers: Sequence[Answering],
        writing: Writing,
        record: Record,
        ping: Seconds = PING_SECONDS,
        after: After | None = None,
    ) -> None:
        self.status_code, self.background = 200, None  # and no body: there is no length to tell
        self.init_headers(HEADERS)
        self._answers, self._writing, self._record, self._ping = answers, writing, record, ping
        self._written, self._after = 0, after or After()  # times
        self._opening = b""  # sent with the first piece: a client's first event is the moment of its first token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write all; a client that reads nothing for long is given up."""
        async with self._after.held:
            await self._attend(receive, send)

    async def _attend(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async with attended(receive, self._answers, self._record), asyncio.timeout(None) as patience:
                pinging = asyncio.create_task(self._keep_alive(send, patience))
                try:
                    await self._write_all(send)
                finally:
                    pinging.cancel()
        except TimeoutError:
            self._record.gone = True

    async def _write_all(self, send: Send) -> None:
        self._opening = self._writing.begin()
        try:
            async with asyncio.TaskGroup() as pumps:
                for index, answer in enumerate(self._answers):
                    pumps.create_task(self._pump(index, answer, send))
            await self._after.complete()
            end = self._writing.end()
        except* TwofoldError as group:
            end = self._writing.failed(_refusal(group))
        await send({"type": "http.response.body", "body": self._opening + end})

    async def _pump(self, index: int, answer: Answering, send: Send) -> None:
        async for piece in answer:
            self._record.first_piece()
            await self._write(send, self._writing.piece(index, piece))

    async def _write(self, send: Send, events: bytes) -> None:
        if events:
            opening, self._opening = self._opening, b""  # before `send`, as answers are written side by side
            await send({"type": "http.response.body", "body": opening + events, "more_body": True})
            self._written += 1

    async def _keep_alive(self, send: Send, patience: asyncio.Timeout) -> None:
        """Ping whenever nothing was written for a while; end it all once the client does not read the ping either."""
        with contextlib.suppress(TimeoutError):
            while True:
                before = self._written
                await asyncio.sleep(self._ping)
                if self._written == before:
                    async with asyncio.timeout(STALLED_PINGS * self._ping):
                        await send({"type": "http.response.body", "body": PING, "more_body": True})
        patience.reschedule(asyncio.get_running_loop().time())


def _refusal(group: BaseException) -> Refusal:
    """The first error of a group."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    assert isinstance(group, TwofoldError)
    return refusal_of(group)
