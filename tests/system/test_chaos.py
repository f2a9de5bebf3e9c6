"""Chaos in short: what `bench/chaos.py` does for ten minutes, on a tiny model for seconds."""

from collections.abc import Sequence
from pathlib import Path

import chaos
import pytest
from fabric.plan import LOOPBACK
from fabric.stages import Stage, loopback, shares
from fabric.streams import expected

STREAMS, SECONDS = 2, 8.0


@pytest.fixture
def tokens(tiny: Path) -> list[list[int]]:
    return expected(str(tiny), chaos.TOKENS)


def run(stage: Stage, tokens: list[list[int]], kinds: Sequence[str]) -> dict[str, dict[str, bool]]:
    """The promises, after so much chaos of some kinds."""
    result = chaos.chaos(stage._replace(kinds=kinds), tokens, seconds=SECONDS, streams=STREAMS, seed=1)
    assert {event[1] for event in result["events"]} <= set(kinds)
    assert result["events"], "nothing happened"
    assert result["counts"]["tokens"] > 0
    promises: dict[str, dict[str, bool]] = result["promises"]
    return promises


def test_what_makes_a_replica_late_costs_no_token(tiny: Path, tokens: list[list[int]]) -> None:
    with loopback(str(tiny), 4, count=1, replicas=1, seed=1) as stage:
        promises = run(stage, tokens, ("stop", "hold", "slow"))
    assert all(promise["kept"] for promise in promises.values())


def test_a_wrong_token_is_noticed(tiny: Path, tokens: list[list[int]]) -> None:
    with loopback(str(tiny), 4, count=1, replicas=1, seed=1) as stage:
        promises = run(stage, [[-1, *of_prompt[1:]] for of_prompt in tokens], ("slow",))
    assert not promises["wrong tokens"]["kept"]


def test_two_replicas_of_each_half_lose_nothing_whatever_fails(tiny: Path, tokens: list[list[int]]) -> None:
    with loopback(str(tiny), 4, seed=1) as stage:
        result = chaos.chaos(stage, tokens, seconds=20.0, streams=STREAMS, seed=1)
    counts = result["counts"]
    assert len({event[1] for event in result["events"]}) >= 3
    assert counts["requests"] > STREAMS
    assert (counts["wrong"], counts["lost"], counts["hung"], counts["errors"]) == (0, 0, 0, [])


def test_the_shares_of_a_model_cover_it_once() -> None:
    assert shares(32, 2) == ["0-15", "16-31"]
    assert shares(4, 3) == ["0-0", "1-1", "2-3"]
    assert set(LOOPBACK) >= {"kill", "stop", "hold", "corrupt", "duplicate", "slow"}
