"""Streams while they run: clients that go away, clients that do not read, prefills that take long."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from served import HELLO, Served
from starlette.types import Message

from twofold.server.sse import PING

PATH = "/v1/chat/completions"
PATIENCE = 10.0


class Client:
    """An ASGI client by hand: it sends one body, and then what the test does with `receive` and `send`."""

    def __init__(self, served: Served, body: dict[str, Any], *, path: str = PATH) -> None:
        self.served, self._body, self._path = served, json.dumps(body).encode(), path
        self.sent: list[bytes] = []
        self.silent = False  # send no body
        self.gone = asyncio.Event()  # set: the client closes its connection
        self.arrived: Callable[[], Awaitable[None]] | None = None  # awaited for every piece that is sent

    async def run(self) -> None:
        """Until the application has answered."""
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
            "path": self._path, "raw_path": self._path.encode(), "query_string": b"", "headers": headers,
            "scheme": "http", "root_path": "",
        }  # fmt: skip
        async with asyncio.timeout(PATIENCE):
            await self.served.app(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if self._body and not self.silent:
            body, self._body = self._body, b""
            return {"type": "http.request", "body": body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            if self.arrived:
                await self.arrived()
            self.sent.append(message["body"])
            if b"hello" in message["body"]:
                self.leave_if_wanted()

    def leave_if_wanted(self) -> None:
        """The first text arrived."""


class Leaving(Client):
    """Closes its connection when the first text arrives."""

    def leave_if_wanted(self) -> None:
        self.gone.set()


@pytest.mark.parametrize("path", [PATH, "/v1/completions", "/v1/responses", "/v1/messages"])
def test_a_client_that_leaves_a_stream_cancels_its_answers(served: Served, path: str) -> None:
    served.serving.held = True
    asked = {"/v1/completions": {"prompt": "a"}, "/v1/responses": {"input": "a"}}.get(path, {"messages": HELLO})
    more = {"model": "tiny", "max_tokens": 9} if path == "/v1/messages" else {}
    asyncio.run(Leaving(served, {**asked, **more, "stream": True}, path=path).run())
    assert [answer.cancelled for answer in served.serving.answers] == [True]
    line = served.records[-1].line()
    assert (line["status"], line["generated_tokens"]) == (499, 1)


def test_a_client_that_leaves_cancels_all_n_answers_of_a_whole_reply_too(served: Served) -> None:
    served.serving.held = True

    async def left() -> None:
        client = Client(served, {"messages": HELLO, "n": 3})
        running = asyncio.create_task(client.run())
        while not (len(served.serving.answers) == 3 and served.serving.answers[0].usage.generated_tokens):
            await asyncio.sleep(0)
        client.gone.set()
        await running

    asyncio.run(left())
    assert [answer.cancelled for answer in served.serving.answers] == [True] * 3
    assert served.records[-1].line()["status"] == 499


def test_while_nothing_is_known_pings_are_sent(tiny_path: Path) -> None:
    served = Served(tiny_path, ping=0.01)
    served.serving.held = True

    async def pinged() -> list[bytes]:
        client = Client(served, {"messages": HELLO, "stream": True})
        running = asyncio.create_task(client.run())
        while client.sent.count(PING) < 3:
            await asyncio.sleep(0)
        client.gone.set()
        await running
        return client.sent

    sent = asyncio.run(pinged())
    assert b"hello" in b"".join(sent[: sent.index(PING)])


def test_a_stream_begins_with_its_first_piece(served: Served) -> None:
    client = Client(served, {"messages": HELLO, "stream": True})
    asyncio.run(client.run())
    assert b'"role":"assistant"' in client.sent[0]
    assert b"hello" in client.sent[0]
    assert not any(b'"role"' in later for later in client.sent[1:])


def test_a_client_that_reads_nothing_is_given_up_and_its_answers_are_cancelled(tiny_path: Path) -> None:
    served = Served(tiny_path, ping=0.01)

    async def stalled() -> Client:
        client = Client(served, {"messages": HELLO, "stream": True, "n": 2})
        never = asyncio.Event()
        pieces = 0

        async def arrived() -> None:
            nonlocal pieces
            pieces += 1
            if pieces > 2:
                await never.wait()

        client.arrived = arrived
        await client.run()
        return client

    client = asyncio.run(stalled())
    assert len(client.sent) == 2
    assert [answer.cancelled for answer in served.serving.answers] == [True, True]
    assert served.records[-1].line()["status"] == 499


def test_a_slow_reader_slows_nobody_else(served: Served) -> None:
    async def two() -> None:
        slow, quick = Client(served, {"messages": HELLO, "stream": True}), Client(served, {"messages": HELLO})
        done = asyncio.Event()
        slow.arrived = done.wait  # type: ignore[assignment]
        reading = asyncio.create_task(slow.run())
        await quick.run()
        assert not reading.done()
        done.set()
        await reading
        assert slow.sent[-1].endswith(b"data: [DONE]\n\n")

    asyncio.run(two())


def test_a_stream_that_is_aborted_by_its_server_leaves_no_answer_behind(served: Served) -> None:
    served.serving.held = True

    async def aborted() -> None:
        client = Client(served, {"messages": HELLO, "stream": True})
        running = asyncio.create_task(client.run())
        while not any(b"hello" in piece for piece in client.sent):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(aborted())
    assert served.serving.answers[0].cancelled


def test_a_body_that_does_not_arrive_is_waited_for_no_longer_than_the_patience(tiny_path: Path) -> None:
    served = Served(tiny_path, patience=0.01)

    async def endless() -> None:
        client = Client(served, {"messages": HELLO})
        client.silent = True
        await client.run()

    asyncio.run(endless())
    assert served.records[-1].status == 408


def test_a_body_that_breaks_off_is_refused(served: Served) -> None:
    async def broken() -> None:
        client = Client(served, {"messages": HELLO})
        client.silent = True
        client.gone.set()
        await client.run()

    asyncio.run(broken())
    assert served.records[-1].status == 400
