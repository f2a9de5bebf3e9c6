"""The mailbox of `native/mailbox.c`: a word in shared memory that one process rings and another waits for."""

import ctypes
import functools

import numpy as np

from twofold.native import library

WORD = 1 << 32  # words count modulo this
SPIN_NS = 200_000  # a sleeper wakes 30 us late; one segment of a small model takes about 100


class Mailbox:
    """Two u32 at `offset` of `memory`, which it keeps alive. One side waits, the other rings."""

    def __init__(self, memory: memoryview, offset: int, *, spin_ns: int = SPIN_NS) -> None:
        functions = _functions()
        self._memory = np.frombuffer(memory, np.uint32, 2, offset)
        self._address = ctypes.c_void_p(self._memory.ctypes.data)
        self._spin_ns = spin_ns
        self._wait, self._ring, self._wake = (
            functions.tf_mailbox_wait,
            functions.tf_mailbox_ring,
            functions.tf_mailbox_wake,
        )

    def wait(self, seen: int, timeout_ns: int) -> int:
        """The word, once it differs from `seen`, after about `timeout_ns` at most or a wake."""
        return int(self._wait(self._address, seen, self._spin_ns, timeout_ns))

    def ring(self, word: int) -> None:
        """Store `word` and wake the other side if it sleeps."""
        self._ring(self._address, word)

    def wake(self) -> None:
        """Wake whoever waits, without a new word."""
        self._wake(self._address)


@functools.cache
def _functions() -> ctypes.CDLL:
    functions = library()
    functions.tf_mailbox_wait.argtypes = (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_long, ctypes.c_long)
    functions.tf_mailbox_wait.restype = ctypes.c_long
    functions.tf_mailbox_ring.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    functions.tf_mailbox_ring.restype = None
    functions.tf_mailbox_wake.argtypes = (ctypes.c_void_p,)
    functions.tf_mailbox_wake.restype = None
    return functions
