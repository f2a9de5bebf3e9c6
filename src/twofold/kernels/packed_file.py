"""Packed weights kept in a file, so that the next start reads them instead of packing them again.

    head       "TFPACKED", u32 format of the file, u32 bytes of what follows
               MessagePack: numerics, packing, digest of the model, bytes of data, the place of every tensor
    sums       u64 of each MiB of data (native/packed.c)
    padding    to a multiple of 4096
    data       packed memory as it is

Little endian. The head that a file must have is known before it is opened, so it is compared, byte for byte, and
nothing in it is ever believed. A file is written beside its place and renamed into it; whoever comes second, wins.
"""

import ctypes
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from twofold.kernels.binding import Functions
from twofold.kernels.packing import Place, packed_bytes
from twofold.model.manifest import Manifest
from twofold.store.place import replacing
from twofold.units import MIB

MAGIC, FORMAT = b"TFPACKED", 1
PACKING = 1  # goes up whenever native/pack.c lays out anything differently
PAGE_BYTES = 4096
SHARE_DIGITS = 16  # of the digest of the tensors' names: processors that hold other segments keep files of their own


@dataclass(frozen=True)
class PackedCache:
    """Where packed weights are kept; `told` is called if a file there is of no use and is made anew."""

    folder: Path
    told: Callable[[], None]


class PackedFile:
    """The packed weights of a model, or of some segments of it, as a file; it need not be there."""

    def __init__(
        self, functions: Functions, pool: int, folder: Path, manifest: Manifest, places: Sequence[Place]
    ) -> None:
        """`pool`: the threads that read and sum."""
        self._functions, self._pool = functions, pool
        share = hashlib.sha256("\n".join(place.name for place in places).encode()).hexdigest()[:SHARE_DIGITS]
        self.path = folder / f"{manifest.digest}-{share}.packed"
        self._data_bytes = packed_bytes(places)
        content = (manifest.numerics, PACKING, manifest.digest, self._data_bytes, list(places))
        body = msgspec.msgpack.encode(content)
        self._head = MAGIC + FORMAT.to_bytes(4, "little") + len(body).to_bytes(4, "little") + body
        self._sums_bytes = -(-self._data_bytes // MIB) * 8
        self._data_start = -(-(len(self._head) + self._sums_bytes) // PAGE_BYTES) * PAGE_BYTES

    def read(self, memory: int) -> bool | None:
        """Whether the file is sound and of these weights; None if there is none.

        If it is, they are in `memory`; if it is not, `memory` is spoilt.
        """
        try:
            file = self.path.open("rb", buffering=0)
        except FileNotFoundError:
            return None
        except OSError:
            return False
        with suppress(OSError), file:
            descriptor = file.fileno()
            if os.fstat(descriptor).st_size != self._data_start + self._data_bytes:
                return False
            if os.pread(descriptor, len(self._head), 0) != self._head:
                return False
            kept = os.pread(descriptor, self._sums_bytes, len(self._head))
            found = self._sums(memory, descriptor)
            return found is not None and found.tobytes() == kept
        return False

    def write(self, memory: int) -> None:
        """Keep what is in `memory`; OSError as from the system, and then nothing is left behind."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        sums = self._sums(memory)
        assert sums is not None
        with replacing(self.path) as file:
            file.write((self._head + sums.tobytes()).ljust(self._data_start, b"\0"))
            file.write((ctypes.c_ubyte * self._data_bytes).from_address(memory))

    def _sums(self, memory: int, descriptor: int = -1) -> npt.NDArray[np.uint64] | None:
        """The sums of `memory`, after it was filled from the file if there is a descriptor; None if that failed."""
        sums = np.zeros(self._sums_bytes // 8, "<u8")
        failed = self._functions.chunk_sums(
            self._pool, descriptor, self._data_start, memory, self._data_bytes, sums.ctypes.data
        )
        return None if failed else sums
