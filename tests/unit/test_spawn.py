import os
import signal
import sys
from pathlib import Path

import pytest

from twofold.errors import (
    ConfigurationError,
    DeviceError,
    LinkError,
    ModelError,
    ProcessorLost,
    TwofoldError,
    Unreachable,
)
from twofold.processor.spawn import SpawnedWeights, weights_command
from twofold.units import Seconds

READY = "print('ready tcp://127.0.0.1:7', flush=True); "
UNTIL_PARENT = "sys.stdin.read()"


def child(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", "import os, signal, sys; " + code]


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_the_child_serves_inside_the_block_and_is_reaped_after_it() -> None:
    before = os.listdir("/proc/self/fd")
    with SpawnedWeights(child(READY + UNTIL_PARENT)) as weights:
        assert weights.url == "tcp://127.0.0.1:7"
        assert not is_gone(weights.pid)
        assert weights.died() is None
    assert is_gone(weights.pid)
    assert os.listdir("/proc/self/fd") == before


def test_a_child_that_ignores_the_polite_signal_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twofold.processor.spawn.TERMINATE_SECONDS", 0.1)
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY + "[signal.pause() for _ in range(99)]"
    with SpawnedWeights(child(stubborn)) as weights:
        pass
    assert weights.died() == "killed by signal 9 (SIGKILL)"
    assert is_gone(weights.pid)


def test_a_polite_child_ends_by_the_polite_signal() -> None:
    with SpawnedWeights(child(READY + "signal.pause()")) as weights:
        pass
    assert weights.died() == "killed by signal 15 (SIGTERM)"


def test_the_child_sees_the_end_of_its_input_when_the_parent_lets_go() -> None:
    ends = "signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY + UNTIL_PARENT + "; sys.exit(7)"
    with SpawnedWeights(child(ends)) as weights:
        pass
    assert weights.died() == "exited with code 7"


def test_a_death_in_the_block_is_told_with_its_cause() -> None:
    with SpawnedWeights(child(READY + UNTIL_PARENT)) as weights:
        os.kill(weights.pid, signal.SIGKILL)
        os.waitid(os.P_PID, weights.pid, os.WEXITED | os.WNOWAIT)
        assert weights.died() == "killed by signal 9 (SIGKILL)"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (2, ConfigurationError),
        (3, ModelError),
        (4, LinkError),
        (5, DeviceError),
        (1, ProcessorLost),
        (0, ProcessorLost),
        (70, ProcessorLost),
    ],
)
def test_a_child_that_does_not_start_raises_its_own_kind_of_error_with_its_last_words(
    code: int, kind: type[TwofoldError]
) -> None:
    before = os.listdir("/proc/self/fd")
    says = f"print('noise', file=sys.stderr); print('error: the file is bad', file=sys.stderr); sys.exit({code})"
    weights = SpawnedWeights(child(says))
    with (
        pytest.raises(
            kind, match=rf"^the weight processor did not start, exited with code {code}: the file is bad$"
        ) as caught,
        weights,
    ):
        pass
    assert type(caught.value) is kind
    assert is_gone(weights.pid)
    assert os.listdir("/proc/self/fd") == before


def test_a_child_killed_before_it_is_ready_is_lost_by_its_signal() -> None:
    with (
        pytest.raises(ProcessorLost, match="killed by signal 9"),
        SpawnedWeights(child("os.kill(os.getpid(), 9)")),
    ):
        pass


@pytest.mark.parametrize("output", ["", "sys.stdout.write('ready tcp://half'); sys.stdout.flush(); "])
def test_a_child_that_is_not_ready_in_time_is_ended(output: str) -> None:
    says = "print('still reading', file=sys.stderr, flush=True); " + output + UNTIL_PARENT
    weights = SpawnedWeights(child(says), ready=Seconds(0.5))
    with (
        pytest.raises(Unreachable, match=r"not ready within 0\.5 s; its last words: (still reading|none)"),
        weights,
    ):
        pass
    assert is_gone(weights.pid)


def test_a_child_that_closes_its_output_and_stays_is_ended() -> None:
    weights = SpawnedWeights(child("os.close(1); signal.pause()"), ready=Seconds(0.5))
    with pytest.raises(Unreachable, match="closed its output"), weights:
        pass
    assert is_gone(weights.pid)


@pytest.mark.parametrize("line", ["hello", "ready", "ready ", "READY tcp://x", "x" * 10_000])
def test_a_child_that_says_something_else_is_not_taken_for_a_processor(line: str) -> None:
    weights = SpawnedWeights(child(f"print({line!r}, flush=True); " + UNTIL_PARENT))
    with pytest.raises(Unreachable, match=r"instead of 'ready URL'"), weights:
        pass
    assert is_gone(weights.pid)


def test_a_program_that_is_not_there_is_a_device_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="cannot be started"), SpawnedWeights([str(tmp_path / "nothing")]):
        pass


def test_an_error_in_the_block_ends_the_child_too() -> None:
    weights = SpawnedWeights(child(READY + UNTIL_PARENT))
    with pytest.raises(KeyboardInterrupt), weights:
        raise KeyboardInterrupt
    assert is_gone(weights.pid)


def test_before_the_block_there_is_no_child_to_ask() -> None:
    weights = SpawnedWeights(child(READY))
    with pytest.raises(ProcessorLost, match="was not started"):
        weights.died()


def test_the_command_ends_with_its_parent_and_two_of_them_share_no_address() -> None:
    first, second = (weights_command(Path("m.gguf"), threads=2) for _ in range(2))
    assert first[:5] == [sys.executable, "-m", "twofold", "weights", "m.gguf"]
    assert first[7:] == ["--with-parent", "--threads", "2", "--no-packed-cache"]
    assert first[5] == "--listen"
    assert first[6] != second[6]
    assert weights_command(Path("m"), listen="tcp://127.0.0.1:0", packed_cache=True)[-3:] == [
        "tcp://127.0.0.1:0",
        "--with-parent",
        "--packed-cache",
    ]
