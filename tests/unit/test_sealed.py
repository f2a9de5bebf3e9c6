"""A sealed file: read back with its passphrase alone, and refused for any chunk that is changed, moved or missing."""

import hashlib
import io
import struct
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.errors import ContextError
from twofold.store import sealed
from twofold.store.sealed import CHUNK_BYTES, Sealing, Unsealed

START, CHUNK = 28, CHUNK_BYTES + 16
PASSPHRASE = "correct horse"


@pytest.fixture(autouse=True, scope="module")
def cheap() -> Iterator[None]:
    """Keys that are made quickly, but for the one test of the format."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed, "COST", 2)
        yield


def seal(data: bytes, passphrase: str = PASSPHRASE, step: int = 100_000) -> bytes:
    sink = io.BytesIO()
    with Sealing(sink, passphrase) as sealing:
        for start in range(0, len(data), step):
            sealing.write(data[start : start + step])
    return sink.getvalue()


def unseal(data: bytes, passphrase: str = PASSPHRASE, step: int = 70_000) -> bytes:
    source = Unsealed(io.BytesIO(data), len(data), passphrase, "it")
    parts = []
    while part := source.read(step):
        parts.append(part)
    found = b"".join(parts)
    assert len(found) == source.size_bytes
    return found


def noise(count: int) -> bytes:
    return bytes(i * 31 % 251 for i in range(count))


@pytest.fixture(scope="module")
def three() -> bytes:
    """Three chunks, the last of 10 bytes."""
    return seal(noise(2 * CHUNK_BYTES + 10))


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_what_was_sealed_is_read_back(size: int) -> None:
    data = noise(size)
    found = seal(data)
    assert unseal(found) == data
    assert len(found) == START + size + 16 * max(1, -(-size // CHUNK_BYTES))


def test_the_bytes_are_those_of_the_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "COST", 1 << 17)
    data = noise(CHUNK_BYTES + 5)
    found = seal(data)
    assert found[:12] == b"2FOLDSEA" + struct.pack("<I", 1)
    salt = found[12:START]
    key = hashlib.scrypt(PASSPHRASE.encode(), salt=salt, n=1 << 17, r=8, p=1, dklen=32, maxmem=1 << 28)
    chunks = found[START : START + CHUNK], found[START + CHUNK :]
    for number, (chunk, last) in enumerate(zip(chunks, (0, 1), strict=True)):
        opened = AESGCM(key).decrypt(struct.pack("<QI", number, last), chunk, found[:START])
        assert opened == data[number * CHUNK_BYTES :][:CHUNK_BYTES]


def test_another_passphrase_is_refused_in_one_line(three: bytes) -> None:
    with pytest.raises(ContextError, match="the passphrase is wrong, or the file is damaged"):
        unseal(three, "correct horse ")


def test_accents_may_be_typed_in_any_way() -> None:
    assert unseal(seal(b"x", "Käse"), "Ka\u0308se") == b"x"


def test_the_same_text_is_sealed_otherwise_each_time() -> None:
    assert seal(b"same")[12:] != seal(b"same")[12:]


@pytest.mark.parametrize("place", [0, 8, 12, 27, START, START + CHUNK - 1, START + CHUNK, START + 2 * CHUNK, -1])
def test_a_flipped_bit_is_noticed(three: bytes, place: int) -> None:
    flipped = bytearray(three)
    flipped[place] ^= 1
    with pytest.raises(ContextError):
        unseal(bytes(flipped))


@pytest.mark.parametrize("length", [0, 11, 27, 28, 43, START + 16, START + CHUNK, START + 2 * CHUNK, -26, -1])
def test_a_cut_is_noticed(three: bytes, length: int) -> None:
    with pytest.raises(ContextError):
        unseal(three[:length])


def test_chunks_that_change_places_repeat_or_go_missing_are_noticed(three: bytes) -> None:
    start, last = three[:START], three[START + 2 * CHUNK :]
    first, second = three[START : START + CHUNK], three[START + CHUNK : START + 2 * CHUNK]
    for order in ((second, first, last), (first, last), (first, first, last), (first, second, second, last), (last,)):
        with pytest.raises(ContextError):
            unseal(start + b"".join(order))


def test_a_chunk_of_another_file_is_noticed(three: bytes) -> None:
    other = seal(noise(2 * CHUNK_BYTES + 10))
    with pytest.raises(ContextError):
        unseal(three[: START + CHUNK] + other[START + CHUNK :])


def test_what_fails_half_way_has_no_end_that_could_be_believed() -> None:
    sink = io.BytesIO()
    sealing = Sealing(sink, PASSPHRASE)
    sealing.write(noise(CHUNK_BYTES + 5))
    sealing.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    with pytest.raises(ContextError):
        unseal(sink.getvalue())


def test_no_more_than_a_chunk_is_kept_in_memory_while_sealing() -> None:
    sink = io.BytesIO()
    with Sealing(sink, PASSPHRASE) as sealing:
        for count in range(1, 41):
            sealing.write(bytes(10_000))
            assert len(sink.getvalue()) >= count * 10_000 - CHUNK_BYTES


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_what_is_no_sealed_file_is_refused(data: bytes) -> None:
    with pytest.raises(ContextError):
        unseal(sealed.MAGIC + data)
