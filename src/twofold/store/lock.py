"""One at a time, across processes: advisory locks on a file (a fetch of a model) or on a folder of this user's own."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from twofold.errors import ConfigurationError


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


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """`folder`, made where missing and for this user only, with nobody else changing it.

    ConfigurationError if it cannot be used, or others may look into it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be used ({error.strerror}); correct its owner and mode") from error
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise ConfigurationError(f"{folder} does not belong to you alone; close it with: chmod 700 {folder}")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
