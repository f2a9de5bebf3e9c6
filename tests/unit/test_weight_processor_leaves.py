"""How a weight processor leaves: it says so first, answers those who go on calling, and ends when nobody does."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_processor import ToyService

from twofold.errors import ProcessorLost
from twofold.link import connect, listen
from twofold.link.base import Connection
from twofold.processor import weight
from twofold.processor.weight import WeightProcessor
from twofold.units import Seconds
from twofold.wire.message import Drain, Ping, Pong
from twofold.wire.rows import Rows

SOON = Seconds(5.0)
MOMENT_NS, LONG_NS = 50_000_000, 60_000_000_000


class Served:
    """A toy processor in a thread, and a connection to it."""

    def __init__(self, path: Path) -> None:
        self.processor = WeightProcessor(ToyService(), [listen(f"shm://{path}/s")])
        self.thread = threading.Thread(target=self.processor.serve_forever)
        self.thread.start()
        self.connection: Connection = connect(self.processor.urls[0])
        self.rows = Rows(self.connection.layout)

    def call(self) -> None:
        """A call that is answered."""
        self.rows["ids"][0] = 21
        self.connection.call(self.rows, 0, 1, SOON)
        assert self.rows["carry"][0, 0] == 42

    def call_for_ever(self) -> None:
        """Calls that are answered, until one is not."""
        while True:
            self.call()

    def ended(self) -> bool:
        """Whether it ends, soon."""
        self.thread.join(SOON)
        return not self.thread.is_alive()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Served"]:
    monkeypatch.setattr(weight, "QUIET_NS", LONG_NS)
    monkeypatch.setattr(weight, "LEAVE_NS", LONG_NS)
    served = Served(tmp_path)
    yield served
    served.connection.close()
    served.processor.stop()
    assert served.ended()


def test_a_processor_asked_to_drain_says_so_from_then_on_and_answers_as_before(served: Served) -> None:
    assert served.connection.ask(Ping(), SOON) == Pong(draining=False)
    assert served.connection.ask(Drain(), SOON) == Pong(draining=True)
    assert served.connection.ask(Ping(), SOON) == Pong(draining=True)
    served.call()


def test_a_processor_told_to_leave_says_so_and_answers_those_who_go_on_calling(served: Served) -> None:
    served.call()
    served.processor.leave()
    assert served.connection.ask(Ping(), SOON) == Pong(draining=True)
    served.call()
    assert served.thread.is_alive()


def test_a_processor_told_to_leave_ends_at_once_when_nobody_is_connected(served: Served) -> None:
    served.call()
    served.connection.close()
    served.processor.leave()
    assert served.ended()


def test_a_processor_told_to_leave_ends_when_nobody_has_called_for_a_while(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.call()
    monkeypatch.setattr(weight, "QUIET_NS", MOMENT_NS)
    served.processor.leave()
    assert served.ended()


def test_a_processor_told_to_leave_ends_in_time_even_if_somebody_goes_on_calling(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight, "LEAVE_NS", MOMENT_NS)
    served.call()
    served.processor.leave()
    with pytest.raises(ProcessorLost):
        served.call_for_ever()
    assert served.ended()
