"""A process that dies or stops answering: who waits for it is told at once, and nobody is left behind."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import REFUSAL_SECONDS, Running, all_of, start, twofold
from processes import watched

LINK_ERROR, INTERRUPTED = 4, 130
PROMPT_END_SECONDS = 2.0  # how soon a command ends that was told to
ENDLESS = ("--max-tokens", "60000")  # many seconds of the tiny model


@pytest.fixture(params=["split", "tcp", "shm"])
def generating(request: pytest.FixtureRequest, long: Path, tmp_path: Path) -> Iterator[tuple[Running, int]]:
    """A long generation under way after its first text, and the process id of its weight processor."""
    urls = {"tcp": "tcp://127.0.0.1:0", "shm": f"shm://{tmp_path}/socket"}
    if request.param == "split":
        with start("run", long, "hello", *ENDLESS, "--split") as running:
            running.wait_output()
            yield running, running.wait_children()[0]
        return
    with start("weights", long, "--listen", urls[request.param]) as weights:
        url = weights.wait_output(b"\n").decode().split()[1]
        with start("run", "hello there", *ENDLESS, "--weights", url, "--wait", "0") as running:
            running.wait_output()
            yield running, weights.pid


def last_line(errors: str) -> str:
    return errors.strip().split("\n")[-1]


def test_a_weight_processor_killed_mid_token_ends_the_run_with_one_line(generating: tuple[Running, int]) -> None:
    running, weights = generating
    os.kill(weights, signal.SIGKILL)
    finished = running.finish(seconds=REFUSAL_SECONDS)
    assert finished.code == LINK_ERROR
    assert "was not answered: weight processor" in last_line(finished.errors)
    assert "went away" in last_line(finished.errors)
    assert finished.errors.count("twofold: ") == 1
    assert "Traceback" not in finished.errors


def test_a_killed_child_is_named_with_the_signal_that_killed_it(long: Path) -> None:
    with start("run", long, "hello", *ENDLESS, "--split") as running:
        running.wait_output()
        child = running.wait_children()[0]
        os.kill(child, signal.SIGKILL)
        said = last_line(running.finish(seconds=REFUSAL_SECONDS).errors)
    assert f"weight processor {child}" in said
    assert "SIGKILL" in said


def test_ctrl_c_ends_a_run_whose_weight_processor_was_stopped(generating: tuple[Running, int]) -> None:
    running, weights = generating
    os.kill(weights, signal.SIGSTOP)
    try:
        running.send(signal.SIGINT)
        finished = running.finish(seconds=2 * PROMPT_END_SECONDS)  # a stopped child is given two seconds, then killed
    finally:
        if os.path.exists(f"/proc/{weights}"):
            os.kill(weights, signal.SIGCONT)
    assert finished.code == INTERRUPTED
    assert "Traceback" not in finished.errors


def test_a_child_of_a_killed_parent_ends_by_itself(long: Path) -> None:
    with start("run", long, "hello", *ENDLESS, "--split") as running:
        running.wait_output()
        child = running.wait_children()[0]
        with watched(child) as ended:
            running.send(signal.SIGKILL)
            assert running.finish().code == -signal.SIGKILL
            assert ended.poll(REFUSAL_SECONDS * 1000), "the weight processor outlives its parent"


def test_clients_of_one_weight_processor_do_not_change_each_others_text(tcp: str, shm: str, tiny: Path) -> None:
    prompts = ("hello, the world", "in the world")
    alone = {prompt: twofold("run", tiny, prompt, "--json").json["logits_digest"] for prompt in prompts}
    for url in (tcp, shm):
        together = all_of({prompt: ("run", prompt, "--weights", url, "--json") for prompt in prompts})
        assert {prompt: finished.json["logits_digest"] for prompt, finished in together.items()} == alone


def test_two_split_runs_at_once_do_not_disturb_each_other(tiny: Path) -> None:
    together = all_of(dict.fromkeys(("one", "other"), ("run", tiny, "hello", "--split", "--json")))
    first, second = (finished.json for finished in together.values())
    assert first["token_ids"] == second["token_ids"]
    assert first["logits_digest"] == second["logits_digest"]


def test_a_client_killed_mid_token_leaves_the_others_to_finish_as_if_alone(long: Path, tmp_path: Path) -> None:
    request = ("hello, the world", "--max-tokens", "600", "--json")
    with start("weights", long, "--listen", f"shm://{tmp_path}/socket") as weights:
        url = weights.wait_output(b"\n").decode().split()[1]
        with start("run", "hello there", *ENDLESS, "--weights", url) as victim:
            victim.wait_output()
            with start("run", *request, "--weights", url) as one, start("run", *request, "--weights", url) as two:
                victim.send(signal.SIGKILL)
                answers = [client.finish() for client in (one, two)]
            victim.finish()
        alone = twofold("run", *request, "--weights", url)
    assert [answer.code for answer in answers] == [0, 0]
    assert [answer.json["logits_digest"] for answer in answers] == [alone.json["logits_digest"]] * 2


def test_a_weight_processor_that_dies_while_it_loads_is_reported_by_its_parent(long: Path) -> None:
    with start("run", long, "hello", "--split") as running:
        os.kill(running.wait_children()[0], signal.SIGKILL)
        finished = running.finish(seconds=REFUSAL_SECONDS)
    assert finished.code == LINK_ERROR
    assert "weight processor did not start, killed by signal 9 (SIGKILL)" in finished.complaint


def test_a_connection_cut_mid_token_is_an_error_of_the_link(long: Path) -> None:
    with start("weights", long, "--listen", "tcp://127.0.0.1:0") as weights:
        port = int(weights.wait_output(b"\n").decode().strip().rpartition(":")[2])
        with socket.create_server(("127.0.0.1", 0)) as server:
            forward = threading.Thread(target=_forward_and_cut, args=(server, port))
            forward.start()
            url = f"tcp://127.0.0.1:{server.getsockname()[1]}"
            with start("run", "hello there", *ENDLESS, "--weights", url, "--wait", "0") as running:
                finished = running.finish()
            server.shutdown(socket.SHUT_RDWR)
            forward.join()
    assert finished.code == LINK_ERROR
    assert "went away" in last_line(finished.errors)
    assert "Traceback" not in finished.errors


def _forward_and_cut(server: socket.socket, port: int) -> None:
    """Pass connections on to `port`, and cut each in the middle of what comes back, until the server is shut down."""
    threads: list[threading.Thread] = []
    with contextlib.suppress(OSError):
        while True:
            threads.append(threading.Thread(target=_forward, args=(server.accept()[0], port)))
            threads[-1].start()
    for thread in threads:
        thread.join()


def _forward(client: socket.socket, port: int) -> None:
    with client, socket.create_connection(("127.0.0.1", port)) as weights:
        there = threading.Thread(target=_pass, args=(client, weights, 1 << 40))
        there.start()
        _pass(weights, client, 200_000)
        there.join()


def _pass(source: socket.socket, target: socket.socket, count: int) -> None:
    """Pass so many bytes on, or until either end is gone; then both are."""
    with contextlib.suppress(OSError):
        while count > 0 and (data := source.recv(min(count, 4096))):
            target.sendall(data)
            count -= len(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
