"""Attacks in short: what `bench/attack.py` does with a million cases, with a thousand."""

import json
from pathlib import Path

import attack
import pytest
from fabric.judge import count
from fabric.load import Load
from fabric.processors import Child, Processor
from fabric.streams import expected
from fabric.vitals import look

from twofold.units import MIB

AMOUNTS = {"fuzz": 1000, "loris": 1, "crowd": 1, "half": 1, "unread": 1, "wrong": 1}
MORE_BYTES = 64 * MIB


@pytest.mark.parametrize("kind", AMOUNTS)
def test_an_attack_leaves_the_processor_and_its_good_client_whole(tiny: Path, kind: str) -> None:
    tokens = expected(str(tiny), attack.TOKENS)
    with Processor(str(tiny), "tcp://127.0.0.1:0") as processor:
        processor.start()
        processor.ready()
        with Load(processor.url, streams=1, tokens=attack.TOKENS) as load:
            load.begin()
            before = look(processor.process.pid)
            words = ["-m", "fabric.assault", kind, processor.place, "1", str(AMOUNTS[kind]), "100"]
            with Child(words) as attacker:
                attacker.start()
                did, _ = attacker.process.communicate(timeout=60)
                assert attacker.process.returncode == 0, attacker.last_words()
            load.finish()
        counts = count(load.told, tokens)
        after = look(processor.process.pid)
        assert processor.running, processor.last_words()
    assert sum(json.loads(did).values()) > 0
    assert json.loads(did).get("unended", 0) == 0
    assert (counts.wrong, counts.lost, counts.hung) == (0, 0, 0)
    assert before
    assert after
    assert after.resident_bytes - before.resident_bytes < MORE_BYTES
