"""Which calls a weight memory runs next, together: the policy is native (`native/calls.c` says what it is), because a
weight processor asks it between any two batches. It decides and does nothing else; the time is an argument.
"""

import ctypes
import functools
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twofold.errors import DeviceError
from twofold.native import library


@dataclass(eq=False, slots=True)
class Waiting:
    """A call that waits: `rows` rows of `owner` for `segment`, from `arrived` until `expiry` (ns, any clock)."""

    port: int  # which connection's; a connection has one call at a time
    owner: str
    segment: int
    rows: int
    arrived: int
    expiry: int


class CallQueue:
    """Calls that wait for one weight memory of `segments` segments; `limit(segment)`: most rows of one batch."""

    def __init__(self, segments: int, limit: Callable[[int], int], ports: int = 4096) -> None:
        """`ports`: the numbers of connections are below it."""
        self._functions = _functions()
        limits = (ctypes.c_uint32 * segments)(*map(limit, range(segments)))
        found = self._functions.tf_calls_new(segments, limits, ports)
        if not found:
            raise DeviceError(f"there is no memory for the queue of {ports} connections")
        self.address = int(found)
        weakref.finalize(self, self._functions.tf_calls_free, self.address)
        self._ports = (ctypes.c_int32 * ports)()
        self._owners: dict[str, list[int]] = {}  # number, and connections that have it
        self._free = list(range(ports - 1, -1, -1))

    def __len__(self) -> int:
        return int(self._functions.tf_calls_waiting(self.address))

    def enter(self, owner: str) -> int:
        """One connection more of `owner`, whose number this is."""
        if owner not in self._owners:
            self._owners[owner] = [self._free.pop(), 0]
            self._functions.tf_calls_new_owner(self.address, self._owners[owner][0])
        self._owners[owner][1] += 1
        return self._owners[owner][0]

    def leave(self, owner: str) -> None:
        """One connection less."""
        self._owners[owner][1] -= 1
        if not self._owners[owner][1]:
            self._free.append(self._owners.pop(owner)[0])

    def put(self, call: Waiting) -> None:
        """`call` of an owner that entered arrived."""
        owner = self._owners[call.owner][0]
        self._functions.tf_calls_put(
            self.address, call.port, owner, call.segment, call.rows, call.arrived, min(call.expiry, (1 << 63) - 1)
        )

    def open(self, port: int) -> bool:
        """Whether a call of that connection has no answer yet."""
        return bool(self._functions.tf_calls_open(self.address, port))

    def withdraw(self, port: int) -> None:
        """What the connection had here is answered in another way, or the connection is gone."""
        self._functions.tf_calls_withdraw(self.address, port)

    def expired(self, now: int) -> list[int]:
        """Connections whose calls' deadlines have passed; they wait no more."""
        count = self._functions.tf_calls_expired(self.address, now, self._ports, len(self._ports))
        return list(self._ports[:count])

    def linger(self, now: int) -> int:
        """Nanoseconds to wait before `next`, because rows are expected at the segment with the highest score."""
        return int(self._functions.tf_calls_linger(self.address, now))

    def next(self, now: int) -> list[int]:
        """The connections whose calls are to run together now, in the order of their rows; none if none wait."""
        count = self._functions.tf_calls_next(self.address, now)
        segment, rows = ctypes.c_uint32(), ctypes.c_uint32()
        ports = self._functions.tf_calls_batch(self.address, ctypes.byref(segment), ctypes.byref(rows))
        return list(ports[:count])

    def ran(self, now: int, took: int) -> None:
        """What `next` gave last was answered at `now` after `took` nanoseconds."""
        self._functions.tf_calls_ran(self.address, now, took)

    def check(self) -> None:
        """Raise AssertionError unless every connection waits at most once, or is expected, and the counts fit."""
        wrong = self._functions.tf_calls_check(self.address)
        assert not wrong, wrong.decode()


@functools.cache
def _functions() -> Any:
    functions = library()
    pointer, i32, u32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint32, ctypes.c_int64
    signatures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "tf_calls_new": (pointer, (i32, pointer, i32)),
        "tf_calls_free": (None, (pointer,)),
        "tf_calls_waiting": (i32, (pointer,)),
        "tf_calls_new_owner": (None, (pointer, i32)),
        "tf_calls_put": (None, (pointer, i32, i32, u32, u32, i64, i64)),
        "tf_calls_open": (i32, (pointer, i32)),
        "tf_calls_withdraw": (None, (pointer, i32)),
        "tf_calls_expired": (i32, (pointer, i64, pointer, i32)),
        "tf_calls_linger": (i64, (pointer, i64)),
        "tf_calls_next": (i32, (pointer, i64)),
        "tf_calls_batch": (ctypes.POINTER(i32), (pointer, pointer, pointer)),
        "tf_calls_ran": (None, (pointer, i64, i64)),
        "tf_calls_check": (ctypes.c_char_p, (pointer,)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(functions, name)
        function.restype, function.argtypes = result, arguments
    return functions
