"""One fetch of a model at a time, across processes: an advisory lock on a file beside the models."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def exclusive(path: Path, waiting: Callable[[], None]) -> Iterator[int]:
    """Hold the lock of the file at `path`, and yield its descriptor; `waiting` is called if another holds it.

    The file is created where missing and never removed, because removing it would let two holders in. The
    lock ends with the last process that has the descriptor: a child that is given it (`pass_fds`) and
    outlives us still counts as a holder. OSError as from the system.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
