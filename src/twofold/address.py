"""Where memory is, for native code that is to read or write it."""

import numpy as np


def address_of(memory: bytes | bytearray | memoryview) -> int:
    """Where its bytes are, for as long as it lives and keeps its length."""
    return int(np.frombuffer(memory, np.uint8).ctypes.data)
