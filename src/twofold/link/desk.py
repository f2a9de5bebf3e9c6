"""The desk: where a server waits for frames on many ports at once (`native/desk.c`)."""

import ctypes
import functools
import os
import select
import struct
import weakref
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from twofold.errors import DeviceError, InternalError
from twofold.link.port import Kind, Port
from twofold.native import library

PLACES = 4096  # descriptors watched at once
ARRIVALS = 4096  # taken at once: what one look brings, or the calls of a batch
_ARRIVAL = struct.Struct("<iiIIQ")
_READ, _WRITE, _BELL = 1, 2, 4


class _Desk(ctypes.Structure):
    _fields_ = (
        ("epoll", ctypes.c_int32),
        ("shared_count", ctypes.c_int32),
        ("port", ctypes.c_void_p),
        ("shared", ctypes.c_void_p),
        ("calm", ctypes.c_int64 * 2),
    )


@dataclass(eq=False)
class Place:
    """Something watched: `what` is whoever gets to know of it, `port` where frames arrive, if it is one."""

    what: Any
    port: Port | None
    index: int
    descriptor: int


class Arrival(NamedTuple):
    """What happened at a place (`What`); segment, rows and nanoseconds to the deadline of a CALL."""

    place: Place
    what: int
    segment: int
    rows: int
    nanoseconds: int


class Desk:
    """Watches listeners, sockets and shared memory; one thread uses it, and any may `wake` it."""

    def __init__(self) -> None:
        self._functions = _functions()
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._bell)  # not in `close`: another thread may be about to ring it
        self._ports = np.zeros(PLACES, np.uintp)
        self._shared = np.zeros(PLACES, np.int32)
        self._places: list[Place | None] = [None] * PLACES
        self._free = deque(
            range(PLACES)
        )  # the one freed longest ago is used next: an arrival may still name a late one
        self._arrivals = ctypes.create_string_buffer(_ARRIVAL.size * ARRIVALS)
        self._raw = _Desk(self._epoll.fileno(), 0, self._ports.ctypes.data, self._shared.ctypes.data)
        self._view = memoryview(self._arrivals)
        self.places = PLACES
        self.address = ctypes.addressof(self._raw)
        self.arrivals = ctypes.addressof(self._arrivals)  # where `native/serve.c` writes what arrived
        self._waker = self.add(None, self._bell)

    def add(self, what: Any, descriptor: int, port: Port | None = None) -> Place:
        """Watch `descriptor`, and the frames of `port` if it is one; DeviceError if there are too many already.

        The descriptor of a port over shared memory is the eventfd that wakes this side.
        """
        if not self._free:
            raise DeviceError(f"more than {PLACES} connections at once; close some or start another processor")
        place = Place(what, port, self._free.popleft(), descriptor)
        self._places[place.index] = place
        self._ports[place.index] = port.address if port else 0
        shared = port is not None and port.kind == Kind.SHARED
        self._watch(place, _BELL if shared else _READ, fresh=True)
        if shared:
            self._shared[self._raw.shared_count] = place.index
            self._raw.shared_count += 1
        return place

    def own(self) -> None:
        """This thread is the one that waits here."""
        self._functions.tf_desk_own()

    def until_writable(self, place: Place, wanted: bool) -> None:
        """Report WRITABLE too, or no more."""
        self._watch(place, _READ | _WRITE if wanted else _READ, fresh=False)

    def remove(self, place: Place) -> None:
        """Watch it no more; before its descriptor is closed."""
        self._watch(place, 0, fresh=False)
        self._ports[place.index] = 0
        count = self._raw.shared_count
        at = np.flatnonzero(self._shared[:count] == place.index) if place.port else np.empty(0)
        if at.size:
            self._shared[at[0]] = self._shared[count - 1]
            self._raw.shared_count = count - 1
        self._places[place.index] = None
        self._free.append(place.index)

    def at(self, index: int) -> Any:
        """Whoever gets to know of what happens at that place."""
        place = self._places[index]
        return place and place.what

    def arrived(self, count: int) -> list[Arrival]:
        """The first `count` of what was written to `arrivals`.

        A place may be gone by the time its arrival is looked at, if an earlier one ended it.
        """
        found = []
        for index, what, segment, rows, nanoseconds in _ARRIVAL.iter_unpack(self._view[: count * _ARRIVAL.size]):
            place = self._places[index]
            if place is self._waker:
                os.eventfd_read(self._bell)
            elif place is not None:
                found.append(Arrival(place, what, segment, rows, nanoseconds))
        return found

    def wake(self) -> None:
        """End a `wait`; from any thread or a signal handler."""
        os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Close; a second time is nothing."""
        self._epoll.close()

    def _watch(self, place: Place, events: int, *, fresh: bool) -> None:
        wrong = self._functions.tf_desk_watch(self._raw.epoll, place.descriptor, place.index, events, fresh)
        if wrong:
            raise InternalError(f"descriptor {place.descriptor} cannot be watched ({os.strerror(wrong).lower()})")


@functools.cache
def _functions() -> Any:
    functions = library()
    i32 = ctypes.c_int32
    functions.tf_desk_watch.argtypes = (i32, i32, i32, i32, i32)
    functions.tf_desk_own.restype = None
    return functions
