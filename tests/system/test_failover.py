"""Replicas come and go under a running generation of the real model, and not one bit of it changes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Running, twofold
from replicas import Answer, Fabric, answer, attached, fabric, generation

from twofold.errors import Unreachable
from twofold.memory import map_file
from twofold.memory.map import State

TOKENS = 160
HALVES = {"low-a": "0-15", "low-b": "0-15", "high-a": "16-31", "high-b": "16-31"}
PAUSE_SECONDS = 1.0  # 0.1 at a drained replica and 0.25 at a lost one on an idle machine; here others may be at work


@pytest.fixture(scope="module")
def in_process(smollm2_path: Path) -> Answer:
    with attached(model=smollm2_path) as ready:
        return answer(ready, TOKENS)[0]


@pytest.fixture
def halves(smollm2_path: Path, tmp_path: Path) -> Iterator[Fabric]:
    with fabric(smollm2_path, tmp_path, HALVES) as made:
        yield made


def test_a_killed_or_stopped_replica_of_each_half_changes_no_bit(halves: Fabric, in_process: Answer) -> None:
    stopped: list[Running] = []

    def stop() -> None:
        stopped.append(halves.used(ready, 16))
        stopped[0].send(signal.SIGSTOP)

    with attached(weights=halves.url(*HALVES)) as ready:
        events = [
            (40, lambda: halves.used(ready, 0).send(signal.SIGKILL)),
            (80, stop),
            (120, lambda: stopped[0].send(signal.SIGCONT)),
        ]
        found, pauses = answer(ready, TOKENS, events)
        assert ready.engine.weights.spent.failovers >= 2
    assert found == in_process
    assert max(pauses) < PAUSE_SECONDS


def test_moving_to_another_replica_and_ending_the_old_one_loses_and_pauses_nothing(
    halves: Fabric, in_process: Answer, tmp_path: Path
) -> None:
    path = tmp_path / "map.json"
    for name in ("low-a", "high-a"):
        map_file.edit(path, lambda old, name=name: old.added(halves.url(name), None), make=True)
    with attached(map_file=path) as ready:
        attachments = ready.engine.weights.attachments

        def move() -> None:
            map_file.edit(path, lambda old: old.moved(halves.url("low-a"), halves.url("low-b")))
            while (seen := attachments.map).choose(0, attachments.burden) != halves.url("low-b"):
                attachments.wait_change(seen, 20.0)  # type: ignore[arg-type]

        leave = lambda: halves.running["low-a"].send(signal.SIGTERM)  # noqa: E731
        first, _ = answer(ready, TOKENS, [(30, move)])
        found, pauses = answer(ready, TOKENS, [(20, leave)])
        halves.running["low-a"].finish()
        again, _ = answer(ready, TOKENS)
    assert first == found == again == in_process
    assert max(pauses) < PAUSE_SECONDS


def test_a_request_waits_for_the_only_replica_to_come_back(halves: Fabric, in_process: Answer) -> None:
    with attached(weights=halves.url("low-a", "high-b")) as ready:
        found, _ = answer(ready, TOKENS, [(50, lambda: halves.start("low-a", HALVES["low-a"]))])
    assert found == in_process


def test_a_request_that_ended_without_replicas_leaves_a_session_that_goes_on_with_the_same_bits(
    halves: Fabric, in_process: Answer
) -> None:
    with attached(weights=halves.url("low-a", "high-a"), wait=0) as ready:
        made, prompt = generation(ready, TOKENS)
        pieces = made.run(prompt)
        while len(made.token_ids) < 50:
            next(pieces)
        halves.running["high-a"].send(signal.SIGKILL)
        with pytest.raises(Unreachable, match="segment 16 of"):
            list(pieces)
        halves.start("high-a", HALVES["high-a"]).wait_output(b"\n")
        attachments = ready.engine.weights.attachments
        while (seen := attachments.map)[halves.url("high-a")].state is not State.UP:
            attachments.wait_change(seen, 20.0)  # type: ignore[arg-type]
        rest, _ = generation(ready, TOKENS - len(made.token_ids))
        rest.session = made.session
        list(rest.run(made.token_ids[len(made.session.tokens) - len(prompt) :]))
    assert [*made.token_ids, *rest.token_ids] == in_process[0]


def test_a_share_takes_a_share_of_the_memory(halves: Fabric, smollm2_path: Path, tmp_path: Path) -> None:
    with (
        fabric(smollm2_path, tmp_path, {"few": "3,5-7"}) as one,
        fabric(smollm2_path, tmp_path, {"all": "0-31"}) as all_,
    ):
        few, whole = (resident_bytes(made.running[name].pid) for made, name in ((one, "few"), (all_, "all")))
        half = resident_bytes(halves.running["high-a"].pid)
    assert few + 35e6 < half < whole - 15e6  # 7 MB, 63 MB and 95 MB of weights; embedding and head are one tensor


def resident_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def test_the_map_is_shown_and_edited_on_the_command_line(halves: Fabric, tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    assert twofold("map", "add", path, halves.url("low-a")).code == 0
    assert twofold("map", "show", path, "--json").json["missing"] == list(range(16, 31))
    twofold("map", "add", path, halves.url("high-a"), "--segments", "16-30")
    assert twofold("map", "move", path, halves.url("low-a"), halves.url("low-b")).code == 0
    assert twofold("map", "drain", halves.url("high-a")).code == 0
    shown = twofold("map", "show", path, "--json").json
    assert [replica["state"] for replica in shown["replicas"]] == ["draining", "draining", "up"]
    assert shown["replicas"][1]["segments"] == list(range(16, 31))
    assert shown["missing"] == []
    assert shown["version"] == 4
    assert "every segment is held" in twofold("map", "show", path).text
    assert twofold("map", "remove", path, halves.url("low-a")).code == 0
    removed = twofold("map", "remove", path, halves.url("low-a"))
    assert removed.code == 2
    assert "is not in the memory map" in removed.complaint


BAD = {
    "segments of another model": ("weights", "MODEL", "--segments", "0-32", "--listen", "tcp://127.0.0.1:0"),
    "no segments": ("weights", "MODEL", "--segments", "x", "--listen", "tcp://127.0.0.1:0"),
    "two places": ("run", "hello", "--weights", "tcp://127.0.0.1:1", "--map", "x"),
    "no file": ("run", "hello there", "--map", "/nowhere/map.json"),
    "no replica named": ("map", "drain", "map.json"),
    "the same twice": ("run", "hello there", "--weights", "tcp://127.0.0.1:1,tcp://127.0.0.1:1"),
}


@pytest.mark.parametrize("arguments", BAD.values(), ids=BAD)
def test_what_cannot_be_is_refused_in_one_line(arguments: tuple[str, ...], smollm2_path: Path) -> None:
    finished = twofold(*(str(smollm2_path) if argument == "MODEL" else argument for argument in arguments))
    assert finished.code == 2
    assert finished.complaint
