"""Pieces of GGUF files, byte by byte, sound or not."""

import struct

from twofold.model.format import F32

U32, STRING, ARRAY, BOOL = 4, 8, 9, 7


def string(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def entry(key: str | bytes, kind: int = U32, value: bytes = b"\1\0\0\0") -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def array(kind: int, count: int, values: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + values


def tensor(name: str | bytes = "a", dims: tuple[int, ...] = (8,), kind: int = F32.ggml_id, offset: int = 0) -> bytes:
    shape = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return string(name) + shape + struct.pack("<IQ", kind, offset)


def file_bytes(
    entries: tuple[bytes, ...] = (entry("k"),),
    tensors: tuple[bytes, ...] = (tensor(),),
    *,
    data: int = 64,
    version: bytes = b"\3\0\0\0",
    counts: tuple[int, int] | None = None,
) -> bytes:
    """A file of these parts with `data` bytes of tensor data; `counts` overrides the two counts."""
    head = b"GGUF" + version + struct.pack("<QQ", *(counts or (len(tensors), len(entries))))
    head += b"".join(entries) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data)
