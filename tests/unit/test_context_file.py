"""The context file: read back as written, and refused for any byte that is changed, missing or too many."""

import hashlib
import io
import struct
import tracemalloc
from pathlib import Path

import msgspec
import pytest
from contexts_made import HEAD, TOKENS, of_length, pages_of, read, written
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import ContextError, InternalError
from twofold.store import context_file
from twofold.store.context_file import Call, ContextFile, Head, LayerShape, Turn, file_bytes, write_context

FILE = written()
HEAD_AT = 16


def sealed_with_its_checksum(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


def with_head(head: object) -> bytes:
    """A whole file with this in the place of its head."""
    encoded = msgspec.msgpack.encode(head)
    rest = FILE[HEAD_AT + struct.unpack_from("<I", FILE, 12)[0] : -32]
    return sealed_with_its_checksum(FILE[:12] + struct.pack("<I", len(encoded)) + encoded + rest)


def test_a_file_is_read_as_it_was_written_and_as_long_as_was_said() -> None:
    assert read(FILE) == (HEAD, list(TOKENS), pages_of(HEAD))
    assert len(FILE) == file_bytes(HEAD)


def test_the_bytes_of_a_file_are_those_of_the_format() -> None:
    encoded = msgspec.msgpack.encode(HEAD)
    tokens = b"".join(struct.pack("<I", token) for token in TOKENS)
    body = b"2FOLDCTX" + struct.pack("<II", 1, len(encoded)) + encoded + tokens + b"".join(pages_of(HEAD))
    assert sealed_with_its_checksum(body) == FILE


@pytest.mark.parametrize("length", [0, 1, 64, 65, 128])
def test_as_many_pages_are_read_as_the_length_needs(length: int) -> None:
    head = of_length(length)
    tokens = list(range(length))
    found = read(written(head, tokens))
    assert found == (head, tokens, pages_of(head))
    assert len(found[2]) == -(-length // 64)


def test_every_flipped_bit_is_noticed() -> None:
    for place in range(len(FILE)):
        for bit in (1, 128):
            flipped = bytearray(FILE)
            flipped[place] ^= bit
            with pytest.raises(ContextError):
                read(bytes(flipped))


def test_every_cut_is_noticed() -> None:
    for length in range(len(FILE)):
        with pytest.raises(ContextError, match=r"is not a context file|is damaged"):
            read(FILE[:length])


def test_a_byte_too_many_is_noticed() -> None:
    with pytest.raises(ContextError, match="1 bytes too many"):
        read(FILE + b"\0")


def test_a_file_that_shrinks_while_it_is_read_is_noticed() -> None:
    file = ContextFile(io.BytesIO(FILE[:-40]), len(FILE), "it")
    with pytest.raises(ContextError, match="cut off"):
        list(file.pages())


@given(st.binary(max_size=300))
def test_what_is_no_context_file_is_refused(data: bytes) -> None:
    with pytest.raises(ContextError):
        read(data)


@given(st.binary(max_size=200))
def test_any_head_under_a_right_checksum_is_refused_or_read(head: bytes) -> None:
    body = FILE[:12] + struct.pack("<I", len(head)) + head
    with pytest.raises(ContextError):
        read(sealed_with_its_checksum(body))


BUILT = msgspec.to_builtins(HEAD)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "xyz"}, {"model": "0" * 63}, {"numerics": -1}, {"layers": []}, {"layers": [[1]]}, {"length": -1},
        {"layers": [{"kv_heads": 0, "head_dim": 1}]}, {"layers": [{"kv_heads": 1, "head_dim": 1 << 20}]},
        {"tokens": 64}, {"created": -5}, {"title": "x" * 201}, {"turns": [["user"]]}, {"turns": 3}, {"more": 1},
        {"length": 1 << 31}, {"tokens": 1 << 31}, {"length": 1 << 40}, {"turns": [{"role": "r" * 65, "content": ""}]},
    ],
    ids=str,
)  # fmt: skip
def test_a_head_that_cannot_be_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ContextError, match="it is damaged"):
        read(with_head(BUILT | changes))


def test_a_head_that_lacks_something_is_refused() -> None:
    for name in BUILT.keys() - {"title", "turns"}:
        with pytest.raises(ContextError, match=name):
            read(with_head({key: value for key, value in BUILT.items() if key != name}))


def test_fewer_tokens_than_positions_are_refused() -> None:
    with pytest.raises(ContextError, match="fewer tokens than positions"):
        read(written(msgspec.structs.replace(HEAD, tokens=64)))


def test_no_memory_is_taken_for_what_the_file_does_not_have(tmp_path: Path) -> None:
    huge = msgspec.structs.replace(HEAD, length=1 << 31, tokens=1 << 31, layers=(LayerShape(1 << 16, 1 << 16),) * 4096)
    long_heads = (FILE[:12] + struct.pack("<I", count) + FILE[16:] for count in (0xFFFFFFFF, 16 << 20))
    for data in (with_head(huge), *long_heads):
        (tmp_path / "file").write_bytes(data)
        with (tmp_path / "file").open("rb") as file:
            tracemalloc.start()
            try:
                with pytest.raises(ContextError):
                    ContextFile(file, len(data), "it")
                assert tracemalloc.get_traced_memory()[1] < 4 << 20
            finally:
                tracemalloc.stop()


def test_another_version_is_refused_as_such() -> None:
    with pytest.raises(ContextError, match="of version 2, this program reads 1"):
        read(FILE[:8] + b"\2" + FILE[9:])


def test_what_contradicts_its_head_is_not_written() -> None:
    for tokens, pages in ((TOKENS[1:], pages_of(HEAD)), (TOKENS, pages_of(HEAD)[1:])):
        with pytest.raises(InternalError):
            write_context(io.BytesIO(), HEAD, tokens, pages)


def test_messages_that_could_not_be_read_again_are_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_file, "HEAD_BYTES", 1000)
    long = of_length(1, (Turn("user", "x" * 1000),))
    sink = io.BytesIO()
    with pytest.raises(ContextError, match="longer than"):
        write_context(sink, long, [1], pages_of(long))
    assert not sink.getvalue()


SHAPES = st.builds(LayerShape, st.integers(1, 3), st.integers(1, 4))
TEXT = st.text(max_size=20)
CALLS = st.lists(st.builds(Call, TEXT, TEXT, TEXT), max_size=2).map(tuple)
TURNS = st.builds(Turn, TEXT, st.none() | TEXT, CALLS, *[st.none() | TEXT] * 3)


@given(
    st.lists(SHAPES, min_size=1, max_size=3),
    st.integers(0, 130),
    st.integers(0, 3),
    st.none() | st.lists(TURNS, max_size=3),
)
def test_any_context_is_read_as_it_was_written(
    layers: list[LayerShape], length: int, more: int, turns: list[Turn] | None
) -> None:
    head: Head = msgspec.structs.replace(of_length(length, turns), layers=tuple(layers), tokens=length + more)
    tokens = [i * 37 % 4999 for i in range(length + more)]
    assert read(written(head, tokens)) == (head, tokens, pages_of(head))
