"""Processes that tests keep an eye on."""

import contextlib
import os
import select
from collections.abc import Iterator


@contextlib.contextmanager
def watched(pid: int) -> Iterator["select.poll"]:
    """A poll that reports once the process of another parent has ended; it must be alive now."""
    descriptor = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    try:
        yield poll
    finally:
        os.close(descriptor)
