"""The comparison's plumbing: drivers are asked in turn, frozen between, understood or refused."""

import argparse
import os
import signal
import sys
from pathlib import Path

import compare
import pytest
from compare import Taken, Work, row_of, turn
from ratios import BEST, LIMIT, QUIET
from systems import System, parsed, seconds_to_first_output

from twofold.errors import ConfigurationError, LinkError, ProcessorLost

PEERS = Path(compare.__file__).parent / "peers"
TOY = f"""
import sys; sys.path.insert(0, {str(PEERS)!r})
from protocol import answers, serve
say = answers()
print("noise of a library")
serve(say, {{"system": sys.argv[1]}}, {{"decode": lambda streams: {{
    "tokens_per_second": 7.0 * streams, "share_of_limit": 0.5, "limit": "read bandwidth",
    "read_bytes_per_second": 3.0}}}})
"""


def toy(name: str) -> System:
    return System((sys.executable, "-c", TOY, name))


def test_a_turn_asks_every_system_and_keeps_our_share_and_the_limits_beside_it() -> None:
    taken, work = Taken("tokens_per_second"), Work("decode 2", "decode", {"streams": 2})
    with toy("twofold") as ours, toy("peer") as peer:
        turn(work, [ours, peer], taken)
    assert taken.rounds == [{"twofold": 14.0, "peer": 14.0}]
    assert (taken.shares, taken.limit, taken.beside) == ([0.5], "read bandwidth", [{"read_bytes_per_second": 3.0}])


def test_a_system_is_stopped_unless_it_is_asked_and_gone_afterwards() -> None:
    with toy("peer") as peer:
        process = peer._process.pid
        for _ in range(2):
            stopped = os.waitid(os.P_PID, process, os.WSTOPPED)
            assert stopped
            assert stopped.si_status == signal.SIGSTOP
            assert peer.ask("decode", streams=1)["tokens_per_second"] == 7.0
    assert not Path(f"/proc/{process}").exists()


def test_a_driver_that_ends_or_says_something_else_is_named_with_its_command() -> None:
    with pytest.raises(ProcessorLost, match=r"ended without an answer; see why with: .* exit"):
        System((sys.executable, "-c", "exit(3)")).__enter__()
    with pytest.raises(LinkError, match="said 'hello' instead of JSON; try it alone: python x"):
        parsed("hello\n", ("python", "x"))
    with pytest.raises(LinkError, match="instead of JSON"):
        parsed("[1]\n", ("python", "x"))


def test_a_start_takes_time_and_one_that_says_nothing_is_refused() -> None:
    assert seconds_to_first_output((sys.executable, "-c", "print('x')"), {}) > 0
    with pytest.raises(ProcessorLost, match="without printing a token"):
        seconds_to_first_output((sys.executable, "-c", "pass"), {})


def test_a_disturbed_row_is_held_against_our_own_quiet_rate_of_the_same_round() -> None:
    quiet = Taken("tokens_per_second", [{"twofold": 100.0}, {"twofold": 200.0}])
    busy = Taken("tokens_per_second", [{"twofold": 50.0, "a": 10.0}, {"twofold": 50.0, "a": 25.0}], [0.2, 0.4])
    row = row_of("busy neighbour", {"decode 1": quiet, "busy neighbour": busy})
    assert row[QUIET] == {"minimum": 0.25, "median": 0.375, "maximum": 0.5}
    assert row[LIMIT]["maximum"] == 0.4
    assert row[BEST]["minimum"] == 2.0


def test_the_quicker_start_wins() -> None:
    assert (
        row_of("start", {"start": Taken("seconds", [{"twofold": 1.0, "llama.cpp": 2.0}])})["llama.cpp"]["median"] == 0.5
    )


def test_half_a_peer_is_refused() -> None:
    asked = argparse.Namespace(
        llama_python=None, openvino_python="p", openvino_model=None, vllm_python=None, vllm_model=None
    )
    with pytest.raises(ConfigurationError, match="--openvino-python and --openvino-model belong together"):
        compare.peers(asked, Path("m"))
    asked.openvino_model, asked.llama_python = "d", "l"
    assert [peer.model for peer in compare.peers(asked, Path("m"))] == ["m", "d"]


def test_the_first_round_of_starts_only_warms(tmp_path: Path) -> None:
    counted = tmp_path / "starts"
    say = f"open({str(counted)!r}, 'a').write('x'); print('token')"
    taken = Taken("seconds")
    for _ in range(3):
        compare.start_turn({"twofold": (sys.executable, "-c", say)}, taken)
    assert len(taken.rounds) == 3
    assert counted.read_text() == "x" * 4
