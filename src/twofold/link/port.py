"""One end of a link as memory that holds one frame each way: `native/port.c`, bound by ctypes.

SHARED   both ends map the frames, and a word says that one is there (shm://)
SOCKET   the frames cross a stream socket (tcp://, and messages beside shm://), inside TLS if it has a session (tls://)
FED      Python moves the bytes (ws://; tls:// where it has no session); the rest is as for a socket
HERE     nothing moves: native code of this process works on the caller's rows (inproc://)
"""

import ctypes
import enum
import functools
import mmap
import os
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

from twofold.address import address_of
from twofold.errors import FrameError, InternalError, LinkError, ProcessorLost
from twofold.native import library
from twofold.units import Nanoseconds
from twofold.wire.frame import CALL, CONTROL, HEADER_BYTES, Header, check_planes, unpack
from twofold.wire.message import Message, decode
from twofold.wire.rows import Layout, Rows

SLICE_NS = 20_000_000  # of waiting, between two looks around
SPIN_NS = 200_000  # a sleeper wakes 30 us late; one segment of a small model takes about 100
MAX_PLANES = 16
"""Planes of one cut, taken and given together (`native/frame.h`)."""


class Kind(enum.IntEnum):
    """How frames reach a port."""

    SHARED = 0
    SOCKET = 1
    FED = 2
    HERE = 3


class What(enum.IntEnum):
    """What a port reports. READY: something can be read that is no port; WRITABLE: all has left.

    Of calls that a server took: ANSWERED, though not all of it may have left; FAILED: the batch could not be run.
    """

    NOTHING = 0
    CALL = 1
    MESSAGE = 2
    READY = 3
    LOST = 4
    DAMAGED = 5
    WRITABLE = 6
    ANSWERED = 7
    FAILED = 8


class _Plane(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("row_bytes", ctypes.c_uint32), ("unused", ctypes.c_uint32))


class _Cut(ctypes.Structure):
    _fields_ = (
        ("takes", ctypes.c_uint32),
        ("gives", ctypes.c_uint32),
        ("limit", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
        ("plane", _Plane * MAX_PLANES),
    )


class _Layout(ctypes.Structure):
    _fields_ = (
        ("model", ctypes.c_uint8 * 16),
        ("segments", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
        ("cut", ctypes.POINTER(_Cut)),
    )


class _Port(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int32),
        ("descriptor", ctypes.c_int32),
        ("layout", ctypes.POINTER(_Layout)),
        ("mine", ctypes.c_void_p),
        ("theirs", ctypes.c_void_p),
        ("inward", ctypes.c_void_p),
        ("outward", ctypes.c_void_p),
        ("in_room", ctypes.c_uint64),
        ("out_room", ctypes.c_uint64),
        ("filled", ctypes.c_uint64),
        ("leaving", ctypes.c_uint64),
        ("left", ctypes.c_uint64),
        ("sequence", ctypes.c_uint64),
        ("calm", ctypes.c_int64 * 2),
        ("bell", ctypes.c_int32),
        ("serves", ctypes.c_int32),
        ("seen", ctypes.c_uint32),
        ("fault", ctypes.c_uint32),
        ("tls", ctypes.c_void_p),
        ("call", ctypes.c_uint8 * HEADER_BYTES),
        ("native", ctypes.c_void_p),
        ("vocabulary", ctypes.c_uint64),
    )


class Fault(enum.IntEnum):
    """What was wrong with a frame, if its header alone does not tell (`native/frame.h`)."""

    ROWS = 7
    LENGTH = 8
    CHECKSUM = 9


_NATIVE: weakref.WeakKeyDictionary[Layout, _Layout] = weakref.WeakKeyDictionary()


def native_layout(layout: Layout) -> _Layout:
    """`layout` as the native library reads it."""
    if layout not in _NATIVE:
        cuts = (_Cut * len(layout.cuts))()
        for segment, cut in enumerate(layout.cuts):
            planes = [_Plane(layout.offsets[plane.name], plane.row_bytes, 0) for plane in (*cut.takes, *cut.gives)]
            if len(planes) > MAX_PLANES:
                raise FrameError(f"segment {segment} has {len(planes)} planes; {MAX_PLANES} can cross one cut")
            limit = layout.limit(segment)
            cuts[segment] = _Cut(len(cut.takes), len(cut.gives), limit, 0, (_Plane * MAX_PLANES)(*planes))
        made = _Layout((ctypes.c_uint8 * 16)(*layout.model), len(layout.cuts), 0, cuts)
        _NATIVE[layout] = made
    return _NATIVE[layout]


class Session(Protocol):
    """TLS that a SOCKET port's bytes pass through (`link/openssl.py`)."""

    address: int  # of the native session

    @property
    def why(self) -> str:
        """What broke it; empty if nothing did."""


class Port:
    """One end. Keeps the memory of its frames; `descriptor` stays the caller's."""

    def __init__(
        self, kind: Kind, inward: memoryview, outward: memoryview, descriptor: int = -1, *, serves: bool = False
    ) -> None:
        """`inward`, `outward`: memory for one frame that arrives and one that leaves. `serves`: calls arrive here."""
        self._functions = _functions()
        self.kind = kind
        self._raw = _Port(kind=kind, descriptor=descriptor, bell=-1, serves=serves)
        self._worked = ctypes.c_uint64()
        self._session: Session | None = None
        self._expected: Layout | None = None
        self._layout: _Layout | None = None
        self.give_room(inward, outward)
        self.address = ctypes.addressof(self._raw)

    def give_room(self, inward: memoryview, outward: memoryview) -> None:
        """Use other memory for the frames, between two of them."""
        self.inward, self.outward = inward, outward
        self._raw.inward, self._raw.in_room = address_of(inward), len(inward)
        self._raw.outward, self._raw.out_room = address_of(outward), len(outward)

    def expect(self, layout: Layout) -> None:
        """From now on calls and replies of this layout may come; before, only messages."""
        self._expected, self._layout = layout, native_layout(layout)
        self._raw.layout = ctypes.pointer(self._layout)

    def share(self, page: memoryview, mine: int, theirs: int, *, bell: int = -1) -> None:
        """The two mailboxes, at these bytes of a page that both ends map; `bell`: the eventfd that wakes this end."""
        base = address_of(page)
        self._raw.mine, self._raw.theirs, self._raw.bell = base + mine, base + theirs, bell

    def secure(self, session: Session) -> None:
        """From now on the bytes of a SOCKET port pass through TLS."""
        self._session, self._raw.tls = session, session.address

    # the calling end

    def begin(self, rows: Rows, native: _Layout, segment: int, count: int, deadline_ns: int) -> int:
        """Send the first `count` of `rows`; NOTHING if not all has left (`finish` goes on, or `leaving` has it)."""
        return int(self._functions.tf_port_begin(self.address, native, rows.address, segment, count, deadline_ns))

    def finish(self, rows: Rows, native: _Layout, segment: int, count: int, timeout_ns: int) -> int:
        """CALL once the reply is in `rows`; see `native/port.c`. `worked` then has the time."""
        return int(
            self._functions.tf_port_finish(
                self.address, native, rows.address, segment, count, SPIN_NS, timeout_ns, self._worked
            )
        )

    @property
    def worked(self) -> Nanoseconds:
        """What the other side says it worked for the last reply."""
        return Nanoseconds(self._worked.value)

    def call(self, rows: Rows, native: _Layout, segment: int, count: int, deadline_ns: int, timeout_ns: int) -> int:
        """`begin` and `finish` in one."""
        return int(
            self._functions.tf_port_call(
                self.address, native, rows.address, segment, count, deadline_ns, SPIN_NS, timeout_ns, self._worked
            )
        )

    # the serving end

    def fail(self, message: bytes) -> None:
        """Answer the call that arrived with a message, over shared memory."""
        self._functions.tf_port_fail(self.address, message, len(message))

    def forget(self) -> None:
        """Wipe the planes of the call that arrived."""
        self._functions.tf_port_forget(self.address)

    # both

    def pull(self) -> int:
        """The next frame, if it is there whole."""
        return int(self._functions.tf_port_pull(self.address))

    def space(self) -> memoryview:
        """Where the next bytes of a FED port belong."""
        return self.inward[self._raw.filled :]

    def fed(self, count: int) -> int:
        """`count` bytes were put into `space`."""
        return int(self._functions.tf_port_fed(self.address, count))

    @property
    def begun(self) -> bool:
        """Whether a part of a frame has arrived."""
        return bool(self._raw.filled)

    @property
    def leaving(self) -> memoryview:
        """What of the frame that leaves has not left."""
        return self.outward[self._raw.left : self._raw.leaving]

    def flush(self) -> int:
        """Send more of the frame that leaves: WRITABLE once all has."""
        return int(self._functions.tf_port_flush(self.address))

    def handed_on(self, count: int) -> None:
        """`count` bytes of `leaving` of a FED port were handed on."""
        self._raw.left += count
        if self._raw.left == self._raw.leaving:
            self._functions.tf_port_left(self.address)

    def header(self) -> Header:
        """Of the frame that arrived last."""
        return unpack(bytes(self._raw.call))

    def message(self) -> Message:
        """The message that arrived last; of a copy, because shared memory can change."""
        return decode(bytes(self.inward[HEADER_BYTES : HEADER_BYTES + self.header().length]))

    def await_bytes(self, timeout_ns: int) -> None:
        """Until the descriptor of a FED port can be read, or for about `timeout_ns`."""
        self._functions.tf_port_await(self.address, SPIN_NS, timeout_ns)

    def gone(self, error: Exception, peer: str) -> ProcessorLost:
        """What the failure of a socket says."""
        return ProcessorLost(f"{peer} went away ({(getattr(error, 'strerror', None) or str(error)).lower()})")

    def error(self, what: int, peer: str) -> LinkError:
        """What LOST or DAMAGED says."""
        if what == What.LOST:
            why = (self._session and self._session.why) or _system(self._raw.fault) or "it closed the link"
            return ProcessorLost(f"{peer} went away ({why})")
        if what == What.DAMAGED:
            return FrameError(f"{peer}: {self._damage()}")
        raise InternalError(f"{What(what).name} is no error of a link")

    def _damage(self) -> str:
        """What is wrong with the frame that arrived last."""
        try:
            header = self.header()
            if header.kind != CONTROL:
                if self._expected is None:
                    return "the handshake comes first, then calls; nothing else is taken here"
                check_planes(header, self._expected)
                if (header.kind == CALL) != bool(self._raw.serves):
                    return f"a {header.kind_name} came to the side that sends them"
        except FrameError as error:
            return str(error)
        match self._raw.fault:
            case Fault.CHECKSUM:
                return f"damaged {header.kind_name}: its checksum is not that of its bytes"
            case Fault.ROWS:
                return f"it answered another call than the one in flight (segment {header.segment})"
            case _:
                return f"{header.kind_name} of {header.length} bytes came with more, or is more than is taken here"


class PortHere:
    """The calling end where no link is: `finish` of `native/port.c` works on the caller's rows."""

    def __init__(self, segments: int, vocabulary: int) -> None:
        """`segments`: where the native calls of the segments are (`Service.native_segments`)."""
        self._raw = _Port(kind=Kind.HERE, native=segments, vocabulary=vocabulary)
        self.address = ctypes.addressof(self._raw)


def room(payload_bytes: int) -> memoryview:
    """New memory for one frame; the system gives it page by page as it is used, and gets it back at once after."""
    return memoryview(mmap.mmap(-1, HEADER_BYTES + payload_bytes))


def _system(number: int) -> str:
    return os.strerror(number).lower() if number else ""


@functools.cache
def _functions() -> Any:
    functions = library()
    pointer, u32, u64, i64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int64
    layout = ctypes.POINTER(_Layout)
    functions.tf_port_begin.argtypes = (pointer, layout, pointer, u32, u32, u64)
    functions.tf_port_finish.argtypes = (pointer, layout, pointer, u32, u32, i64, i64, ctypes.POINTER(u64))
    functions.tf_port_call.argtypes = (pointer, layout, pointer, u32, u32, u64, i64, i64, ctypes.POINTER(u64))
    functions.tf_ports_take.argtypes = (pointer, u32, layout, pointer)
    functions.tf_ports_give.argtypes = (pointer, u32, layout, pointer, u64, pointer)
    functions.tf_port_fail.argtypes = (pointer, ctypes.c_char_p, u64)
    functions.tf_port_pull.argtypes = functions.tf_port_flush.argtypes = functions.tf_port_left.argtypes = (pointer,)
    functions.tf_port_forget.argtypes = (pointer,)
    functions.tf_port_fed.argtypes = (pointer, u64)
    functions.tf_port_await.argtypes = (pointer, i64, i64)
    for name in ("tf_ports_take", "tf_ports_give", "tf_port_fail", "tf_port_left", "tf_port_forget", "tf_port_await"):
        getattr(functions, name).restype = None
    return functions


class Batch:
    """The rows of calls for one segment that arrived on several ports, one call behind the other."""

    def __init__(self, layout: Layout) -> None:
        self.rows = Rows(layout)
        self._native = native_layout(layout)
        self._functions = _functions()
        self._ports = (ctypes.c_void_p * layout.rows)()
        self._what = (ctypes.c_int32 * layout.rows)()

    def take(self, ports: Sequence[Port]) -> None:
        """Copy the planes of the calls that arrived on `ports` into `rows`."""
        for number, port in enumerate(ports):
            self._ports[number] = port.address
        self._functions.tf_ports_take(self._ports, len(ports), self._native, self.rows.address)

    def give(self, count: int, worked: int) -> list[int]:
        """Answer the `count` calls taken last and wipe the rows; of each WRITABLE, NOTHING if not all left, LOST."""
        self._functions.tf_ports_give(self._ports, count, self._native, self.rows.address, worked, self._what)
        return self._what[:count]
