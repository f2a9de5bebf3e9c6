"""The memory that both ends of a shm:// link map: a control page, then the planes.

    byte    0  calls    ┌──────┬────────┐ u32 each (`link/mailbox.py`): the client rings, the server waits
                        │ word │ asleep │
           64  replies  ├──────┼────────┤ the server rings, the client waits
                        │ word │ asleep │
          128  call     ├──────┴───┬────┴────┬──────┬────────┬──────────────────┐
                        │ sequence │ segment │ rows │ unused │ nanoseconds left │  4 u32, u64
          192  reply    ├──────────┼─────────┼──────┴────────┴──────────────────┘
                        │ failed   │ unused  │ nanoseconds worked                  2 u32, u64
         4096  planes   └ `wire/rows.py`

A client numbers its rings and writes the number as the word. Where the word equals `sequence`, it is a call;
where it does not, the ring only says: look at the socket. The server answers with the call's number as the
word of `replies`; `failed` says that the answer is a message on the socket.

It is a memfd, so it has no name and nothing is left of it when both ends are gone, and it is sealed against
resizing, so that neither end can take pages away from the other.
"""

import fcntl
import mmap
import os
import struct
from typing import NamedTuple

from twofold.errors import DeviceError, FrameError
from twofold.link.base import reason
from twofold.link.mailbox import Mailbox
from twofold.units import bytes_text
from twofold.wire.rows import Layout, Rows

PAGE = 4096
_CALLS, _REPLIES, _CALL_AT, _REPLY_AT = 0, 64, 128, 192
_CALL = struct.Struct("<IIIIQ")
_REPLY = struct.Struct("<IIQ")
_SIZE_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class CallFields(NamedTuple):
    """What the control page says of a call."""

    sequence: int
    segment: int
    rows: int
    nanoseconds: int  # left to the deadline


class Region:
    """The mapped memory: `rows`, mailboxes `calls` and `replies`. Unmapped when the last of them goes."""

    def __init__(self, descriptor: int, layout: Layout) -> None:
        memory = memoryview(mmap.mmap(descriptor, PAGE + layout.size_bytes))
        self._page = memory[:PAGE]
        self.rows = Rows(layout, memory[PAGE:])
        self.calls = Mailbox(self._page, _CALLS)
        self.replies = Mailbox(self._page, _REPLIES)

    def write_call(self, call: CallFields) -> None:
        """Before ringing `calls` with its sequence."""
        sequence, segment, rows, nanoseconds = call
        _CALL.pack_into(self._page, _CALL_AT, sequence, segment, rows, 0, nanoseconds)

    def read_call(self) -> CallFields:
        """A copy: the other side can change the page at any time."""
        sequence, segment, rows, _, nanoseconds = _CALL.unpack_from(self._page, _CALL_AT)
        return CallFields(sequence, segment, rows, nanoseconds)

    def write_reply(self, *, failed: bool, nanoseconds: int) -> None:
        """Before ringing `replies` with the sequence of the call."""
        _REPLY.pack_into(self._page, _REPLY_AT, failed, 0, nanoseconds)

    def read_reply(self) -> tuple[bool, int]:
        """Whether the call failed, and the nanoseconds worked."""
        failed, _, nanoseconds = _REPLY.unpack_from(self._page, _REPLY_AT)
        return bool(failed), nanoseconds


def create(layout: Layout) -> int:
    """The descriptor of new memory for `layout`, sealed; DeviceError if this machine has none left."""
    size = PAGE + layout.size_bytes
    descriptor = -1
    try:
        descriptor = os.memfd_create("twofold", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.posix_fallocate(descriptor, 0, size)  # now, not as a bus error at the first touch
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SIZE_SEALS | fcntl.F_SEAL_SEAL)
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        raise DeviceError(
            f"no {bytes_text(size)} of shared memory for a link ({reason(error)}); "
            "free memory or files, or listen at tcp://127.0.0.1:0 instead"
        ) from error
    return descriptor


def check(descriptor: int, layout: Layout) -> None:
    """Raise FrameError unless a descriptor from the other side is memory of the right size, sealed."""
    size = os.fstat(descriptor).st_size
    if size != PAGE + layout.size_bytes:
        raise FrameError(f"shared memory of {size} bytes arrived; the manifest needs {PAGE + layout.size_bytes}")
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as error:
        raise FrameError("a file arrived where shared memory was expected") from error
    if seals & _SIZE_SEALS != _SIZE_SEALS:
        raise FrameError("the shared memory that arrived is not sealed against resizing")
