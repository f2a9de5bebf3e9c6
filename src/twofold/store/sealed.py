"""Encryption of a file with a passphrase, chunk by chunk. Imported by those who encrypt alone: its library takes time.

     0   8       magic
     8   4       version, u32 little endian
    12   16      salt
         n·      chunks: 65536 bytes (the last: 0 to 65536) encrypted, and 16 bytes of tag

AES-256-GCM under a key made of passphrase and salt by scrypt (RFC 7914; N = 2^17, r = 8, p = 1: 128 MiB of memory). The
nonce of a chunk is its number, u64 little endian, and u32 1 if it is the last, else 0; what is before the chunks is
its associated data. So no chunk can be changed, moved, left out, or taken from another file unnoticed (STREAM: Hoang,
Reyhanitabar, Rogaway, Vizár 2015, eprint 2015/189). A salt is used for one file, so no nonce is used twice with a key.
"""

import os
import struct
import unicodedata
from types import TracebackType
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from twofold.errors import ContextError
from twofold.store.context_file import Sink, Source

MAGIC = b"2FOLDSEA"
VERSION = 1
CHUNK_BYTES = 65536
COST = 1 << 17  # N of scrypt
_SALT_BYTES, _TAG_BYTES = 16, 16
_START = struct.Struct(f"<8sI{_SALT_BYTES}s")
_NONCE = struct.Struct("<QI")


class Sealing:
    """A sink that encrypts; leaving the `with` block well writes the last chunk."""

    def __init__(self, sink: Sink, passphrase: str) -> None:
        self._sink = sink
        salt = os.urandom(_SALT_BYTES)
        self._start = _START.pack(MAGIC, VERSION, salt)
        self._cipher = _cipher(passphrase, salt)
        self._number = 0
        self._kept = bytearray()  # what has not been written, at most a chunk between two calls
        sink.write(self._start)

    def write(self, data: bytes) -> None:
        """Encrypt `data`."""
        self._kept += data
        whole = (len(self._kept) - 1) // CHUNK_BYTES  # the last chunk is not known before the end
        for start in range(0, whole * CHUNK_BYTES, CHUNK_BYTES):
            self._seal(bytes(self._kept[start : start + CHUNK_BYTES]), last=False)
        if whole > 0:
            del self._kept[: whole * CHUNK_BYTES]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._seal(bytes(self._kept), last=True)

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        self._sink.write(self._cipher.encrypt(_NONCE.pack(self._number, last), chunk, self._start))
        self._number += 1


class Unsealed:
    """A source that decrypts what `Sealing` wrote. Nothing is given out that was not authenticated."""

    def __init__(self, source: Source, size_bytes: int, passphrase: str, name: str) -> None:
        """`size_bytes`: of the whole file. ContextError if the passphrase is wrong or the file damaged."""
        self._source, self._name = source, name
        self._chunks = -(-(size_bytes - _START.size) // (CHUNK_BYTES + _TAG_BYTES))
        self.size_bytes = size_bytes - _START.size - self._chunks * _TAG_BYTES
        if self._chunks < 1 or self.size_bytes < 0:
            raise ContextError(f"{name} is cut off; restore it from a copy")
        self._start = source.read(_START.size)
        magic, version, salt = _START.unpack(self._start)
        if (magic, version) != (MAGIC, VERSION):
            raise ContextError(f"{name} is encrypted in a way that this program does not know; use a newer Twofold")
        self._cipher = _cipher(passphrase, salt)
        self._number = 0
        self._open = bytearray()
        self._next(f"{name} cannot be decrypted: the passphrase is wrong, or the file is damaged")

    def read(self, count: int) -> bytes:
        """The next `count` decrypted bytes, fewer only at the end; ContextError for what was changed or cut off."""
        while len(self._open) < count and self._number < self._chunks:
            self._next(f"{self._name} is damaged; restore it from a copy")
        data = bytes(self._open[:count])
        del self._open[:count]
        return data

    def _next(self, complaint: str) -> None:
        last = self._number + 1 == self._chunks
        sealed = self._source.read(CHUNK_BYTES + _TAG_BYTES)
        try:
            self._open += self._cipher.decrypt(_NONCE.pack(self._number, last), sealed, self._start)
        except InvalidTag:
            raise ContextError(complaint) from None
        self._number += 1


def _cipher(passphrase: str, salt: bytes) -> AESGCM:
    """The cipher of a passphrase, which is the same however its accents were typed (Unicode NFC)."""
    secret = unicodedata.normalize("NFC", passphrase).encode()
    return AESGCM(Scrypt(salt=salt, length=32, n=COST, r=8, p=1).derive(secret))
