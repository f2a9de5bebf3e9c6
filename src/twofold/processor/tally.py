"""What a weight processor counts while it works: a few additions a batch (`native/serve.c`), and nothing of any row."""

import ctypes
import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from twofold.link.port import native_layout
from twofold.native import library
from twofold.units import Bytes, Nanoseconds
from twofold.wire.rows import Layout
from twofold.wire.status import BUCKETS, ROW_BUCKETS, Counts


class _Tally(ctypes.Structure):
    _fields_ = (
        ("calls", ctypes.c_uint64),
        ("rows", ctypes.c_uint64),
        ("batches", ctypes.c_uint64),
        ("worked", ctypes.c_uint64),
        ("waited", ctypes.c_uint64),
        ("received", ctypes.c_uint64),
        ("sent", ctypes.c_uint64),
        ("batch_rows", ctypes.c_uint64 * ROW_BUCKETS),
        ("waits", ctypes.c_uint64 * BUCKETS),
        ("works", ctypes.c_uint64 * BUCKETS),
    )


class Tally:
    """Counts since it was made. One thread counts; any may read, and sees each figure as it is at that moment."""

    def __init__(self, layout: Layout) -> None:
        """`layout`: what each segment takes and gives."""
        self._functions = _functions()
        self._layout = native_layout(layout)
        self._raw = _Tally()
        self.address = ctypes.addressof(self._raw)
        self._failures: Counter[str] = Counter()

    def ran(self, segment: int, rows: int, waits: Sequence[int], worked: int) -> None:
        """A batch of `rows` rows was worked on for so long and answered; its calls had waited so long; nanoseconds."""
        cut = ctypes.byref(self._layout.cut[segment])
        self._functions.tf_tally_batch(self.address, cut, rows, len(waits), worked)
        for wait in waits:
            self._functions.tf_tally_wait(self.address, wait)

    def failed(self, kind: str) -> None:
        """A call was answered, or a connection ended, with an error of this class."""
        self._failures[kind] += 1

    def counts(self) -> Counts:
        """All of it."""
        raw = self._raw
        return Counts(
            raw.calls,
            raw.rows,
            raw.batches,
            Nanoseconds(raw.worked),
            Nanoseconds(raw.waited),
            Bytes(raw.received),
            Bytes(raw.sent),
            tuple(raw.batch_rows),
            tuple(raw.waits),
            tuple(raw.works),
            dict(self._failures),
        )


@functools.cache
def _functions() -> Any:
    functions = library()
    pointer, u32 = ctypes.c_void_p, ctypes.c_uint32
    functions.tf_tally_batch.argtypes = (pointer, pointer, u32, u32, ctypes.c_uint64)
    functions.tf_tally_wait.argtypes = (pointer, ctypes.c_int64)
    functions.tf_tally_batch.restype = functions.tf_tally_wait.restype = None
    return functions
