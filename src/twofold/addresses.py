"""Where bytes are in memory, for native code. Apart from `native`: it takes NumPy, which not every command needs."""

import numpy as np


def address_of(memory: bytes | bytearray | memoryview) -> int:
    """Where its bytes are, for as long as it lives and keeps its length."""
    return int(np.frombuffer(memory, np.uint8).ctypes.data)
