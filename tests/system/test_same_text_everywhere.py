"""One prompt, one answer, to the bit: wherever the weights are and however they are computed."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from command import twofold

SAMPLINGS = {
    "greedy": ("--temperature", "0"),
    "seeded": ("--temperature", "0.9", "--top-p", "0.95", "--top-k", "40", "--min-p", "0.01", "--seed", "7"),
}


@cache
def answer(*arguments: str, level: str = "") -> dict[str, Any]:
    """What `twofold run ARGUMENTS --json` answers, of which equal parts must be equal everywhere."""
    finished = twofold("run", *arguments, "--json", environment={"TWOFOLD_VECTOR_LEVEL": level} if level else None)
    assert finished.code == 0, finished.errors
    found: dict[str, Any] = finished.json
    return {name: found[name] for name in ("text", "token_ids", "logits_digest", "finish_reason", "model")}


@pytest.fixture(params=list(SAMPLINGS))
def request_(request: pytest.FixtureRequest, tiny: Path) -> tuple[str, ...]:
    """The arguments of one request, but for where the weights are."""
    return (str(tiny), "hello, the world", "--max-tokens", "48", *SAMPLINGS[request.param])


@pytest.mark.parametrize("where", ["split", "tcp", "shm"])
def test_an_answer_is_the_same_wherever_the_weights_are(
    where: str, request_: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    there = ("--split",) if where == "split" else ("--weights", request.getfixturevalue(where))
    assert answer(*request_, *there) == answer(*request_)


def test_an_answer_is_the_same_with_one_thread_and_with_two(request_: tuple[str, ...]) -> None:
    assert answer(*request_, "--threads", "1") == answer(*request_, "--threads", "2")


def test_an_answer_is_the_same_at_every_vector_level(tiny: Path) -> None:
    request = (str(tiny), "hello, the world", "--max-tokens", "32")
    levels = twofold("doctor", "--json").json["vector_levels"]
    assert "portable" in levels
    assert [answer(*request, level=level) for level in levels] == [answer(*request)] * len(levels)


def test_another_seed_gives_another_text_and_the_same_seed_the_same(tiny: Path) -> None:
    request = (str(tiny), "hello", "--max-tokens", "32", "--temperature", "1.0", "--seed")
    assert answer(*request, "1") == answer(*request, "1", "--threads", "1")
    assert answer(*request, "1")["token_ids"] != answer(*request, "2")["token_ids"]


def test_text_given_through_a_pipe_is_answered_as_text_given_as_an_argument(tiny: Path) -> None:
    piped = twofold("run", tiny, "--json", "--max-tokens", "8", stdin="hé中 🙂\n".encode())
    assert piped.json["token_ids"] == answer(str(tiny), "hé中 🙂\n", "--max-tokens", "8")["token_ids"]


def test_a_weight_processor_is_used_without_naming_its_model(tcp: str, tiny: Path) -> None:
    assert answer("--weights", tcp, "hello there", "--max-tokens", "8") == answer(
        str(tiny), "hello there", "--max-tokens", "8"
    )
