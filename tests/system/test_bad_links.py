"""A weight processor that cannot be had, or is not what it should be, is named in one line, soon."""

import contextlib
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import all_of, refused, start, twofold

from twofold.wire.frame import CONTROL, Header, pack

REQUEST_ERROR, LINK_ERROR = 2, 4

NOISE = random.Random(5).randbytes(1 << 16)
ANSWERS = {
    "noise": (NOISE, "not a Twofold frame"),
    "a web page": (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 60\r\n\r\n" + b"?" * 60, "not a Twofold frame"),
    "nothing, and hangs up": (b"", "went away"),
    "half a frame, and hangs up": (pack(Header(CONTROL, length=100))[:40], "went away"),
    "a frame of a terabyte": (pack(Header(CONTROL, length=1 << 40)), "limit"),
    "a frame that holds no message": (pack(Header(CONTROL, length=4), [NOISE[:4]]) + NOISE[:4], "message"),
    "a damaged frame": (pack(Header(CONTROL, length=4), [b"good"]) + b"evil", "checksum"),
}


@pytest.fixture
def stranger() -> Iterator[Callable[[bytes, bool], str]]:
    """Makes a server that answers whoever connects with some bytes; its address. It hangs up unless told to stay."""
    servers: list[socket.socket] = []
    threads: list[threading.Thread] = []
    done = threading.Event()

    def serve(server: socket.socket, answer: bytes, stay: bool) -> None:
        with contextlib.suppress(OSError):  # nobody came, or went before the end of the answer
            client = server.accept()[0]
            with client:
                client.recv(1 << 16)
                client.sendall(answer)
                if stay:
                    done.wait()

    def make(answer: bytes, stay: bool = False) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=serve, args=(server, answer, stay))
        servers.append(server)
        threads.append(thread)
        thread.start()
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"

    yield make
    done.set()
    for server in servers:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    for server in servers:
        server.close()


@pytest.mark.parametrize("name", list(ANSWERS))
def test_a_stranger_at_the_address_is_recognised(name: str, stranger: Callable[..., str], tiny: Path) -> None:
    answer, says = ANSWERS[name]
    refused(twofold("run", tiny, "hi", "--weights", stranger(answer)), LINK_ERROR, says)


def test_a_stranger_that_never_answers_is_given_up(stranger: Callable[..., str], tiny: Path) -> None:
    url = stranger(b"", True)
    refused(twofold("run", tiny, "hi", "--weights", url), LINK_ERROR, url, "did not answer in time")


def test_an_address_where_nobody_is_is_named_with_the_command_that_starts_one(tiny: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    absent = f"shm://{tmp_path}/nobody"
    found = all_of({url: ("run", tiny, "hi", "--weights", url) for url in (closed, absent)})
    for url, finished in found.items():
        refused(finished, LINK_ERROR, f"nobody answers at {url}", f"twofold weights MODEL --listen {url}")


def test_an_address_beyond_this_host_is_refused_by_both_ends(tiny: Path) -> None:
    url = "tcp://192.0.2.1:7070"
    cases = {"run": ("run", tiny, "hi", "--weights", url), "weights": ("weights", tiny, "--listen", url)}
    for finished in all_of({**cases, "all": ("weights", tiny, "--listen", "tcp://0.0.0.0:0")}).values():
        refused(finished, REQUEST_ERROR, "tcp:// is not encrypted; use tls://")


def test_what_is_no_address_is_refused(tiny: Path) -> None:
    urls = ("here", "http://127.0.0.1:1", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "shm://", "shm://a/b", "a\nb")
    cases = {url: ("run", tiny, "hi", "--weights", url) for url in urls}
    long = f"shm:///{'x' * 200}"
    for finished in all_of({**cases, long: ("weights", tiny, "--listen", long)}).values():
        refused(finished, REQUEST_ERROR)


def test_an_address_in_use_is_refused_and_its_holder_goes_on(tcp: str, shm: str, tiny: Path) -> None:
    for finished in all_of({url: ("weights", tiny, "--listen", url) for url in (tcp, shm)}).values():
        refused(finished, LINK_ERROR, "in use")
    for finished in all_of({url: ("run", "hi there", "--weights", url, "--json") for url in (tcp, shm)}).values():
        assert finished.json["token_ids"]


def test_a_file_in_the_place_of_a_socket_is_refused_and_kept(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    refused(twofold("weights", tiny, "--listen", f"shm://{path}"), LINK_ERROR, "is not a socket")
    assert path.read_text() == "data"


def test_the_socket_of_a_killed_weight_processor_is_taken_over(tiny: Path, tmp_path: Path) -> None:
    url = f"shm://{tmp_path}/socket"
    with start("weights", tiny, "--listen", url) as first:
        first.wait_output(b"\n")
        first.process.kill()
        first.finish()
    assert os.path.lexists(tmp_path / "socket")
    with start("weights", tiny, "--listen", url) as second:
        second.wait_output(b"ready")


def test_a_weight_processor_of_another_model_is_refused_with_both_digests(tcp: str, shm: str, other: Path) -> None:
    cases = {url: ("run", other, "hi", "--weights", url) for url in (tcp, shm)}
    for finished in all_of(cases).values():
        refused(finished, LINK_ERROR, "model digests differ", "client wants", "holds")
    refused(twofold("run", "smollm2", "hi", "--weights", tcp), LINK_ERROR, "model digests differ")


def test_noise_sent_to_a_weight_processor_does_not_keep_it_from_its_work(tcp: str, tiny: Path) -> None:
    host, _, port = tcp.removeprefix("tcp://").rpartition(":")
    for answer, _ in ANSWERS.values():
        with socket.create_connection((host, int(port))) as client:
            client.sendall(answer)
    assert twofold("run", tiny, "hi", "--weights", tcp, "--json").json["token_ids"]
