"""The context file: what one session has seen, as bytes that are the same on every kind of processor.

     0   8       magic
     8   4       version, u32
    12   4       h: bytes of the head, u32
    16   h       head, msgpack: whose pages these are, how many, and what was said
         4·t     tokens, u32 each
         p·b     pages, f16
         32      SHA-256 of everything before

All numbers are little endian. docs/context-file.md has every field. Bytes in, bytes out: no file is opened here.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Protocol

import msgspec
import numpy as np
from msgspec import Meta

from twofold.errors import ContextError, InternalError, one_line
from twofold.store.grant import Moment
from twofold.units import MIB

MAGIC = b"2FOLDCTX"
VERSION = 1
HEAD_BYTES = 16 * MIB  # the longest head that is read
PAGE_POSITIONS = 64  # of version 1
TITLE_LETTERS = 200
_FIXED = struct.Struct("<8sII")
_DIGEST_BYTES = 32

Count = Annotated[int, Meta(ge=0, le=1 << 31)]
Dimension = Annotated[int, Meta(ge=1, le=1 << 16)]
Title = Annotated[str, Meta(max_length=TITLE_LETTERS)]


class Source(Protocol):
    """Where the bytes of a context file come from."""

    def read(self, count: int, /) -> bytes:
        """The next `count` bytes, fewer only at the end."""


class Sink(Protocol):
    """Where the bytes of a context file go."""

    def write(self, data: bytes, /) -> object:
        """Take `data`."""


class LayerShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The KV cache of one layer."""

    kv_heads: Dimension
    head_dim: Dimension

    @property
    def page_bytes(self) -> int:
        """Bytes of one page: K and V of 64 positions, f16."""
        return PAGE_POSITIONS * 2 * 2 * self.kv_heads * self.head_dim


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A call of a tool, its arguments as JSON text."""

    name: str
    arguments: str
    id: str = ""


class Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One message of a conversation, with all that a chat template may read of it."""

    role: Annotated[str, Meta(max_length=64)]
    content: str | None
    tool_calls: tuple[Call, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning_content: str | None = None


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose pages these are, how many, and what was said.

    `length` positions are in the pages. `tokens` may be more than that: those after `length` belong to the
    conversation, but no step has seen them. `turns`: the messages, None for text without a chat template.
    """

    model: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]  # digest
    model_name: Title
    numerics: Count
    layers: Annotated[tuple[LayerShape, ...], Meta(min_length=1, max_length=4096)]
    length: Count
    tokens: Count
    created: Moment
    saved: Moment
    title: Title = ""
    turns: tuple[Turn, ...] | None = None

    @property
    def page_bytes(self) -> int:
        """Bytes of one page over all layers."""
        return sum(layer.page_bytes for layer in self.layers)

    @property
    def pages(self) -> int:
        """How many pages `length` positions need."""
        return -(-self.length // PAGE_POSITIONS)

    @property
    def body_bytes(self) -> int:
        """Bytes after the head: tokens, pages, digest."""
        return 4 * self.tokens + self.pages * self.page_bytes + _DIGEST_BYTES


def file_bytes(head: Head) -> int:
    """Bytes of the whole file."""
    return _FIXED.size + len(msgspec.msgpack.encode(head)) + head.body_bytes


def write_context(sink: Sink, head: Head, tokens: Sequence[int], pages: Iterable[bytes]) -> None:
    """Write the file; ContextError if its head would be too long to be read again."""
    encoded = msgspec.msgpack.encode(head)
    if len(encoded) > HEAD_BYTES:
        raise ContextError(f"the messages are longer than the {HEAD_BYTES // MIB} MiB that a context file holds")
    digest, written = hashlib.sha256(), 0
    for part in _parts(encoded, tokens, pages):
        digest.update(part)
        sink.write(part)
        written += len(part)
    if written != _FIXED.size + len(encoded) + head.body_bytes - _DIGEST_BYTES:
        raise InternalError("a context file was to be written whose tokens or pages are not those its head says")
    sink.write(digest.digest())


def _parts(head: bytes, tokens: Sequence[int], pages: Iterable[bytes]) -> Iterator[bytes]:
    yield _FIXED.pack(MAGIC, VERSION, len(head))
    yield head
    yield np.asarray(tokens, "<u4").tobytes()
    yield from pages


class ContextFile:
    """A context file as it is read: head and tokens at once, pages as they are asked for.

    Every length is checked against the file's before memory is taken for it. What is read is only to be believed once
    `pages` has come to its end, as the checksum stands there.
    """

    def __init__(self, source: Source, size_bytes: int, name: str) -> None:
        """`size_bytes`: of the whole file; `name`: what errors call it. ContextError if it cannot be such a file."""
        self._reading = _Reading(source, name)
        self.head = self._reading.head(size_bytes)
        self.tokens: list[int] = np.frombuffer(self._reading.take(4 * self.head.tokens), "<u4").tolist()

    def pages(self) -> Iterator[bytes]:
        """The pages, once; ContextError in the place of the end if the checksum is not right."""
        for _ in range(self.head.pages):
            yield self._reading.take(self.head.page_bytes)
        self._reading.check()


def read_head(source: Source, size_bytes: int, name: str) -> Head:
    """The head of a context file alone, which no checksum vouches for. As `ContextFile`."""
    return _Reading(source, name).head(size_bytes)


class _Reading:
    """The bytes of a context file in turn, and the checksum over them."""

    def __init__(self, source: Source, name: str) -> None:
        self._source, self._name = source, name
        self._digest = hashlib.sha256()

    def head(self, size_bytes: int) -> Head:
        """The head; what follows it has the length that it says."""
        if size_bytes < _FIXED.size:
            raise self._other()
        magic, version, head_bytes = _FIXED.unpack(self.take(_FIXED.size))
        if magic != MAGIC:
            raise self._other()
        if version != VERSION:
            raise ContextError(
                f"{self._name} is of version {version}, this program reads {VERSION}; use the Twofold that made it"
            )
        if head_bytes > min(HEAD_BYTES, size_bytes - _FIXED.size):
            raise self._damaged("its head is longer than can be")
        head = self._decoded(self.take(head_bytes))
        rest = size_bytes - _FIXED.size - head_bytes - head.body_bytes
        if rest:
            raise self._damaged(f"{abs(rest)} bytes {'too many' if rest > 0 else 'are missing'}")
        if head.tokens < head.length:
            raise self._damaged("it has fewer tokens than positions")
        return head

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        data = self._source.read(count)
        if len(data) != count:
            raise self._damaged("it is cut off")
        self._digest.update(data)
        return data

    def check(self) -> None:
        """The checksum, which is next, is that of all so far."""
        found = self._digest.digest()
        if self.take(_DIGEST_BYTES) != found:
            raise self._damaged("the checksum is wrong")

    def _decoded(self, raw: bytes) -> Head:
        try:
            return msgspec.msgpack.decode(raw, type=Head)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._damaged(f"its head cannot be read: {error}") from error

    def _other(self) -> ContextError:
        return ContextError(f"{self._name} is not a context file; give one that twofold context export wrote")

    def _damaged(self, why: str) -> ContextError:
        return ContextError(f"{self._name} is damaged ({one_line(why)}); restore it from a copy, or delete it")
