"""Attacks in short: what `bench/attack.py` does with a million cases, with a thousand."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import attack
import pytest
from fabric import keyring
from fabric.judge import count
from fabric.load import Load
from fabric.processors import Child, Processor
from fabric.streams import expected
from fabric.vitals import look

from twofold.units import MIB

AMOUNTS = {
    "flood": 1000,
    "fuzz": 1,
    "loris": 1,
    "crowd": 1,
    "half": 1,
    "unread": 1,
    "wrong": 1,
    "tokens": 1,
    "foreign": 1,
}
MORE_BYTES = 64 * MIB


@pytest.fixture
def processor(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Processor]:
    monkeypatch.setattr(os, "environ", os.environ)  # what `besieged` sets is undone
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with attack.besieged(str(tiny), tmp_path) as besieged:
        yield besieged


def assault(processor: Processor, folder: Path, kind: str) -> dict[str, int]:
    """What an attacker did, by its own account."""
    words = ["-m", "fabric.assault", kind, ",".join(processor.urls), "1", str(AMOUNTS[kind]), "100"]
    with Child(words, environment=keyring.environment(folder, keyring.ATTACKER)) as attacker:
        attacker.start()
        did, _ = attacker.process.communicate(timeout=60)
        assert attacker.process.returncode == 0, attacker.last_words()
    counts: dict[str, int] = json.loads(did)
    return counts


@pytest.mark.parametrize("kind", AMOUNTS)
def test_an_attack_leaves_the_processor_and_its_good_client_whole(
    processor: Processor, tiny: Path, tmp_path: Path, kind: str
) -> None:
    tokens = expected(str(tiny), attack.TOKENS)
    with Load(processor.url, streams=1, tokens=attack.TOKENS) as load:
        load.begin()
        before = look(processor.process.pid)
        did = assault(processor, tmp_path, kind)
        load.finish()
    counts = count(load.told, tokens)
    after = look(processor.process.pid)
    assert processor.running, processor.last_words()
    assert sum(did.values()) > 0
    assert did.get("unended", 0) == 0
    assert (counts.wrong, counts.lost, counts.hung) == (0, 0, 0)
    assert before
    assert after
    assert after.resident_bytes - before.resident_bytes < MORE_BYTES


def test_nobody_comes_in_with_a_bad_token_or_a_replayed_handshake(processor: Processor, tmp_path: Path) -> None:
    did = assault(processor, tmp_path, "tokens")
    assert did.pop("let in") == 0
    tried = {*keyring.BAD, "none", "slow clock", "fast clock", "guessed", "replayed"}
    assert set(did) == {*(f"{name}: Refused" for name in tried), "replayed at once: FrameError"}
