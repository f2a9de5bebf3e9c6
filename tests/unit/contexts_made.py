"""Context files that need no model: a small head, tokens and pages."""

import io
from collections.abc import Sequence

import msgspec

from twofold.store.context_file import ContextFile, Head, LayerShape, Turn, write_context
from twofold.store.grant import UnixSeconds

HEAD = Head(
    model="0123456789abcdef" * 4,
    model_name="Tiny",
    numerics=1,
    layers=(LayerShape(1, 2), LayerShape(2, 1)),
    length=65,
    tokens=67,
    created=UnixSeconds(1_700_000_000),
    saved=UnixSeconds(1_800_000_000),
    title="Rain",
    turns=(Turn("user", "Rain?"), Turn("assistant", "Nein. 🌧")),
)
TOKENS = tuple(range(1000, 1067))


def pages_of(head: Head) -> list[bytes]:
    """Pages, no two alike."""
    return [bytes((7 * i + j) % 251 for j in range(head.page_bytes)) for i in range(head.pages)]


def of_length(length: int, turns: Sequence[Turn] | None = None) -> Head:
    """A head for so many positions, all tokens seen."""
    return msgspec.structs.replace(HEAD, length=length, tokens=length, turns=None if turns is None else tuple(turns))


def written(head: Head = HEAD, tokens: Sequence[int] | None = None) -> bytes:
    """The context file."""
    sink = io.BytesIO()
    write_context(sink, head, TOKENS[: head.tokens] if tokens is None else tokens, pages_of(head))
    return sink.getvalue()


def read(data: bytes) -> tuple[Head, list[int], list[bytes]]:
    """All of a context file."""
    file = ContextFile(io.BytesIO(data), len(data), "it")
    return file.head, file.tokens, list(file.pages())
