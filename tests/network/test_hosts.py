"""The network of hosts itself: what is asked of a cable is what is measured."""

import contextlib
import ipaddress
import json
import os
import select
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable

import pytest
from fabric.hosts import BENCH, Host, Network
from processes import watched

from twofold.errors import DeviceError

ECHO = BENCH / "fabric" / "echo.py"
PORT = "7"
Measure = Callable[..., list[float]]


@pytest.fixture
def measure(net: Network) -> Measure:
    """Milliseconds of round trips from host b to host a."""
    a, b = net.host("a"), net.host("b")
    serve(a)

    def measured(count: int = 20, size_bytes: int = 64, seconds: float = 5.0) -> list[float]:
        command = [sys.executable, ECHO, "measure", a.address, PORT, str(count), str(size_bytes), str(seconds)]
        times: list[float] = json.loads(b.run(command).stdout)
        return times

    return measured


def serve(host: Host) -> subprocess.Popen[bytes]:
    server: subprocess.Popen[bytes] = host.popen([sys.executable, ECHO, "serve", PORT], stdout=subprocess.PIPE)
    assert server.stdout
    assert server.stdout.readline() == b"listening\n"
    server.stdout.close()
    return server


def test_a_round_trip_takes_the_delay_of_both_directions(net: Network, measure: Measure) -> None:
    before = statistics.median(measure())
    net.link("a", delay_ms=10)
    one = measure()
    net.link("b", delay_ms=5)
    both = measure()
    assert before < 5
    assert min(one) >= 20
    assert min(both) >= 30
    assert statistics.median(one) < 25
    assert statistics.median(both) < 35


def test_jitter_spreads_round_trips(net: Network, measure: Measure) -> None:
    net.link("a", delay_ms=10, jitter_ms=5)
    times = measure(count=40)
    assert min(times) >= 10
    assert max(times) - min(times) > 5


def test_a_rate_bounds_what_passes(net: Network, measure: Measure) -> None:
    net.link("a", rate_mbit=40)  # 100 kB take 20 ms each way
    assert min(measure(count=3, size_bytes=100_000)) >= 20
    net.link("a")
    assert statistics.median(measure(count=3, size_bytes=100_000)) < 20


def test_loss_costs_time_and_no_byte(net: Network, measure: Measure) -> None:
    net.link("a", loss=0.1)
    times = measure(count=40, size_bytes=5000)
    assert len(times) == 40
    assert max(times) > 50  # TCP waits before it sends again


def test_a_cut_stops_traffic_and_heal_restores_it(net: Network, measure: Measure) -> None:
    net.cut("a", "b")
    assert measure(seconds=0.3) == []
    net.heal()
    assert len(measure()) == 20


@pytest.mark.parametrize(("source", "target"), [("a", "b"), ("b", "a")])
def test_a_one_way_cut_stops_one_way(net: Network, source: str, target: str) -> None:
    ends: dict[str, socket.socket] = {}
    for name in ("a", "b"):
        ends[name] = bound_udp(net.host(name))
    try:
        net.cut(source, target, one_way=True)
        for name, other in ((source, target), (target, source)):
            ends[name].sendto(b"hello", ends[other].getsockname())
        assert ends[source].recv(16) == b"hello"
        ends[target].setblocking(False)  # what came was sent later than what should not come
        with pytest.raises(BlockingIOError):
            ends[target].recv(16)
    finally:
        for end in ends.values():
            end.close()


def bound_udp(host: Host) -> socket.socket:
    """A UDP socket of the host, made there and passed to us."""
    ours, theirs = socket.socketpair()
    program = (
        "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); s.bind((sys.argv[1], 0)); "
        "socket.send_fds(socket.socket(fileno=int(sys.argv[2])), [b'x'], [s.fileno()])"
    )
    with ours, theirs:
        command = host.command([sys.executable, "-c", program, host.address, str(theirs.fileno())])
        subprocess.run(command, check=True, pass_fds=[theirs.fileno()])
        descriptor = socket.recv_fds(ours, 1, 1)[1][0]
    made = socket.socket(fileno=descriptor)
    made.settimeout(5)
    return made


def test_the_plain_address_is_of_ones_own_host_and_yet_reached_by_others(net: Network) -> None:
    a, b = net.host("a"), net.host("b")
    serve(a)
    assert ipaddress.ip_address(a.plain).is_loopback
    net.link("a", delay_ms=10)
    times = json.loads(b.run([sys.executable, ECHO, "measure", a.plain, PORT, "3", "64", "5"]).stdout)
    assert len(times) == 3
    assert min(times) >= 20
    at_home = json.loads(a.run([sys.executable, ECHO, "measure", "127.0.0.1", PORT, "3", "64", "5"]).stdout)
    assert len(at_home) == 3
    assert max(at_home) < 20


def test_nothing_leaves_the_network(net: Network) -> None:
    a = net.host("a")
    program = "import socket; socket.create_connection(('192.0.2.1', 80), 1)"
    assert "unreachable" in a.run([sys.executable, "-c", program]).stderr


def test_a_name_that_is_taken_or_unknown_is_refused(net: Network) -> None:
    net.host("a")
    with pytest.raises(DeviceError, match="host a cannot be added"):
        net.host("a")
    with pytest.raises(DeviceError, match="no host b; there are: a"):
        net.cut("a", "b")


def test_nothing_is_left_after_a_failure(net: Network) -> None:
    with contextlib.ExitStack() as stack:
        ends: list[select.poll] = []

        def fail() -> None:
            with Network() as other:
                server = serve(other.host("a"))
                ends.extend(stack.enter_context(watched(pid)) for pid in [*other.pids, server.pid])
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert len(ends) == 3
        assert all(end.poll(0) for end in ends)
    assert net.host("a").run(["true"]).returncode == 0  # another network goes on


def test_a_killed_owner_leaves_nothing_behind(net: Network) -> None:
    del net  # skips where there is none
    program = (
        "import sys; from fabric.hosts import Network\n"
        "with Network() as net:\n"
        "    net.host('a')\n"
        "    print(*net.pids, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": str(BENCH)}
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as owner,
        contextlib.ExitStack() as stack,
    ):
        assert owner.stdout
        ends = [stack.enter_context(watched(int(pid))) for pid in owner.stdout.readline().split()]
        owner.kill()
        assert len(ends) == 2
        assert all(end.poll(5000) for end in ends)
