"""A weight memory that fails when it is told to, served and called."""

import contextlib
import threading
from collections.abc import Iterator

from twofold import link
from twofold.engine.attach import Attachments
from twofold.engine.caller import Caller
from twofold.engine.engine import Engine
from twofold.errors import ModelError
from twofold.kernels.native import Native
from twofold.memory.context import ContextMemory
from twofold.memory.map import Entry
from twofold.memory.weight import WeightMemory
from twofold.processor.weight import WeightProcessor
from twofold.units import Nanoseconds, Seconds
from twofold.wire.rows import Rows


class Troubled(WeightMemory):
    """A weight memory that is slow at the next call, or fails it."""

    slow = 0.0
    broken = False
    out_of_order = False  # every call fails

    def native_segments(self) -> None:
        return None

    def work(self, segment: int, rows: Rows, count: int) -> Nanoseconds:
        """As ever, after the trouble."""
        slow, self.slow = self.slow, 0.0
        threading.Event().wait(slow)
        if self.broken or self.out_of_order:
            self.broken = False
            raise ModelError("broken for once")
        return super().work(segment, rows, count)


@contextlib.contextmanager
def served(weights: WeightMemory, url: str) -> Iterator[WeightProcessor]:
    processor = WeightProcessor(weights, [link.listen(url)])
    thread = threading.Thread(target=processor.serve_forever)
    thread.start()
    try:
        yield processor
    finally:
        processor.stop()
        thread.join()


@contextlib.contextmanager
def engine_at(url: str, backend: Native, wait: float = 0.0, lanes: int | None = None) -> Iterator[Engine]:
    def connect(address: str, deadline: Seconds) -> link.Connection:
        return link.connect(address, deadline=deadline)

    with Attachments(connect, [Entry(one) for one in url.split(",")]) as attachments:
        context = ContextMemory(attachments.manifest, backend, positions=1024)
        caller = Caller(attachments, wait=Seconds(wait))
        yield Engine(caller, context, lanes=lanes)
        caller.close()
        context.pages.check()
        context.shutdown()
