"""A client of `/v1/completions` that streams: HTTP/1.1 by hand, as a client must not take the processors it measures.

Every request has a connection of its own. Servers write whole events, so a line that begins with `data:` is one.
"""

import asyncio
import contextlib
import time
from typing import Any, NamedTuple

import msgspec

from traffic.work import Asked

PATH = "/v1/completions"
EVENT = b"data: {"


class Server(NamedTuple):
    """Where one listens, and what its model is called."""

    host: str
    port: int
    model: str


class Choice(msgspec.Struct):
    """What an event says of an answer."""

    text: str = ""
    token_ids: list[int] | None = None
    finish_reason: str | None = None


class Event(msgspec.Struct):
    """What is read of an event: an answer's piece, or an error."""

    choices: list[Choice] = []
    error: Any = None


class Seen(msgspec.Struct):
    """What became of a request; moments on the monotonic clock."""

    sent: float
    status: int = 0  # of HTTP; 0: no answer
    first: float | None = None  # the first token
    last: float | None = None
    pieces: int = 0
    finish: str | None = None
    retry_after: str | None = None
    left: bool = False  # we went away on purpose
    error: str | None = None
    key: str = ""


decode = msgspec.json.Decoder(Event).decode


def body_of(asked: Asked, model: str, *, stream: bool = True) -> bytes:
    """A request as JSON: greedy, as many tokens as were wanted, and an event for each, as one may have no text."""
    return msgspec.json.encode(
        {
            "model": model, "prompt": asked.prompt, "max_tokens": asked.tokens, "temperature": 0,
            "ignore_eos": True, "stream": stream, "return_token_ids": True,
        }
    )  # fmt: skip


def head_of(server: Server, length: int, *, key: str = "", path: str = PATH) -> bytes:
    """The lines before a body."""
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    return (
        f"POST {path} HTTP/1.1\r\nHost: {server.host}\r\nContent-Type: application/json\r\nConnection: close\r\n"
        f"{authorization}Content-Length: {length}\r\n\r\n"
    ).encode()


async def ask(
    server: Server, asked: Asked, *, key: str = "", leave_after: int | None = None, patience: float = 120.0
) -> Seen:
    """Ask and read to the end, or go away after so many pieces (0: as soon as the request was sent)."""
    seen = Seen(time.monotonic(), key=key)
    body = body_of(asked, server.model)
    try:
        async with asyncio.timeout(patience), connected(server) as (reader, writer):
            writer.write(head_of(server, len(body), key=key) + body)
            await writer.drain()
            seen.left = leave_after == 0
            if not seen.left:
                await _read(reader, seen, leave_after)
    except TimeoutError:
        seen.error = f"no end within {patience:g} s"
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        seen.error = str(error) or type(error).__name__
    return seen


@contextlib.asynccontextmanager
async def connected(server: Server) -> Any:
    """A connection, closed afterwards at once: what is unread is thrown away."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _read(reader: asyncio.StreamReader, seen: Seen, leave_after: int | None) -> None:
    """The answer, event by event."""
    await _read_head(reader, seen)
    while line := await reader.readline():
        if not line.startswith(EVENT):
            continue
        event = decode(line[len(EVENT) - 1 :])
        if event.error is not None:
            seen.error = str(event.error)
        for choice in event.choices:
            _note(seen, choice)
        if leave_after is not None and seen.pieces >= leave_after and not seen.finish:
            seen.left = True
            return


def _note(seen: Seen, choice: Choice) -> None:
    if choice.text or choice.token_ids or choice.finish_reason:
        seen.last = time.monotonic()
        seen.first = seen.first or seen.last
        seen.pieces += 1
    seen.finish = choice.finish_reason or seen.finish


async def _read_head(reader: asyncio.StreamReader, seen: Seen) -> None:
    """Status and headers; ValueError if there is no status."""
    seen.status = int((await reader.readline()).split()[1:2][0]) if not reader.at_eof() else 0
    while (line := await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(":")
        if name.lower() == "retry-after":
            seen.retry_after = value.strip()
