"""Failover: a call that fails at one replica is answered by another with the same bits; with nobody left it waits."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from toy_processor import MANIFEST
from toy_replicas import LONG, Fleet, ToyReplica, until

from twofold.engine.attach import Attachments
from twofold.engine.caller import Caller
from twofold.errors import (
    DeadlinePassed,
    FrameError,
    InternalError,
    ModelError,
    ProcessorLost,
    TwofoldError,
    Unreachable,
)
from twofold.memory.map import Entry, State
from twofold.units import Seconds


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(a=ToyReplica(), b=ToyReplica())


@pytest.fixture
def attachments(fleet: Fleet) -> Iterator[Attachments]:
    with fleet.attached() as attachments:
        until(attachments, lambda map_: all(replica.state is State.UP for replica in map_.replicas))
        yield attachments


def caller(attachments: Attachments, *, wait: float = LONG, deadline: float = LONG) -> Caller:
    made = Caller(attachments, wait=Seconds(wait), deadline=Seconds(deadline))
    made.rows["ids"][:2, 0] = (21, -3)
    return made


def call(made: Caller, segment: int) -> None:
    made.begin(segment, 2)
    made.finish()


def right(made: Caller) -> bool:
    """Whether both segments give what they must."""
    call(made, 0)
    doubled = np.array_equal(made.rows["carry"][:2, 0], np.array([42, -6], np.float32))
    call(made, 1)
    return doubled and made.rows["logits"][0, 0] == 42 * MANIFEST.cuts[0].gives[0].width


@pytest.mark.parametrize("kind", [ProcessorLost, FrameError, DeadlinePassed])
def test_a_call_that_fails_is_answered_by_another_replica(
    fleet: Fleet, attachments: Attachments, kind: type[TwofoldError]
) -> None:
    made = caller(attachments)
    fleet["a"].faults.append(lambda: kind("broken"))
    assert right(made)
    assert (made.spent.failovers, made.spent.calls) == (1, 2)
    assert 0 in fleet["b"].calls
    assert len({lent for attachment in attachments._attached.values() for lent in attachment._lent}) == len(made._own)


def test_a_call_whose_replica_is_killed_in_flight_is_answered_by_another(
    fleet: Fleet, attachments: Attachments
) -> None:
    made = caller(attachments)
    fleet["a"].stopped.set()
    attachments.usual.add(0, 2, 10.0)  # so that patience does not end first
    made.begin(0, 2)
    fleet["a"].kill()
    made.finish()
    assert fleet["b"].calls == [0]
    assert made.rows["carry"][0, 0] == 42


def test_a_stopped_replica_costs_the_least_patience_once(fleet: Fleet, attachments: Attachments) -> None:
    made = caller(attachments)
    for _ in range(10):
        assert right(made)
    preferred = attachments.map.choose(0, attachments.burden, frozenset())  # a hiccup of the machine may make it b
    assert preferred is not None
    fleet[preferred].stopped.set()
    start = time.monotonic()
    assert right(made)
    first = time.monotonic() - start
    start = time.monotonic()
    assert all(right(made) for _ in range(10))
    rest = time.monotonic() - start
    assert 0.05 <= first < 0.25
    assert rest < 0.05
    assert made.spent.failovers == 1


def test_what_a_replica_answers_about_the_call_itself_is_raised_and_the_lane_goes_on(
    fleet: Fleet, attachments: Attachments
) -> None:
    made = caller(attachments)
    fleet["a"].faults.append(lambda: ModelError("the toy is broken"))
    with pytest.raises(ModelError):
        call(made, 0)
    assert right(made)
    assert (made.spent.failovers, fleet["b"].calls) == (0, [])
    assert not any(attachment.in_flight for attachment in attachments._attached.values())


def test_rows_of_segments_held_elsewhere_go_there() -> None:
    fleet = Fleet(low=ToyReplica(0), high=ToyReplica(1))
    with fleet.attached() as attachments:
        assert right(caller(attachments))
    assert (fleet["low"].calls, fleet["high"].calls) == ([0], [1])


def test_with_nobody_left_a_call_waits_for_one_to_come_back() -> None:
    fleet = Fleet(a=ToyReplica())
    with fleet.attached() as attachments:
        made = caller(attachments)
        assert right(made)
        fleet["a"].kill()

        def restart() -> None:
            until(attachments, lambda map_: map_["a"].state is State.DOWN)
            fleet["a"].restart()

        back = threading.Thread(target=restart)
        back.start()
        assert right(made)
        back.join()
        assert fleet["a"].calls == [0, 1, 0, 1]


def test_with_nobody_left_a_call_ends_in_time_and_says_who_was_tried(fleet: Fleet, attachments: Attachments) -> None:
    made = caller(attachments, wait=0.2)
    assert right(made)
    before = made.rows["carry"].copy()
    for url in ("a", "b"):
        fleet[url].kill()
    start = time.monotonic()
    with pytest.raises(Unreachable, match=r"segment 1 of toy was not answered within 0.2 s: .*processor 1 at a went"):
        call(made, 1)
    assert time.monotonic() - start < 1
    assert np.array_equal(made.rows["carry"], before)
    for url in ("a", "b"):
        fleet[url].restart()
    until(attachments, lambda map_: map_["a"].state is State.UP)
    assert right(made)


def test_a_replica_whose_every_call_fails_is_not_called_without_pause() -> None:
    fleet = Fleet(a=ToyReplica())
    with fleet.attached() as attachments:
        fleet["a"].faults += [lambda: FrameError("damaged")] * 1000
        with pytest.raises(Unreachable, match="damaged"):
            call(caller(attachments, wait=0.3), 0)
        assert 985 < len(fleet["a"].faults) < 999


def test_a_single_damaged_answer_of_the_only_replica_is_asked_for_again() -> None:
    fleet = Fleet(a=ToyReplica())
    with fleet.attached() as attachments:
        fleet["a"].faults.append(lambda: FrameError("damaged"))
        assert right(caller(attachments))


def test_the_only_replica_has_the_whole_deadline() -> None:
    fleet = Fleet(a=ToyReplica())
    with fleet.attached() as attachments:
        made = caller(attachments, wait=0, deadline=0.3)
        assert right(made)
        fleet["a"].stopped.set()
        start = time.monotonic()
        with pytest.raises(Unreachable, match="in time"):
            call(made, 0)
        assert 0.3 <= time.monotonic() - start < 1


def test_a_draining_replica_is_left_between_two_calls(fleet: Fleet, attachments: Attachments) -> None:
    made = caller(attachments)
    assert right(made)
    attachments.list([Entry("a", drain=True), Entry("b")])
    assert right(made)
    assert (fleet["a"].calls, fleet["b"].calls) == ([0, 1], [0, 1])
    assert made.spent.failovers == 0


def test_a_replica_taken_off_the_list_with_a_call_in_flight_loses_nothing(
    fleet: Fleet, attachments: Attachments
) -> None:
    made = caller(attachments)
    fleet["a"].stopped.set()
    attachments.usual.add(0, 2, 10.0)
    made.begin(0, 2)
    attachments.list([Entry("b")])
    made.finish()
    assert made.rows["carry"][0, 0] == 42
    assert fleet["b"].calls == [0]
    assert right(made)
    assert list(made._own) == ["b"]
    assert fleet["a"].open == 0


def test_lanes_at_once_share_the_replicas(fleet: Fleet, attachments: Attachments) -> None:
    one, two = caller(attachments), caller(attachments)
    one.begin(0, 2)
    two.begin(0, 2)
    one.finish()
    two.finish()
    assert (fleet["a"].calls, fleet["b"].calls) == ([0], [0])


def test_a_lane_makes_one_call_at_a_time(attachments: Attachments) -> None:
    made = caller(attachments)
    with pytest.raises(InternalError):
        made.finish()
    made.begin(0, 2)
    with pytest.raises(InternalError):
        made.begin(0, 2)
    made.finish()
    assert right(made)


def test_an_interrupted_wait_leaves_the_lane_usable(
    fleet: Fleet, attachments: Attachments, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = caller(attachments)
    assert right(made)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("toy_replicas.ToyConnection.finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            call(made, 0)
    assert right(made)
    assert made.spent.failovers == 0
    made.close()
    assert not any(attachment._lent for attachment in attachments._attached.values())
