import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_processor import DIGEST, MANIFEST

from twofold.errors import FrameError
from twofold.wire.frame import (
    CALL,
    CONTROL,
    CONTROL_BYTES,
    HEADER_BYTES,
    REPLY,
    Header,
    check_planes,
    check_sum,
    crc32c,
    pack,
    unpack,
)
from twofold.wire.rows import Layout

LAYOUT = Layout(MANIFEST)
PREFIX = bytes.fromhex(DIGEST)[:16]
U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
HEADERS = st.builds(
    Header, st.sampled_from([CALL, REPLY]), st.binary(min_size=16, max_size=16), U32, U32, U64, U64, U64
)


def changed(raw: bytes, offset: int, form: str, value: int) -> bytes:
    copy = bytearray(raw)
    struct.pack_into(form, copy, offset, value)
    return bytes(copy)


@given(HEADERS, st.binary(max_size=200))
def test_unpack_gives_back_what_pack_was_given(header: Header, payload: bytes) -> None:
    raw = pack(header, [payload])
    assert len(raw) == HEADER_BYTES
    assert unpack(raw)[:-1] == header[:-1]
    check_sum(unpack(raw), [payload])


def test_the_bytes_are_those_of_the_drawing() -> None:
    raw = pack(Header(CALL, bytes(range(16)), 0x01020304, 0x05060708, 9, 10, 3), [b"ab", b"c"])
    assert raw[:8] == b"2FLD\x02\x00\x01\x00"
    assert raw[8:24] == bytes(range(16))
    assert raw[24:32] == b"\x04\x03\x02\x01\x08\x07\x06\x05"
    assert struct.unpack("<QQQHH", raw[32:60]) == (9, 10, 3, 0, 0)
    assert struct.unpack("<I", raw[60:])[0] == crc32c(raw[:60] + b"\0\0\0\0abc")


def test_the_checksum_is_the_published_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, appendix B.4
    assert crc32c(bytes(range(32))) == 0x46DD794E


@given(st.binary(max_size=100), st.integers(0, 100))
def test_a_checksum_goes_on_from_where_it_was(data: bytes, at: int) -> None:
    assert crc32c(data[at:], crc32c(data[:at])) == crc32c(data)


@given(st.binary(max_size=80))
def test_random_bytes_are_a_frame_error(raw: bytes) -> None:
    with pytest.raises(FrameError):
        unpack(raw)


@given(HEADERS, st.integers(0, HEADER_BYTES - 1), st.integers(1, 255))
def test_a_changed_byte_is_a_frame_error_or_seen_by_the_checksum(header: Header, at: int, flip: int) -> None:
    raw = bytearray(pack(header, [b"payload"]))
    raw[at] ^= flip
    with pytest.raises(FrameError):
        check_sum(unpack(raw), [b"payload"])


@given(st.binary(min_size=1, max_size=300), st.data())
def test_a_changed_payload_is_seen_by_the_checksum(payload: bytes, data: st.DataObject) -> None:
    header = unpack(pack(Header(CONTROL, length=len(payload)), [payload]))
    damaged = bytearray(payload)
    damaged[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FrameError, match="damaged CONTROL"):
        check_sum(header, [damaged])


@pytest.mark.parametrize(
    ("offset", "form", "value", "words"),
    [
        (0, "<I", 0x50545448, r"begins with b'HTTP'"),
        (4, "<H", 3, "frame version 3 arrived, this side speaks 2"),
        (6, "<H", 7, "unknown kind 7"),
        (56, "<H", 1, "reserved bits of a frame are set .flags 0x1,"),
        (58, "<H", 2, "reserved 0x2"),
        (48, "<Q", CONTROL_BYTES + 1, "the limit is 64.0 MiB"),
    ],
)
def test_a_header_that_cannot_be_is_refused_naming_what_differs(offset: int, form: str, value: int, words: str) -> None:
    with pytest.raises(FrameError, match=words):
        unpack(changed(pack(Header(CONTROL)), offset, form, value))


def test_an_absurd_length_is_refused_without_memory_for_it() -> None:
    raw = changed(pack(Header(CONTROL)), 48, "<Q", 2**63)
    call = Header(CALL, PREFIX, 0, 1, length=2**40)
    tracemalloc.start()
    with pytest.raises(FrameError):
        unpack(raw)
    with pytest.raises(FrameError):
        check_planes(call, LAYOUT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_planes_pass_only_with_exactly_the_bytes_the_layout_says() -> None:
    assert LAYOUT.model == PREFIX
    in_bytes, out_bytes = 4, 4 * 1024 + 2 * 64
    check_planes(Header(CALL, PREFIX, 0, 3, length=3 * in_bytes), LAYOUT)
    check_planes(Header(REPLY, PREFIX, 0, 3, length=3 * out_bytes), LAYOUT)
    for kind, size in ((CALL, in_bytes), (REPLY, out_bytes)):
        for length in (0, 3 * size - 1, 3 * size + 1, 2**64 - 1):
            with pytest.raises(FrameError, match=rf"announces {length} bytes; its planes are {3 * size}"):
                check_planes(Header(kind, PREFIX, 0, 3, length=length), LAYOUT)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (
            Header(CALL, bytes(16), 0, 1, length=4),
            f"model {'00' * 16} on a link that carries model {DIGEST}"[:60],
        ),
        (Header(CALL, PREFIX, 2, 1, length=4), "segment 2; the model has 2 segments"),
        (Header(CALL, PREFIX, 0, 0, length=0), "CALL of 0 rows; segment 0 takes 1 to 256"),
        (Header(CALL, PREFIX, 0, 257, length=4 * 257), "CALL of 257 rows"),
        (Header(REPLY, PREFIX, 1, 33, length=33 * 4096 * 4), "REPLY of 33 rows; segment 1 takes 1 to 32"),
        (Header(CONTROL), "CONTROL frame arrived where planes were expected"),
    ],
)
def test_planes_of_another_model_segment_or_size_are_refused(header: Header, words: str) -> None:
    with pytest.raises(FrameError, match=words):
        check_planes(header, LAYOUT)


@given(HEADERS)
def test_any_header_passes_the_plane_check_or_is_a_frame_error(header: Header) -> None:
    try:
        check_planes(header._replace(digest=LAYOUT.model), LAYOUT)
    except FrameError:
        return
    cut = MANIFEST.cuts[header.segment]
    planes = cut.takes if header.kind == CALL else cut.gives
    assert header.length == LAYOUT.payload_bytes(planes, header.rows)
