"""Frames: a fixed header of 64 bytes, then the payload.

    byte  0      4         6      8                24
          ┌──────┬─────────┬──────┬────────────────┬─────────┬──────┐
          │ 2FLD │ version │ kind │ model digest   │ segment │ rows │   magic 4 bytes, version and kind u16,
          └──────┴─────────┴──────┴────────────────┴─────────┴──────┘   16 bytes of the digest, u32, u32
    byte 32         40            48       56      58         60
          ┌──────────┬─────────────┬────────┬───────┬──────────┬──────────┐
          │ sequence │ nanoseconds │ length │ flags │ reserved │ checksum │   u64, u64, u64, u16, u16, u32
          └──────────┴─────────────┴────────┴───────┴──────────┴──────────┘
    byte 64  payload, `length` bytes

All little endian. A CALL carries the planes that a segment takes and the nanoseconds left to its deadline; a
REPLY repeats the call's segment, rows and sequence and carries the planes that the segment gives and the
nanoseconds that the weight memory worked; CONTROL carries one message (`wire/message.py`). Flags and reserved
are 0. The checksum is CRC-32C (RFC 3720, section 12.1) of the header with its checksum 0, then of the payload.

A length is checked before memory is given to it: of CONTROL against a limit, of CALL and REPLY against what
the layout of the rows says for the segment and the number of rows, exactly.
"""

import ctypes
import functools
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

from twofold.errors import FrameError
from twofold.native import library
from twofold.units import MIB, bytes_text
from twofold.wire.rows import Layout

MAGIC = b"2FLD"
VERSION = 2
CALL, REPLY, CONTROL = 1, 2, 3
HEADER_BYTES = 64
CONTROL_BYTES = 64 * MIB  # the largest message: a tokenizer
DIGEST_BYTES = 16
NO_DIGEST = bytes(DIGEST_BYTES)

Buffer = memoryview | bytes | bytearray

_LAYOUT = struct.Struct("<4sHH16sIIQQQHHI")
_CHECKSUM = struct.Struct("<I")
_NAMES = {CALL: "CALL", REPLY: "REPLY", CONTROL: "CONTROL"}


class Header(NamedTuple):
    """What the header of one frame says; `checksum` is filled in by `pack`."""

    kind: int
    digest: bytes = NO_DIGEST
    segment: int = 0
    rows: int = 0
    sequence: int = 0
    nanoseconds: int = 0
    length: int = 0
    checksum: int = 0

    @property
    def kind_name(self) -> str:
        """For messages."""
        return _NAMES[self.kind]


def crc32c(data: Buffer, crc: int = 0) -> int:
    """CRC-32C (RFC 3720, section 12.1) of `data`, going on from `crc`."""
    view = memoryview(data).cast("B")
    return int(_crc()(crc, bytes(view), len(view)))


def pack(header: Header, payload: Iterable[Buffer] = ()) -> bytes:
    """The 64 bytes of a header, with the checksum over them and `payload`."""
    kind, digest, segment, rows, sequence, nanoseconds, length, _ = header
    raw = _LAYOUT.pack(MAGIC, VERSION, kind, digest, segment, rows, sequence, nanoseconds, length, 0, 0, 0)
    checksum = crc32c(raw)
    for part in payload:
        checksum = crc32c(part, checksum)
    return raw[:-4] + _CHECKSUM.pack(checksum)


def unpack(raw: bytes | bytearray | memoryview) -> Header:
    """The header in 64 bytes; FrameError names what is not as it must be.

    The length of a CALL or REPLY is not known to be right before `check_planes`, the checksum not before
    `check_sum`.
    """
    if len(raw) != HEADER_BYTES:
        raise FrameError(f"a header of {len(raw)} bytes arrived where {HEADER_BYTES} were expected")
    magic, version, kind, digest, segment, rows, sequence, nanoseconds, length, flags, reserved, checksum = (
        _LAYOUT.unpack(raw)
    )
    if magic != MAGIC:
        raise FrameError(f"not a Twofold frame: it begins with {magic!r} instead of {MAGIC!r}; check the address")
    if version != VERSION:
        raise FrameError(
            f"frame version {version} arrived, this side speaks {VERSION}; install the same Twofold on both sides"
        )
    if kind not in _NAMES:
        raise FrameError(f"a frame of unknown kind {kind} arrived")
    if flags or reserved:
        raise FrameError(f"reserved bits of a frame are set (flags {flags:#x}, reserved {reserved:#x})")
    if kind == CONTROL and length > CONTROL_BYTES:
        raise FrameError(f"a message of {length} bytes is announced; the limit is {bytes_text(CONTROL_BYTES)}")
    return Header(kind, digest, segment, rows, sequence, nanoseconds, length, checksum)


def check_planes(header: Header, layout: Layout) -> None:
    """Raise FrameError unless a CALL or REPLY is of the layout's model and as long as its planes are."""
    name = _NAMES[header.kind]
    if header.kind == CONTROL:
        raise FrameError("a CONTROL frame arrived where planes were expected")
    if header.digest != layout.model:
        raise FrameError(f"{name} of model {header.digest.hex()} on a link that carries model {layout.model.hex()}")
    if header.segment >= len(layout.cuts):
        raise FrameError(f"{name} of segment {header.segment}; the model has {len(layout.cuts)} segments")
    if not 1 <= header.rows <= layout.limit(header.segment):
        raise FrameError(
            f"{name} of {header.rows} rows; segment {header.segment} takes 1 to {layout.limit(header.segment)}"
        )
    cut = layout.cuts[header.segment]
    expected = layout.payload_bytes(cut.takes if header.kind == CALL else cut.gives, header.rows)
    if header.length != expected:
        raise FrameError(
            f"{name} of {header.rows} rows of segment {header.segment} announces {header.length} bytes; "
            f"its planes are {expected}"
        )


def check_sum(header: Header, payload: Iterable[Buffer]) -> None:
    """Raise FrameError unless the header's checksum is that of the header and `payload`."""
    seen = crc32c(_LAYOUT.pack(MAGIC, VERSION, *header[:-1], 0, 0, 0))
    for part in payload:
        seen = crc32c(part, seen)
    if seen != header.checksum:
        raise FrameError(f"damaged {_NAMES[header.kind]}: its checksum is {header.checksum:#010x}, not {seen:#010x}")


@functools.cache
def _crc() -> Any:
    function = library().tf_crc32c
    function.argtypes = (ctypes.c_uint32, ctypes.c_char_p, ctypes.c_uint64)
    function.restype = ctypes.c_uint32
    return function
