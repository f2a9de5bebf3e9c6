import secrets
from pathlib import Path

import pytest
from toy_processor import BLOCK, FAIL, ToyService, connect, serving

from twofold import link
from twofold.engine.top import Look, Observatory, look_of
from twofold.errors import ModelError
from twofold.link.base import Connection
from twofold.units import Bytes, Nanoseconds, Seconds
from twofold.wire.status import Counts, Status

SOON = Seconds(5.0)


def status(seconds: int, counts: Counts, *, pid: int = 7) -> Status:
    return Status("toy", "ab" * 32, (0, 1), pid, Nanoseconds(seconds * 10**9), False, 3, 2, {}, 1, counts)


def counts(batches: int) -> Counts:
    worked, waited = Nanoseconds(batches * 10**8), Nanoseconds(0)
    sizes = Bytes(1000 * batches), Bytes(2000 * batches)
    return Counts(batches, 4 * batches, batches, worked, waited, *sizes, (0, 0, batches), (batches,), (0, batches))


def test_rates_are_of_the_time_between_two_looks() -> None:
    look = look_of("u", status(20, counts(30)), status(10, counts(10)), Seconds(0.5))
    assert look.seconds == 10
    assert (look.rows_per_second, look.batch_rows, look.busy) == (8, 4, 0.2)
    assert (look.received_bytes_per_second, look.sent_bytes_per_second) == (2000, 4000)
    assert (look.wait_p50_seconds, look.work_p99_seconds) == (1e-9, 2e-9)


@pytest.mark.parametrize("before", [None, status(30, counts(40)), status(10, counts(40), pid=6)])
def test_rates_are_since_the_start_at_first_and_after_a_restart(before: Status | None) -> None:
    look = look_of("u", status(20, counts(30)), before, Seconds(0.5))
    assert (look.seconds, look.rows_per_second) == (20, 6)


def test_a_quiet_time_has_no_times_to_tell() -> None:
    look = look_of("u", status(20, counts(30)), status(10, counts(30)), Seconds(0.5))
    assert (look.rows_per_second, look.batch_rows, look.wait_p99_seconds) == (0, None, None)


@pytest.fixture(params=["shm", "tcp"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"shm://{tmp_path}/{secrets.token_hex(4)}" if request.param == "shm" else "tcp://127.0.0.1:0"


def through(url: str, deadline: Seconds) -> Connection:
    return link.connect(url, deadline=deadline)


def look_at(url: str) -> Look:
    with Observatory([url], through) as observatory:
        return observatory.look()[0]


def test_what_a_processor_does_is_seen(url: str) -> None:
    service = ToyService()
    with serving(url, service) as processor:
        asker = connect(processor.urls[0], owner="me")
        asker.rows["ids"][:3, 0] = 1
        for _ in range(2):
            asker.call(0, 3, SOON)
        asker.rows["ids"][0] = FAIL
        with pytest.raises(ModelError):
            asker.call(0, 1, SOON)
        seen = look_at(processor.urls[0])
        assert (seen.state, seen.segments, seen.connections, seen.owners) == ("up", (0, 1), 2, 2)
        assert (seen.batch_rows, seen.waiting, seen.failures) == (3, 0, {"ModelError": 1})
        assert seen.trip_seconds is not None
        told = processor.status().counts
        assert (told.calls, told.rows, told.batches) == (2, 6, 2)
        asker.close()


def test_a_call_that_waits_is_seen_from_another_thread(url: str) -> None:
    service = ToyService()
    with serving(url, service) as processor:
        asker = connect(processor.urls[0])
        asker.rows["ids"][0] = BLOCK
        asker.connection.begin(asker.rows, 0, 1, SOON)
        assert service.entered.wait(5)
        assert processor.status().waiting == 1
        service.release.set()
        asker.connection.finish()
        assert look_at(processor.urls[0]).waiting == 0
        asker.close()


def test_one_that_is_lost_is_down_and_up_again_when_it_is_back(tmp_path: Path) -> None:
    url = f"shm://{tmp_path}/s"
    with Observatory([url], through) as observatory:
        seen = []
        for _ in range(2):
            with serving(url, ToyService()):
                seen.append(observatory.look()[0].state)
            lost = observatory.look()[0]
            seen.append(lost.state)
            assert lost.why
        assert seen == ["up", "down", "up", "down"]
