"""The native library: one shared object built from `native/` by the system C compiler when Twofold is installed."""

import ctypes
import functools
from pathlib import Path

from twofold.errors import DeviceError

PATH = Path(__file__).with_name("libtwofold.so")


@functools.cache
def library() -> ctypes.CDLL:
    """The loaded library; raises DeviceError if it was not built or does not load."""
    try:
        return ctypes.CDLL(str(PATH))
    except OSError as error:
        raise DeviceError(
            f"the native library does not load ({error}); install Twofold again with a C compiler present "
            "(Debian: apt install gcc libc6-dev)"
        ) from error
