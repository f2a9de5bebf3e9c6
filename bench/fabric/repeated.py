"""Something done again and again beside the block of a `with`."""

import abc
import threading
from typing import Self


class Repeated(abc.ABC):
    """A context manager: `once` every so many seconds, in a thread, while the block runs."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    @abc.abstractmethod
    def once(self) -> None:
        """What is done."""

    def _repeat(self) -> None:
        while not self._ended.wait(self._seconds):
            self.once()
