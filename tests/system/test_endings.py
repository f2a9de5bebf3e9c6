"""How a command ends when its user, its terminal or its disk ends it: soon, quietly, and with no child left."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from command import COMMAND, Finished, Running, clean_environment, start, twofold
from processes import watched

DEVICE_ERROR, INTERRUPTED, BROKEN_PIPE = 5, 130, 141
PROMPT_END_SECONDS = 2.0
LEAVE_SECONDS = 8.0  # five for clients to go elsewhere
ENDLESS = ("--max-tokens", "60000")


def interrupted(running: Running) -> Finished:
    """The end of a command after Ctrl-C: within two seconds, without a traceback, without its children."""
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(watched(child)) for child in running.children]
        running.send(signal.SIGINT)
        finished = running.finish(seconds=PROMPT_END_SECONDS)
        assert all(child.poll(0) for child in children), "a child is left behind"
    assert "Traceback" not in finished.errors
    assert "twofold: " not in finished.errors
    return finished


@pytest.mark.parametrize("flags", [(), ("--split",), ("--json",)])
def test_ctrl_c_ends_a_run_at_once(flags: Sequence[str], long: Path) -> None:
    with start("run", long, "hello", *ENDLESS, *flags) as running:
        if "--json" in flags:
            running.wait_computing()
        else:
            running.wait_output()
        assert interrupted(running).code == INTERRUPTED


@pytest.mark.parametrize("imported", ["typer", "msgspec", "numpy", "tokenizers", "jinja2"])
def test_ctrl_c_while_the_command_loads_ends_it_without_a_traceback(imported: str, long: Path) -> None:
    telling = (COMMAND[0], "-X", "importtime", *COMMAND[1:])
    with start("run", long, "hello", *ENDLESS, command=telling) as running:
        running.wait_errors(f" {imported}\n")
        assert interrupted(running).code in (INTERRUPTED, -signal.SIGINT)


@pytest.mark.parametrize("flags", [(), ("--split",)])
def test_ctrl_c_while_a_chat_waits_for_a_message_ends_it(flags: Sequence[str], long: Path) -> None:
    with start("chat", long, *flags) as running:
        running.wait_errors("/exit")
        assert interrupted(running).code == INTERRUPTED


@pytest.mark.parametrize("flags", [(), ("--split",)])
def test_ctrl_c_during_an_answer_of_a_chat_stops_the_answer_and_the_talk_goes_on(
    flags: Sequence[str], long: Path
) -> None:
    with start("chat", long, *ENDLESS, *flags) as running:
        running.say(b"hello\n")
        running.wait_output()
        running.send(signal.SIGINT)
        running.wait_errors("(stopped)")
        running.say(b"hello again\n")
        before = running.output.count(b"\n")
        while running.output.count(b"\n") == before:
            running.wait_output()
        running.wait_output()
        running.send(signal.SIGINT)
        running.wait_errors("(stopped)", times=2)
        assert interrupted(running).code == INTERRUPTED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("scheme", ["tcp", "shm"])
def test_a_weight_processor_ends_in_order_when_told_to(
    scheme: str, number: signal.Signals, tiny: Path, tmp_path: Path
) -> None:
    socket_path = tmp_path / "socket"
    url = f"shm://{socket_path}" if scheme == "shm" else "tcp://127.0.0.1:0"
    with start("weights", tiny, "--listen", url) as running:
        running.wait_output(b"\n")
        running.send(number)
        finished = running.finish(seconds=PROMPT_END_SECONDS)
    assert finished.code == 0
    assert "Traceback" not in finished.errors
    assert not os.path.lexists(socket_path)


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGINT, PROMPT_END_SECONDS), (signal.SIGTERM, LEAVE_SECONDS)])
def test_a_weight_processor_told_to_end_while_it_works_hangs_up_on_its_client(
    number: signal.Signals, seconds: float, long: Path, tmp_path: Path
) -> None:
    with start("weights", long, "--listen", f"shm://{tmp_path}/socket") as weights:
        url = weights.wait_output(b"\n").decode().split()[1]
        with start("run", "hello there", *ENDLESS, "--weights", url, "--wait", "0") as client:
            client.wait_output()
            weights.send(number)
            assert weights.finish(seconds=seconds).code == 0
            ended = client.finish(seconds=PROMPT_END_SECONDS)
    assert ended.code == 4
    assert ended.errors.count("twofold: ") == 1


def test_a_split_run_that_is_terminated_leaves_no_child(long: Path) -> None:
    with start("run", long, "hello", *ENDLESS, "--split") as running:
        running.wait_output()
        with watched(running.wait_children()[0]) as child:
            running.send(signal.SIGTERM)
            assert running.finish().code == -signal.SIGTERM
            assert child.poll(PROMPT_END_SECONDS * 1000), "a child is left behind"


@pytest.mark.parametrize("flags", [(), ("--split",)])
def test_a_reader_that_goes_away_ends_a_run_without_a_word(flags: Sequence[str], long: Path) -> None:
    with start("run", long, "hello", *ENDLESS, *flags) as running:
        running.wait_output()
        children = running.children
        assert running.process.stdout
        running.process.stdout.close()
        finished = running.finish(seconds=PROMPT_END_SECONDS)
    assert finished.code == BROKEN_PIPE
    assert "Traceback" not in finished.errors
    assert "twofold: " not in finished.errors
    assert not any(os.path.exists(f"/proc/{child}") for child in children)


@pytest.mark.parametrize("arguments", [("list",), ("doctor",), ("inspect", "MODEL"), ("run", "MODEL", "hi", "--json")])
def test_output_that_cannot_be_written_is_said_in_one_line(arguments: Sequence[str], tiny: Path) -> None:
    command = [str(tiny) if argument == "MODEL" else argument for argument in arguments]
    with Path("/dev/full").open("wb") as full, start(*command, stdout=full) as running:
        finished = running.finish()
    assert finished.code == DEVICE_ERROR
    assert finished.complaint == "the disk is full; free some space and try again"


def test_a_closed_standard_stream_is_no_traceback(tiny: Path) -> None:
    run = [*COMMAND, "run", str(tiny), "hi", "--max-tokens", "2"]
    for redirection, code in (("<&-", 0), (">&-", DEVICE_ERROR), ("2>&-", 0)):
        shell = subprocess.run(
            ["/bin/sh", "-c", f'"$@" {redirection}', "sh", *run], capture_output=True, env=clean_environment()
        )
        assert shell.returncode == code, (redirection, shell.stderr)
        assert b"Traceback" not in shell.stderr
    closed = subprocess.run(
        ["/bin/sh", "-c", '"$@" <&-', "sh", *COMMAND, "run", str(tiny)], capture_output=True, env=clean_environment()
    )
    assert b"the prompt is empty" in closed.stderr


def test_a_terminal_that_lacks_a_letter_shows_a_question_mark(tiny: Path) -> None:
    finished = twofold("run", tiny, "hi", "--max-tokens", "99", environment={"PYTHONIOENCODING": "ascii"})
    assert finished.code == 0, finished.errors
    assert b"?" in finished.output


def test_memory_that_runs_out_is_said_in_one_line(long: Path) -> None:
    limited = ["/bin/sh", "-c", 'ulimit -v 8000000; exec "$@"', "sh", *COMMAND]
    with start("run", long, "hi", "--context", str(1 << 26), command=limited) as running:
        finished = running.finish()
    assert finished.code == DEVICE_ERROR
    assert "memory ran out" in finished.complaint
