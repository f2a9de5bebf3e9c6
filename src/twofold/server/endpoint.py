"""What every protocol's endpoints have in common: a body of a form comes in, a call is answered."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from twofold.engine.prompt import check_text
from twofold.engine.request import Piece, Request
from twofold.engine.seen import NOTHING, Seen
from twofold.engine.whole import Whole, whole
from twofold.errors import NoContext, RequestError, TwofoldError
from twofold.model.tokenizer import Tokenizer
from twofold.server.body import Fixed, Form, Implied, parsed, read
from twofold.server.offer import Offer
from twofold.server.record import Record
from twofold.server.refusal import Refusal, refusal_of
from twofold.server.served import Answering, Served
from twofold.server.shelves import Shelves
from twofold.server.sse import After, EventStream, Writing, attended
from twofold.store.contexts import Contexts

JSON = "application/json"
Result = TypeVar("Result")


class Call:
    """One request as an endpoint sees it."""

    def __init__(self, request: HttpRequest) -> None:
        self.offer: Offer = request.app.state.offer
        self.record: Record = request.state.record
        self.request, self._receive = request, request.receive

    @property
    def serving(self) -> Served:
        """Who answers; Refusal 503 if nobody does now."""
        return self.offer.readiness.serving

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        return self.serving.tokenizer

    def now(self) -> int:
        """Unix time."""
        return int(time.time())

    @property
    def shelves(self) -> Shelves:
        """The kept contexts; NoContext if this server keeps none."""
        if self.offer.shelves is None:
            raise NoContext("this server keeps no contexts; start it with --keep-contexts")
        return self.offer.shelves

    @property
    def contexts(self) -> Contexts:
        """Those of who asks."""
        return self.shelves.of(self.record.owner)

    async def submit(self, requests: Sequence[Request], before: Seen = NOTHING) -> list[Answering]:
        """Begin the answers, to prompts whose beginning `before` has seen; if one cannot be had, none is.

        To prepare a constraint takes up to seconds, so that is done in a thread, few at a time, as others go on.
        """
        if all(request.constraint is None for request in requests):
            return self._submit(requests, before)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.offer.preparing, self._submit, requests, before)

    def _submit(self, requests: Sequence[Request], before: Seen) -> list[Answering]:
        answers: list[Answering] = []
        try:
            for request in requests:
                answers.append(self.serving.submit(request, before))
        except TwofoldError as error:
            for answer in answers:
                answer.cancel()
            raise refusal_of(error) from None
        return answers

    async def wholes(self, answers: Sequence[Answering]) -> list[Whole]:
        """The answers, complete. They are computed side by side, so they may be read one after another."""
        async with self._reading(answers):
            return [await whole(answer) for answer in answers]

    async def pieces(self, answer: Answering) -> list[Piece]:
        """All pieces of an answer."""
        async with self._reading([answer]):
            return [piece async for piece in answer]

    @contextlib.asynccontextmanager
    async def _reading(self, answers: Sequence[Answering]) -> AsyncIterator[None]:
        try:
            async with attended(self._receive, answers, self.record):
                yield
        except TwofoldError as error:
            raise refusal_of(error) from None

    def stream(self, answers: Sequence[Answering], writing: Writing, after: After | None = None) -> EventStream:
        """The answers as events."""
        return EventStream(answers, writing, self.record, self.offer.ping, after)


def answered(value: object) -> Response:
    """A complete answer."""
    return Response(msgspec.json.encode(value), media_type=JSON)


@dataclass(frozen=True)
class Endpoint(Generic[Form]):
    """A path that takes a body of a form; the OpenAPI document says of it what stands here."""

    path: str
    takes: type[Form]
    gives: type[msgspec.Struct]
    answer: Callable[[Form, Call], Awaitable[Response]]
    fixed: tuple[Fixed, ...] = ()
    streams: bool = False
    rules: Mapping[str, Any] = field(default_factory=dict)  # JSON Schema of what binds several parameters
    implied: Implied = field(default_factory=dict)

    async def handle(self, request: HttpRequest) -> Response:
        """Answer one request; raises Refusal."""
        call = Call(request)
        _ = call.serving  # before a body is waited for that nobody could answer
        offer = call.offer
        raw = await read(request, offer.patience)
        form = await offer.turnstile.passed(len(raw), lambda: parsed(raw, self.takes, self.fixed, self.implied))
        return await self.answer(form, call)


@dataclass(frozen=True)
class Route:
    """A path that takes no body of a form; `takes` and `sends` are media types, `gives` is what JSON is sent."""

    method: str
    path: str
    answer: Callable[[Call], Awaitable[Response]]
    gives: type[msgspec.Struct] | None = None
    takes: str | None = None
    sends: str = JSON

    async def handle(self, request: HttpRequest) -> Response:
        """Answer one request; raises Refusal."""
        return await self.answer(Call(request))


async def encoded(call: Call, text: str, *, add_bos: bool | None = None) -> tuple[int, ...]:
    """The tokens of `text`, in a thread of its own, as others are answered meanwhile; Refusal 400 if it is too long.

    Text is not even encoded if it could not fit were every token the longest there is.
    """
    tokenizer, most = call.tokenizer, call.offer.most(call.serving)
    try:
        check_text(tokenizer, text, most)
    except RequestError as error:
        raise Refusal(400, str(error), code="context_length_exceeded") from None
    return tuple(await threaded(lambda: tokenizer.encode(text, add_bos=add_bos)))


async def threaded(work: Callable[[], Result]) -> Result:
    """`work()` in a thread; its errors as refusals."""
    try:
        return await asyncio.to_thread(work)
    except TwofoldError as error:
        raise refusal_of(error) from None
