"""The memory that both ends of a shm:// link map: a control page, then one frame each way.

    byte    0  calls    ┌──────┬────────┐ u32 each (`native/port.c`): the client rings, the server waits
                        │ word │ asleep │
           64  replies  ├──────┼────────┤ the server rings, the client waits
                        │ word │ asleep │
         4096  call     ├──────┴────────┴─────────┐
                        │ frame of a CALL         │ header of 64 bytes and the longest payload, in whole pages
               reply    ├─────────────────────────┤
                        │ frame of a REPLY, or of │
                        │ the message of a failure│
                        └─────────────────────────┘

The frames are those of every link (`wire/frame.py`) but for the checksum, which is 0: memory does not damage. The
word of a mailbox is the sequence number of the frame behind it, modulo 2^32. A client that sleeps waits on its word
as a futex; a server sleeps on an eventfd, which it passes to the client together with the memory.

It is a memfd, so it has no name and nothing is left of it when both ends are gone, and it is sealed against
resizing, so that neither end can take pages away from the other.
"""

import fcntl
import mmap
import os

from twofold.errors import DeviceError, FrameError
from twofold.link.base import reason
from twofold.link.port import Kind, Port
from twofold.units import KIB, bytes_text
from twofold.wire.frame import HEADER_BYTES
from twofold.wire.rows import Layout

PAGE = 4096
FAILURE_BYTES = 16 * KIB  # room for the message of a failure
_CALLS, _REPLIES = 0, 64
_SIZE_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class Region:
    """The mapped memory. Unmapped when the last port over it goes."""

    def __init__(self, descriptor: int, layout: Layout) -> None:
        call, reply = frame_bytes(layout)
        memory = memoryview(mmap.mmap(descriptor, PAGE + call + reply))
        self._page = memory[:PAGE]
        self._call, self._reply = memory[PAGE : PAGE + call], memory[PAGE + call :]
        self._layout = layout

    def calling(self, bell: int) -> Port:
        """The client's port; `bell`: the eventfd that wakes the server."""
        port = Port(Kind.SHARED, self._reply, self._call, bell)
        port.share(self._page, mine=_REPLIES, theirs=_CALLS)
        port.expect(self._layout)
        return port

    def serving(self, bell: int) -> Port:
        """The server's port, woken by the eventfd `bell`."""
        port = Port(Kind.SHARED, self._call, self._reply, serves=True)
        port.share(self._page, mine=_CALLS, theirs=_REPLIES, bell=bell)
        port.expect(self._layout)
        return port


def frame_bytes(layout: Layout) -> tuple[int, int]:
    """Room for the longest call and the longest reply, in whole pages."""
    longest = (layout.longest(gives=False), max(layout.longest(gives=True), FAILURE_BYTES))
    call, reply = (-(-(HEADER_BYTES + payload) // PAGE) * PAGE for payload in longest)
    return call, reply


def create(layout: Layout) -> int:
    """The descriptor of new memory for `layout`, sealed; DeviceError if this machine has none left."""
    size = PAGE + sum(frame_bytes(layout))
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
    size, needed = os.fstat(descriptor).st_size, PAGE + sum(frame_bytes(layout))
    if size != needed:
        raise FrameError(f"shared memory of {size} bytes arrived; the manifest needs {needed}")
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as error:
        raise FrameError("a file arrived where shared memory was expected") from error
    if seals & _SIZE_SEALS != _SIZE_SEALS:
        raise FrameError("the shared memory that arrived is not sealed against resizing")
