"""Model files, mapped into memory: read where they are touched, nothing copied."""

import mmap
import os
import stat
from pathlib import Path

import numpy as np

from twofold.errors import ModelError


def message_name(path: Path) -> str:
    """A path as one line of a message may name it."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def mapped(path: Path, suffix: str) -> mmap.mmap:
    """The bytes of a regular file, read-only. Opened without blocking: a pipe must not hang us.

    ModelError if it cannot be; `suffix` (".gguf") is what the message asks for.
    """
    name = message_name(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
                raise ModelError(f"{name}: is {kind}; give the path of a {suffix} file")
            if status.st_size == 0:
                raise ModelError(f"{name}: is empty; download or convert it again")
            return mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise ModelError(f"{name}: no such file; give the path of a {suffix} file") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ModelError(f"{name}: cannot be opened ({reason}); give a readable {suffix} file") from error


def give_back(data: mmap.mmap, raw: memoryview) -> None:
    """Tell the system that a mapped file up to the end of `raw`, a part of it, need not stay in our memory.

    All of it stays valid: touched again, it is read again. From the beginning on, because the system maps more than
    is touched, also backwards.
    """
    if raw:
        data.madvise(mmap.MADV_DONTNEED, 0, _start(data, raw) + len(raw))


def holds(data: mmap.mmap, raw: memoryview) -> bool:
    """Whether `raw` is a part of this mapped file."""
    return 0 <= _start(data, raw) <= len(data) - len(raw)


def _start(data: mmap.mmap, raw: memoryview) -> int:
    return int(np.frombuffer(raw, np.uint8).ctypes.data - np.frombuffer(data, np.uint8).ctypes.data)
