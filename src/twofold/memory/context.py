"""Context memory: what each session has seen, and the operations that read it. It holds no weights."""

import contextlib
import mmap
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from twofold.cache.pages import PAGE_POSITIONS, PageTable, pages_for
from twofold.errors import RequestError
from twofold.kernels.base import Backend, PagePool, PlacedRows, Stretch, page_layout
from twofold.memory.page import native_page, page_image
from twofold.model.manifest import Manifest
from twofold.units import MIB
from twofold.wire.rows import ROWS, Rows

SMALL_BYTES = 4 * MIB  # in small pages
MAP_NORESERVE = 0x4000  # Linux; Python names it from 3.13 on


class Run(NamedTuple):
    """Rows at neighbouring positions: the next `rows` of `session`, after `ahead` that other lanes have."""

    session: int
    ahead: int
    rows: int


class ContextMemory:
    """The KV caches of all sessions of one model, in one pool of pages.

    The pool's memory is only reserved: the system gives it page by page as sessions grow.
    """

    def __init__(self, manifest: Manifest, backend: Backend, *, positions: int | None = None, rows: int = ROWS) -> None:
        """Room for `positions` positions over all sessions (default: one session of the model's full length)."""
        self.manifest, self.rows = manifest, rows
        self.positions = positions or manifest.context_length
        pages = pages_for(self.positions)
        _, page_bytes = page_layout(manifest)
        self._memory = mmap.mmap(-1, pages * page_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
        with contextlib.suppress(OSError):  # a kernel without huge pages: slower, not wrong
            if len(self._memory) > SMALL_BYTES:  # a short conversation does not take a huge page
                self._memory.madvise(mmap.MADV_HUGEPAGE, SMALL_BYTES)
        self.pool = PagePool(np.frombuffer(self._memory, np.uint8).reshape(pages, page_bytes))
        self.pages = PageTable(pages)
        self._kernels = backend.context(manifest, self.pool, rows)

    def open(self) -> int:
        """A new, empty session; returns its number."""
        return self.pages.open()

    def close(self, session: int) -> None:
        """Forget the session."""
        self.pages.close(session)

    def length(self, session: int) -> int:
        """Positions the session has seen."""
        return self.pages[session].length

    def placed(self, rows: Rows) -> PlacedRows:
        """The `rows` of a lane, for `place`; they attend by themselves."""
        return self._kernels.placed(rows)

    def place(self, placed: PlacedRows, runs: Sequence[Run]) -> None:
        """Say whose rows a lane's next are: those of one run after the other.

        Raises RequestError, lengthening nothing, if a session would pass the model's context length or the pool has too
        few pages.
        """
        stretches = []
        for session, ahead, count in runs:
            sequence = self.pages[session]
            start = sequence.length + ahead
            if start + count > self.manifest.context_length:
                raise RequestError(
                    f"{start + count} positions do not fit the model's context of {self.manifest.context_length}; "
                    "shorten the prompt or lower --max-tokens"
                )
            self.pages.reserve(session, ahead + count)
            stretches.append(Stretch(start, count, sequence.pages))
        placed.place(stretches)

    def advance(self, sessions: Sequence[tuple[int, int]]) -> None:
        """The step ended well: each session is `count` positions longer."""
        for session, count in sessions:
            self.pages.advance(session, count)

    def truncate(self, session: int, length: int) -> None:
        """Forget what the session saw from position `length` on; RequestError as for `PageTable.truncate`."""
        copied = self.pages.truncate(session, length)
        if copied is not None:
            self.pool.memory[copied[1]] = self.pool.memory[copied[0]]

    def read(self, pages: Sequence[int]) -> bytes:
        """The bytes of these pages, one after the other."""
        return self.pool.memory[list(pages)].tobytes()

    def write(self, pages: Sequence[int], data: bytes | memoryview) -> None:
        """Put what `read` gave into these pages, which must be as many."""
        self.pool.memory[list(pages)] = np.frombuffer(data, np.uint8).reshape(len(pages), self.pool.page_bytes)

    def take_out(self, session: int) -> bytes:
        """All that the session has seen, the same bytes on every kind of processor: its pages, in order of position."""
        return b"".join(self.pages_out(session))

    def put_in(self, data: bytes, length: int) -> int:
        """A new session of `length` positions from what `take_out` gave; returns its number. Errors as `pages_in`."""
        step = self.pool.page_bytes
        return self.pages_in((data[start : start + step] for start in range(0, len(data), step)), length)

    def pages_out(self, session: int) -> Iterator[bytes]:
        """The session's pages, as many as its length needs; positions past its length are zero: they may hold what
        was forgotten, or what another session left."""
        held = self.pages[session]
        for index in range(pages_for(held.length)):
            yield page_image(self.manifest, self.pool.memory[held.pages[index]], held.length - index * PAGE_POSITIONS)

    def pages_in(self, pages: Iterable[bytes], length: int) -> int:
        """A new session of `length` positions that has seen what `pages` (`pages_out`) hold; returns its number.

        Raises RequestError, leaving nothing, if it does not fit the model's context length or the pool, or if the
        pages are not of this model and length.
        """
        if length > self.manifest.context_length:
            raise RequestError(f"{length} positions do not fit the model's context of {self.manifest.context_length}")
        session = self.open()
        try:
            self.pages.reserve(session, length)
            held = self.pages[session].pages
            for number, page in zip_longest(held, pages):
                if number is None or page is None or len(page) != self.pool.page_bytes:
                    raise RequestError(f"these pages are not {length} positions of {self.manifest.name}")
                self.pool.memory[number] = native_page(page)
        except BaseException:
            self.close(session)
            raise
        self.pages.advance(session, length)
        return session

    def shutdown(self) -> None:
        """Give the memory back; no call may follow."""
        self._kernels.close()
