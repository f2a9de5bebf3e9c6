"""Attachments: replicas are greeted, watched and left, and the map says what is true of them."""

import errno
import itertools
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_processor import MANIFEST
from toy_replicas import Fleet, ToyConnection, ToyReplica, until

from twofold.engine.attach import Attachments
from twofold.engine.attachment import FIRST_PAUSE, LONGEST_PAUSE, pause
from twofold.errors import ConfigurationError, Unreachable
from twofold.memory import map_file
from twofold.memory.map import Entry, State
from twofold.units import Seconds


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_pauses_between_attempts_grow_to_a_limit_and_are_spread(attempt: int, chance: float) -> None:
    assert FIRST_PAUSE / 2 <= pause(attempt, chance) <= LONGEST_PAUSE
    assert pause(attempt, 0.0) <= pause(attempt, chance) <= pause(attempt, 1.0) == 2 * pause(attempt, 0.0)
    assert pause(attempt, chance) <= pause(attempt + 1, chance)


def test_entering_waits_only_until_every_segment_can_be_called() -> None:
    fleet = Fleet(low=ToyReplica(0), high=ToyReplica(1))
    with fleet.attached("low", "high", "nobody") as attachments:
        assert attachments.map.missing == ()
        assert attachments.manifest is MANIFEST
        assert until(attachments, lambda map_: map_["nobody"].state is State.DOWN)["nobody"].why == (
            "nobody answers at nobody"
        )


def test_a_model_that_is_not_covered_is_refused_with_what_is_wrong() -> None:
    with (
        pytest.raises(ConfigurationError, match=r"segments 1 of toy \(nobody: nobody answers at nobody\)"),
        Fleet(low=ToyReplica(0)).attached("low", "nobody"),
    ):
        pass
    with pytest.raises(Unreachable, match="nobody answers at x"), Fleet().attached("x", "y"):
        pass
    with pytest.raises(Unreachable), Attachments(Fleet().connect, []):
        pass


def test_a_replica_of_another_model_is_not_called() -> None:
    other = msgspec.structs.replace(MANIFEST, digest="f" * 64)
    fleet = Fleet(a=ToyReplica(), b=ToyReplica(manifest=other))
    with fleet.attached("a") as attachments:
        attachments.list([Entry("a"), Entry("b")])
        lost = until(attachments, lambda map_: map_["b"].state is State.DOWN)
        assert "holds model ffffffffffff" in lost["b"].why


def test_a_lost_replica_is_down_until_it_is_greeted_again() -> None:
    fleet = Fleet(a=ToyReplica(), b=ToyReplica())
    with fleet.attached() as attachments:
        until(attachments, lambda map_: all(replica.state is State.UP for replica in map_.replicas))
        fleet["a"].kill()
        attachments._attached["a"].look()
        down = until(attachments, lambda map_: map_["a"].state is State.DOWN)
        assert "went away" in down["a"].why
        assert down.choose(0, attachments.burden) == "b"
        fleet["a"].restart()
        assert until(attachments, lambda map_: map_["a"].state is State.UP)["a"].why == ""


def test_a_replica_that_does_not_answer_pings_is_down_and_its_calls_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twofold.engine.attachment.SILENCE", 0.05)
    fleet = Fleet(a=ToyReplica(), b=ToyReplica())
    with fleet.attached() as attachments:
        until(attachments, lambda map_: all(replica.state is State.UP for replica in map_.replicas))
        attachment = attachments._attached["a"]
        lent = attachment.take(Seconds(1))
        fleet["a"].stopped.set()
        attachment.look()
        until(attachments, lambda map_: map_["a"].state is State.DOWN)
        assert lent.connection in [connection for connection in fleet["a"].connections if connection.wake.is_set()]
        assert not lent.current
        fleet["a"].stopped.clear()
        until(attachments, lambda map_: map_["a"].state is State.UP)


def test_rows_are_laid_out_for_the_smallest_calls_that_a_replica_takes_at_the_start() -> None:
    fleet = Fleet(
        low=ToyReplica(0, rows=100), high=ToyReplica(1, rows=50), large=ToyReplica(), small=ToyReplica(rows=49)
    )
    with fleet.attached("low", "high") as attachments:
        assert attachments.layout.rows == 50
        attachments.list([Entry(url) for url in fleet.replicas])
        until(attachments, lambda map_: map_["large"].state is State.UP)
        assert "less than the" in until(attachments, lambda map_: map_["small"].state is State.DOWN)["small"].why


def test_a_process_that_is_out_of_files_tries_again_later() -> None:
    fleet = Fleet(a=ToyReplica(), b=ToyReplica())
    full = [OSError(errno.EMFILE, "Too many open files")] * 2

    def connect(url: str, deadline: Seconds) -> ToyConnection:
        if url == "b" and full:
            raise full.pop()
        return fleet.connect(url, deadline)

    with Attachments(connect, [Entry("a"), Entry("b")]) as attachments:
        until(attachments, lambda map_: map_["b"].state is State.UP)
        assert not full


def test_a_suspected_replica_is_pinged_at_once_and_up_again_if_it_answers() -> None:
    fleet = Fleet(a=ToyReplica())
    with fleet.attached() as attachments:
        before = attachments.map
        attachments.suspect(attachments._attached["a"], Unreachable("slow"))
        seen = until(attachments, lambda map_: map_["a"].state is State.UP and map_.version > before.version)
        assert seen.version == before.version + 2


def test_a_replica_that_announces_its_end_is_draining_in_the_map() -> None:
    fleet = Fleet(a=ToyReplica(), b=ToyReplica())
    with fleet.attached() as attachments:
        until(attachments, lambda map_: all(replica.state is State.UP for replica in map_.replicas))
        fleet["a"].draining = True
        attachments._attached["a"].look()
        assert until(attachments, lambda map_: map_["a"].draining).choose(0, attachments.burden) == "b"


def test_there_is_a_spare_connection_for_every_lane() -> None:
    fleet = Fleet(a=ToyReplica())
    with fleet.attached() as attachments:
        for _ in range(3):
            attachments.enter_lane()
        pings = fleet["a"].pings
        for _ in itertools.takewhile(lambda _: fleet["a"].open < 4, range(100)):
            attachments.rest(Seconds(0.05))
        assert fleet["a"].open == 4, "three for lanes and one for pings"
        assert fleet["a"].pings > pings
    assert fleet["a"].open == 0


def test_the_list_can_be_edited_while_attached() -> None:
    fleet = Fleet(a=ToyReplica(), b=ToyReplica())
    with fleet.attached("a") as attachments:
        attachments.list([Entry("a", drain=True), Entry("b")])
        until(attachments, lambda map_: map_["b"].state is State.UP)
        assert attachments.map.choose(0, attachments.burden) == "b"
        attachments.list([Entry("b")])
        assert "a" not in attachments.map
        assert attachments.attachment("a") is None
    assert fleet["a"].open == fleet["b"].open == 0


def test_an_edited_file_is_in_force_soon_and_a_broken_one_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("twofold.engine.attach.GLANCE", 0.01)
    path = tmp_path / "map.json"
    fleet = Fleet(**{"shm://a": ToyReplica(), "shm://b": ToyReplica()})
    map_file.edit(path, lambda old: old.added("shm://a", None), make=True)
    with fleet.attached("shm://a") as attachments:
        attachments.follow(path, lambda listed: map_file.read(listed).entries())
        map_file.edit(path, lambda old: old.added("shm://b", None))
        until(attachments, lambda map_: "shm://b" in map_)
        path.write_text("{")
        while "stay as they are" not in caplog.text:
            attachments.rest(Seconds(0.01))
        assert "shm://b" in attachments.map
        path.unlink()
        map_file.edit(path, lambda old: old.added("shm://b", None), make=True)
        until(attachments, lambda map_: "shm://a" not in map_)
