"""`ping` and `top`, and the metrics of a weight processor, as their users meet them."""

import os
import pty
from pathlib import Path
from urllib.request import urlopen

import pytest
from command import refused, start, twofold
from prometheus_client.parser import text_string_to_metric_families

CONFIGURATION_ERROR, LINK_ERROR = 2, 4


@pytest.mark.parametrize("scheme", ["tcp", "shm"])
def test_ping_predicts_from_what_it_measures(scheme: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(scheme)
    told = twofold("ping", url, "--count", "5", "--json").json
    link = told["measured"]["link"]
    for step in told["steps"]:
        rates = ((step["up"], link["up_bytes_per_second"]), (step["down"], link["down_bytes_per_second"]))
        seconds = step["trips"] * link["latency_seconds"] + sum(count / rate for count, rate in rates if rate)
        assert step["seconds"] == pytest.approx(seconds)
    said = twofold("ping", url, "--count", "5").text
    assert "round trips ×" in said
    assert "before any computing" in said


def test_ping_predicts_for_a_model_that_is_held_nowhere(tcp: str, smollm2_path: Path) -> None:
    told = twofold("ping", tcp, "--count", "3", "--model", str(smollm2_path), "--json").json
    assert [step["trips"] for step in told["steps"]] == [31, 31, 30]
    assert "SmolLM2".lower() in told["model"]["name"].lower()


def test_ping_of_a_processor_of_some_segments_predicts_for_the_whole_model(
    tiny: Path, tmp_path: Path, tcp: str
) -> None:
    url = f"shm://{tmp_path}/part"
    with start("weights", tiny, "--listen", url, "--segments", "1") as running:
        running.wait_output(b"\n")
        part = twofold("ping", url, "--count", "3", "--json").json["steps"]
    whole = twofold("ping", tcp, "--count", "3", "--json").json["steps"]
    assert [(step["trips"], step["up"]) for step in part] == [(step["trips"], step["up"]) for step in whole]


def test_ping_where_nobody_is_is_one_line() -> None:
    refused(twofold("ping", "tcp://127.0.0.1:1"), LINK_ERROR, "nobody answers at tcp://127.0.0.1:1")


def test_top_shows_each_processor_and_what_is_wrong_with_those_that_are_down(tcp: str, shm: str) -> None:
    lost = "tcp://127.0.0.1:1"
    looks = twofold("top", f"{tcp},{shm},{lost}", "--once", "--json").json
    assert [(look["url"], look["state"]) for look in looks] == [(tcp, "up"), (shm, "up"), (lost, "down")]
    said = twofold("top", f"{tcp},{lost}", "--once").text
    assert said.count(tcp) == 1
    assert f"nobody answers at {lost}" in said


def test_top_follows_the_list_of_a_memory_map(tcp: str, tmp_path: Path) -> None:
    file = tmp_path / "map.json"
    assert twofold("map", "add", file, tcp).code == 0
    looks = twofold("top", "--map", file, "--once", "--json").json
    assert [look["url"] for look in looks] == [tcp]


@pytest.mark.parametrize("arguments", [(), ("tcp://127.0.0.1:1", "--map", "m.json")])
def test_top_needs_either_addresses_or_a_map(arguments: tuple[str, ...]) -> None:
    refused(twofold("top", *arguments), CONFIGURATION_ERROR, "give their addresses, or a memory map")


def test_top_goes_on_until_q_is_typed(tcp: str) -> None:
    ours, theirs = pty.openpty()
    with start("top", tcp, stdin=theirs, stdout=theirs, environment={"TERM": "xterm"}) as running:
        os.close(theirs)
        seen = b""
        while seen.count(b"up") < 2:  # drawn, and drawn anew
            seen += os.read(ours, 65536)
        os.write(ours, b"q")
        assert running.finish().code == 0
    os.close(ours)


def test_metrics_count_what_was_asked(tiny: Path, tmp_path: Path) -> None:
    url = f"shm://{tmp_path}/s"
    with start("weights", tiny, "--listen", url, "--metrics", "127.0.0.1:0") as running:
        running.wait_output(b"\n")
        running.wait_errors("/metrics\n")
        place = running.errors().partition("Metrics: ")[2].split()[0]
        before, _ = figures(place), twofold("run", "--weights", url, "--max-tokens", "4", "hello")
        after = figures(place)
    assert before["twofold_weight_calls_total"] == 0
    assert after["twofold_weight_calls_total"] > 4
    assert after["twofold_weight_rows_total"] == after["twofold_weight_batch_rows_sum"]


def figures(place: str) -> dict[str, float]:
    with urlopen(place, timeout=5) as response:
        families = text_string_to_metric_families(response.read().decode())
        return {sample.name: sample.value for family in families for sample in family.samples}


def test_metrics_that_other_hosts_could_read_are_refused(tiny: Path, tmp_path: Path) -> None:
    finished = twofold("weights", tiny, "--listen", f"shm://{tmp_path}/s", "--metrics", "0.0.0.0:0")
    refused(finished, CONFIGURATION_ERROR, "could be read from other hosts")
    assert not list(tmp_path.iterdir())
