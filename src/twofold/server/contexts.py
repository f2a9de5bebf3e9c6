"""`/v1/contexts`: kept contexts over HTTP, as `twofold context` has them. A chat completion goes on with one by name.

Each key sees its own; without keys, they are those of the user who runs the server.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import Annotated, BinaryIO, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from twofold.engine import going
from twofold.server.endpoint import Call, Endpoint, Route, answered
from twofold.server.refusal import Refusal
from twofold.server.shelves import ContextName
from twofold.store.context_file import ContextFile, Turn
from twofold.store.lock import alone
from twofold.store.told import Told, told
from twofold.units import MIB, bytes_text

PATH = "/v1/contexts"
FILE = "application/octet-stream"
CHUNK_BYTES = MIB
Result = TypeVar("Result")


class Named(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of what makes a context."""

    name: Annotated[ContextName, Meta(description="What it is to be called.")]


class Pin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of what pins a context, or lets it go again."""

    pinned: Annotated[bool, Meta(description="Whether it is never deleted to make room for others.")] = True


class ContextList(msgspec.Struct, frozen=True):
    """A reply to a GET of `/v1/contexts`."""

    object: str
    data: list[Told]
    size_bytes: int
    quota_bytes: int


class Shown(Told, frozen=True, kw_only=True):
    """One context with its messages, null for plain text."""

    turns: tuple[Turn, ...] | None


class Deleted(msgspec.Struct, frozen=True):
    """What is kept no longer."""

    name: str
    deleted: bool


async def list_(call: Call) -> Response:
    """The contexts that are kept."""
    contexts = call.contexts
    found = [told(kept) for kept in await _done(contexts.entries)]
    return answered(ContextList("list", found, sum(one.size_bytes for one in found), contexts.quota.size_bytes))


async def begin(body: Named, call: Call) -> Response:
    """Begin a context in which nothing was said yet."""
    contexts, manifest, clock = call.contexts, call.serving.manifest, call.shelves.clock
    await _done(lambda: going.begin(contexts, body.name, manifest, clock))
    return await _told(call, body.name)


async def show(call: Call) -> Response:
    """One context and what was said in it, after its checksum was found right."""
    contexts, name = call.contexts, _name(call)

    def shown() -> Shown:
        with contexts.read(name) as file:
            for _ in file.pages():
                pass
        return Shown(**msgspec.structs.asdict(told(contexts.entry(name))), turns=file.head.turns)

    return answered(await _done(shown))


async def delete(call: Call) -> Response:
    """Keep a context no longer."""
    contexts, name = call.contexts, _name(call)
    await _done(lambda: contexts.delete(name))
    return answered(Deleted(name, deleted=True))


async def fork(body: Named, call: Call) -> Response:
    """Keep a context under a second name, so that it can go on in two ways."""
    contexts, name = call.contexts, _name(call)
    await _done(lambda: contexts.fork(name, body.name))
    return await _told(call, body.name)


async def rename(body: Named, call: Call) -> Response:
    """Give a context another name."""
    contexts, name = call.contexts, _name(call)
    await _done(lambda: contexts.rename(name, body.name))
    return await _told(call, body.name)


async def pin(body: Pin, call: Call) -> Response:
    """Never delete a context to make room for others, or do again."""
    contexts, name = call.contexts, _name(call)
    await _done(lambda: contexts.pin(name, pinned=body.pinned))
    return await _told(call, name)


async def export(call: Call) -> Response:
    """The context file, which goes on with the same bits on any host that has its model."""
    contexts, name = call.contexts, _name(call)
    file = await _done(lambda: contexts.opened(name))
    headers = {
        "Content-Length": str(os.fstat(file.fileno()).st_size),
        "Content-Disposition": f'attachment; filename="{name}.context"',
    }
    return StreamingResponse(_chunks(file), headers=headers, media_type=FILE)


async def import_(call: Call) -> Response:
    """Keep what is in a context file, once it was found whole and of this model."""
    contexts, name, manifest = call.contexts, _name(call), call.serving.manifest
    with await _done(lambda: _scratch(call)) as scratch:
        size = await _received(call, scratch)

        def added() -> None:
            scratch.seek(0)
            going.add(contexts, name, ContextFile(scratch, size, "what was sent"), manifest)

        await _done(added)
    return await _told(call, name)


def _name(call: Call) -> str:
    return str(call.request.path_params["name"])


async def _told(call: Call, name: str) -> Response:
    contexts = call.contexts
    return answered(told(await _done(lambda: contexts.entry(name))))


async def _done(work: Callable[[], Result]) -> Result:
    """`work()` in a thread, as it waits for the disk."""
    return await asyncio.to_thread(work)


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while chunk := await _done(lambda: file.read(CHUNK_BYTES)):
            yield chunk


def _scratch(call: Call) -> BinaryIO:
    """A file without a name, on the disk where it is to be kept."""
    folder = call.contexts.folder
    with alone(folder):
        return tempfile.TemporaryFile(dir=folder)


async def _received(call: Call, scratch: BinaryIO) -> int:
    """Write the body to `scratch`; how many bytes it has. Refusal 413 for more than may be kept at all."""
    most, size, held = call.contexts.quota.size_bytes, 0, bytearray()
    stream = call.request.stream()
    try:
        while True:
            async with asyncio.timeout(call.offer.patience):
                chunk = await anext(stream, None)
            held += chunk or b""
            size += len(chunk or b"")
            if size > most:
                raise Refusal(413, f"the file has more than the quota of {bytes_text(most)}", code="body_too_large")
            if chunk is None or len(held) >= CHUNK_BYTES:
                await asyncio.to_thread(scratch.write, held)
                held = bytearray()
            if chunk is None:
                return size
    except TimeoutError:
        raise Refusal(408, f"nothing arrived for {call.offer.patience:g} s; send it faster") from None
    except ClientDisconnect:
        raise Refusal(400, "the body ended before its end") from None


ENDPOINTS = (
    Endpoint(PATH, Named, Told, begin),
    Endpoint(PATH + "/{name}/fork", Named, Told, fork),
    Endpoint(PATH + "/{name}/rename", Named, Told, rename),
    Endpoint(PATH + "/{name}/pin", Pin, Told, pin),
)
ROUTES = (
    Route("GET", PATH, list_, ContextList),
    Route("GET", PATH + "/{name}", show, Shown),
    Route("DELETE", PATH + "/{name}", delete, Deleted),
    Route("GET", PATH + "/{name}/file", export, sends=FILE),
    Route("PUT", PATH + "/{name}/file", import_, Told, takes=FILE),
)
