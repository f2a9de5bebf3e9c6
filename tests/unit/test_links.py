"""One contract for every link: all schemes behave alike over a toy service."""

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import toy_processor
from toy_processor import BLOCK, BUG, DIE, DIGEST, FAIL, MANIFEST, WORKED, Asker, ToyService, connect, join, serving

from twofold.errors import (
    ConfigurationError,
    DeadlinePassed,
    InternalError,
    LinkError,
    ModelError,
    ProcessorLost,
    Refused,
    Unreachable,
)
from twofold.link import tls
from twofold.link.exposure import ENCRYPTED
from twofold.processor.spawn import SpawnedWeights
from twofold.units import Seconds
from twofold.wire.message import AskTokenizer, Ping, Pong, TokenizerReply

SOON = Seconds(5.0)


class Link(NamedTuple):
    """One kind of link to a toy service."""

    scheme: str
    service: ToyService
    connect: Callable[..., Asker]


def address(scheme: str, folder: Path) -> str:
    return f"shm://{folder}/{secrets.token_hex(4)}" if scheme == "shm" else f"{scheme}://127.0.0.1:0"


@pytest.fixture(params=["inproc", "shm", "tcp", "tls", "ws", "wss", "tls by Python", "wss by Python"])
def link(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    service, (scheme, _, by_python) = ToyService(), request.param.partition(" ")
    if by_python:
        monkeypatch.setattr(tls, "openssl", lambda: None)
    if scheme == "inproc":
        yield Link("inproc", service, lambda **options: connect("inproc://", service=service, **options))
        return
    if scheme in ENCRYPTED:
        join(f"{scheme}://127.0.0.1:0")  # makes the certificate
    with serving(address(scheme, tmp_path), service) as processor:
        if scheme in ENCRYPTED:
            join(processor.urls[0])
        yield Link(scheme, service, lambda **options: connect(processor.urls[0], **options))


@pytest.fixture
def connection(link: Link) -> Iterator[Asker]:
    connection = link.connect()
    yield connection
    connection.close()


def doubled(connection: Asker, ids: list[int]) -> bool:
    count = len(ids)
    connection.rows["ids"][:count, 0] = ids
    connection.call(0, count, SOON)
    return bool((connection.rows["carry"][:count] == 2 * np.array(ids)[:, None]).all())


def test_a_connection_knows_the_model_the_segments_and_the_peer(connection: Asker) -> None:
    assert connection.manifest == MANIFEST
    assert connection.held == {0, 1}
    assert connection.peer.startswith("weight processor ")


def test_a_call_returns_the_planes_and_the_time_the_other_side_worked(connection: Asker) -> None:
    connection.rows["ids"][:2, 0] = [3, 4]
    assert connection.call(0, 2, SOON) == WORKED
    assert connection.rows["carry"][:2, [0, 1023]].tolist() == [[6, 6], [8, 8]]
    assert connection.call(1, 2, SOON) == WORKED
    assert connection.rows["logits"][:2, [0, 4095]].tolist() == [[6145, 6145], [8193, 8193]]


def test_calls_of_every_size_up_to_the_limit_keep_every_row(connection: Asker) -> None:
    limit = connection.rows.layout.limit(0)
    for count in (1, 2, 17, limit, 3, limit):
        assert doubled(connection, list(range(count)))


def test_rows_behind_the_call_are_not_touched(connection: Asker) -> None:
    connection.rows["carry"][5:] = 77
    assert doubled(connection, [1, 2, 3, 4, 5])
    assert (connection.rows["carry"][5:] == 77).all()


def test_more_rows_than_the_segment_takes_are_our_own_bug(connection: Asker) -> None:
    for segment, count in ((0, 257), (1, 33), (0, 0), (0, -1)):
        with pytest.raises(InternalError, match="takes 1 to"):
            connection.call(segment, count, SOON)
    assert doubled(connection, [1])


def test_a_segment_that_is_not_held_is_refused_by_name(connection: Asker) -> None:
    with pytest.raises(LinkError, match="segment 2 is not held by weight processor"):
        connection.call(2, 1, SOON)


def test_an_error_in_the_work_comes_back_as_its_own_type_and_the_link_goes_on(connection: Asker) -> None:
    for _ in range(3):
        connection.rows["ids"][0] = FAIL
        with pytest.raises(ModelError, match=r"^the toy is broken; buy another$"):
            connection.call(0, 1, SOON)
        assert doubled(connection, [7, 8])


def test_a_call_with_no_time_left_raises_deadline_passed_and_the_link_goes_on(connection: Asker) -> None:
    for deadline in (0.0, -1.0):
        with pytest.raises(DeadlinePassed, match="no time left"):
            connection.call(0, 1, Seconds(deadline))
    assert doubled(connection, [1])


def test_work_longer_than_the_deadline_raises_deadline_passed_in_time(link: Link) -> None:
    if link.scheme == "inproc":
        pytest.skip("the work is done by the thread that would have to stop it")
    connection = link.connect()
    connection.rows["ids"][0] = BLOCK
    began = time.monotonic()
    with pytest.raises(DeadlinePassed):
        connection.call(0, 1, Seconds(0.2))
    assert 0.2 <= time.monotonic() - began < 1.5
    link.service.release.set()
    connection.close()
    again = link.connect()
    assert doubled(again, [1, 2])
    again.close()


def test_questions_are_answered_between_calls(connection: Asker) -> None:
    for _ in range(3):
        assert connection.ask(Ping(), SOON) == Pong()
        assert doubled(connection, [1, 2])
    answer = connection.ask(AskTokenizer(), SOON)
    assert isinstance(answer, TokenizerReply)
    assert answer.data == b"tokens" * 50_000


def test_a_closed_connection_raises_processor_lost(connection: Asker) -> None:
    connection.close()
    connection.close()
    with pytest.raises(ProcessorLost, match="closed"):
        connection.call(0, 1, SOON)
    with pytest.raises(ProcessorLost, match="closed"):
        connection.ask(Ping(), SOON)


def test_another_model_than_the_one_wanted_is_refused_naming_both(link: Link) -> None:
    wanted = "feedfacecafebeef" * 4
    with pytest.raises(Refused, match=f"wants {wanted[:16]}.*holds {DIGEST[:16]}"):
        link.connect(digest=wanted)
    link.connect(digest=DIGEST).close()


def test_connections_do_not_see_each_others_rows(link: Link) -> None:
    first, second = link.connect(), link.connect()
    assert doubled(first, [1, 2])
    assert doubled(second, [30, 40])
    assert first.rows["carry"][:2, 0].tolist() == [2, 4]
    first.close()
    second.close()


def descriptors_once(expected: int | None = None) -> int:
    """Open files of this process, as soon as they are as many as expected, or after five seconds."""
    end = time.monotonic() + 5
    while (count := len(os.listdir("/proc/self/fd"))) != expected and expected is not None and time.monotonic() < end:
        os.sched_yield()
    return count


def test_a_closed_link_leaves_no_descriptor(link: Link) -> None:
    before = descriptors_once()
    for _ in range(3):
        connection = link.connect()
        doubled(connection, [1])
        connection.close()
    del connection
    assert descriptors_once(before) == before


def test_after_any_error_the_rows_are_as_they_were(link: Link) -> None:
    connection = link.connect()
    connection.rows["carry"][:] = 5
    connection.rows["ids"][0] = FAIL
    with pytest.raises(ModelError):
        connection.call(0, 1, SOON)
    assert (connection.rows["carry"] == 5).all()
    connection.close()


@pytest.mark.parametrize("scheme", ["shm", "tcp", "ws"])
class TestBetweenProcesses:
    """What only a link between two processes can show."""

    def test_a_processor_that_dies_in_a_call_is_lost_at_once_and_by_name(self, scheme: str, tmp_path: Path) -> None:
        with SpawnedWeights([sys.executable, toy_processor.__file__, address(scheme, tmp_path)]) as child:
            connection = connect(child.url)
            assert doubled(connection, [5, 6])
            connection.rows["ids"][0] = DIE
            began = time.monotonic()
            with pytest.raises(ProcessorLost, match=rf"weight processor {child.pid} at {child.url} went away"):
                connection.call(0, 1, Seconds(60.0))
            assert time.monotonic() - began < 1.0
            with pytest.raises(ProcessorLost):
                connection.call(0, 1, SOON)
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # its listening socket closes last
            with pytest.raises(Unreachable, match="nobody answers at"):
                connect(child.url)

    def test_a_bug_in_the_work_is_answered_and_the_link_goes_on(self, scheme: str, tmp_path: Path) -> None:
        with serving(address(scheme, tmp_path), ToyService()) as processor:
            connection = connect(processor.urls[0])
            connection.rows["ids"][0] = BUG
            with pytest.raises(InternalError, match="ZeroDivisionError: a bug of the toy"):
                connection.call(0, 1, SOON)
            assert doubled(connection, [1])
            connection.close()

    def test_a_call_that_waits_for_its_turn_waits_no_longer_than_its_deadline(
        self, scheme: str, tmp_path: Path
    ) -> None:
        service = ToyService()
        with serving(address(scheme, tmp_path), service) as processor:
            blocked, waiting = connect(processor.urls[0]), connect(processor.urls[0])
            blocked.rows["ids"][0] = BLOCK
            with pytest.raises(DeadlinePassed):
                blocked.call(0, 1, Seconds(0.05))
            assert service.entered.wait(2)
            with pytest.raises(DeadlinePassed):
                waiting.call(0, 1, Seconds(0.1))
            assert service.calls == 1
            waiting.close()

    def test_nobody_at_the_address_says_how_to_start_one(self, scheme: str, tmp_path: Path) -> None:
        url = f"shm://{tmp_path}/nobody" if scheme == "shm" else f"{scheme}://127.0.0.1:1"
        with pytest.raises(Unreachable, match=f"nobody answers at {url} .*start one with: twofold weights"):
            connect(url)


@pytest.mark.parametrize("url", ["inproc://", "quic://x", "tcp:/x", ""])
def test_an_address_of_no_known_kind_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"shm://NAME"):
        connect(url)
