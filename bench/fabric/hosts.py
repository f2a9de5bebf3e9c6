"""Several hosts on one machine: network namespaces, joined by cables that can be slow, lossy, or cut.

    with Network() as net:
        a, b = net.host("a"), net.host("b")
        net.link("a", delay_ms=5, rate_mbit=100)     # a's cable: 10 ms more for a round trip
        net.cut("a", "b")                            # a partition; one_way=True cuts only a to b
        net.heal()
        b.run(["ping", a.address])

    ┌ namespace of the switch ──────────────┐     ┌ namespace a ──────┐
    │ switch.py: cables, cuts               │     │ net0 10.77.0.1    │   each namespace is held by a process that ends
    │   descriptors of the TUN devices ─────┼────▶│ (TUN), lo         │   with its standard input, so nothing is left
    └───────────────────────────────────────┘     └───────────────────┘   behind even if we are killed

The namespaces belong to a user namespace of ours: no right is needed and no packet can leave. TUN devices and a
switch of our own instead of veth and netem, since many kernels lack netem, and so one mechanism does delay, jitter,
loss, rate and cuts. It needs user namespaces, /dev/net/tun, and the commands `unshare`, `nsenter` (util-linux) and
`ip` (iproute2).
"""

import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from fabric.cables import Cable
from fabric.switch import AddHost, Command, Cut, Heal, SetCable
from twofold.errors import DeviceError, one_line

BENCH = Path(__file__).resolve().parent.parent
SUBNET, PLAIN_SUBNET = "10.77.0", "127.77.0"
HOSTS = 254
STEP_SECONDS = 10.0  # for one command that sets something up
LOOPBACK = (  # 127.0.0.1 alone, which leaves the rest of 127.0.0.0/8 to the network; net0 speaks IPv4 alone
    "link set lo up",
    "addr del 127.0.0.1/8 dev lo",
    "addr add 127.0.0.1/32 dev lo",
    "link set net0 addrgenmode none",
)
SET_UP = "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet && echo inside && cat"  # then it waits for its end
NEEDS = "needs user namespaces, /dev/net/tun, util-linux and iproute2"


class Host:
    """One namespace with addresses; made by `Network.host`.

    `plain` counts as an address of one's own host, yet the other hosts reach it: what is kept to one host, as tcp://
    is, can so be tried over a network.
    """

    def __init__(self, name: str, address: str, plain: str, inside: "Inside") -> None:
        self.name, self.address, self.plain = name, address, plain
        self._inside = inside
        self._processes: list[subprocess.Popen[Any]] = []

    @property
    def pid(self) -> int:
        """Of the process that holds the namespace."""
        return self._inside.pid

    def command(self, command: Sequence[str | Path]) -> list[str]:
        """The command line that runs `command` in this host; the process it starts becomes the command itself."""
        return [*self._inside.enter(), *map(str, command)]

    def run(self, command: Sequence[str | Path], *, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; its output and errors as text."""
        return subprocess.run(
            self.command(command), capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL
        )

    def popen(self, command: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
        """Start a command, killed at the end of the network; `options` are those of `subprocess.Popen`."""
        process = subprocess.Popen(self.command(command), **options)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Kill what still runs here, and let the namespace go."""
        for process in self._processes:
            process.kill()
            process.wait()
        self._inside.close()


class Inside:
    """A network namespace, held by a process that ends with its standard input."""

    def __init__(self, command: Sequence[str]) -> None:
        """`command` makes the namespace and prints a line once it is in it."""
        self._holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()
        )

    def enter(self, *, net: bool = True) -> list[str]:
        """The beginning of a command line that runs the rest inside; without `net` in the user namespace alone."""
        words = ["nsenter", "--target", str(self.pid), "--user", "--preserve-credentials", *(["--net"] if net else [])]
        return [*words, "--"]

    @property
    def pid(self) -> int:
        """Of the holder."""
        return self._holder.pid

    def say(self, line: bytes) -> None:
        """A line to the holder."""
        assert self._holder.stdin
        with contextlib.suppress(BrokenPipeError):  # it has ended: `hear` says why
            self._holder.stdin.write(line + b"\n")
            self._holder.stdin.flush()

    def hear(self) -> str:
        """The holder's next line; DeviceError with its last words if it ended."""
        assert self._holder.stdout
        line = self._holder.stdout.readline()
        if not line:
            _, errors = self._holder.communicate()
            words = errors.decode("utf-8", "replace").strip().splitlines()
            why = one_line(words[-1]) if words else f"code {self._holder.returncode}"
            raise DeviceError(f"no network of hosts can be made here: {why}; it {NEEDS}")
        return line.decode().strip()

    def close(self) -> None:
        """End the holder."""
        self._holder.kill()
        self._holder.communicate()


class Network:
    """A context manager: hosts and cables inside the block, nothing after it. DeviceError where it cannot be had."""

    def __init__(self, *, seed: int = 0) -> None:
        """`seed`: of losses and jitter."""
        self._seed = seed
        self._hosts: dict[str, Host] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._switch = self._hold(
                stack,
                [
                    "unshare",
                    "--user",
                    "--map-root-user",
                    "--net",
                    sys.executable,
                    "-m",
                    "fabric.switch",
                    str(self._seed),
                ],
            )
            self._ask(Heal())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def host(self, name: str) -> Host:
        """A new host, on a cable without delay."""
        if name in self._hosts or len(self._hosts) == HOSTS:
            raise DeviceError(f"host {name} cannot be added: names differ, and {HOSTS} fit; choose another")
        number = len(self._hosts) + 1
        address, plain = f"{SUBNET}.{number}", f"{PLAIN_SUBNET}.{number}"
        device = self._ask(AddHost(name, (address, plain)))
        inside = self._hold(self._stack, [*self._switch.enter(net=False), "unshare", "--net", "sh", "-c", SET_UP])
        inside.hear()
        _ip(self._switch, f"link set {device} netns {inside.pid} name net0")
        for words in (
            *LOOPBACK,
            f"addr add {address}/24 dev net0",
            f"addr add {plain}/24 dev net0",
            "link set net0 up",
        ):
            _ip(inside, words)
        host = self._hosts[name] = Host(name, address, plain, inside)
        self._stack.callback(host.close)
        return host

    @property
    def pids(self) -> list[int]:
        """Of the processes that hold the namespaces."""
        return [self._switch.pid, *(host.pid for host in self._hosts.values())]

    def link(
        self,
        host: str,
        *,
        delay_ms: float = 0.0,
        jitter_ms: float = 0.0,
        loss: float = 0.0,
        rate_mbit: float | None = None,
    ) -> None:
        """A host's cable from now on: delay one way, share of packets lost, rate; each direction alike."""
        self._ask(SetCable(self._known(host), Cable(delay_ms, jitter_ms, loss, rate_mbit)))

    def cut(self, source: str, target: str, *, one_way: bool = False) -> None:
        """Nothing passes between two hosts; `one_way`: only what `source` sends is lost."""
        self._ask(Cut(self._known(source), self._known(target)))
        if not one_way:
            self._ask(Cut(target, source))

    def heal(self) -> None:
        """Undo every cut."""
        self._ask(Heal())

    def _known(self, host: str) -> str:
        if host not in self._hosts:
            raise DeviceError(f"there is no host {host}; there are: {', '.join(self._hosts) or 'none'}")
        return host

    def _hold(self, stack: contextlib.ExitStack, command: Sequence[str]) -> Inside:
        try:
            inside = Inside(command)
        except OSError as error:
            raise DeviceError(f"no network of hosts can be made here: {error}; it {NEEDS}") from error
        stack.callback(inside.close)
        return inside

    def _ask(self, command: Command) -> str:
        self._switch.say(msgspec.json.encode(command))
        return self._switch.hear()


def _ip(inside: Inside, words: str) -> None:
    """`ip WORDS` in a namespace."""
    try:
        done = subprocess.run(
            [*inside.enter(), "ip", *words.split()], capture_output=True, text=True, timeout=STEP_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"no network of hosts can be made here: {error}; it {NEEDS}") from error
    if done.returncode:
        raise DeviceError(f"no network of hosts can be made here: ip {words}: {one_line(done.stderr)}; it {NEEDS}")


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(BENCH)}


@functools.cache
def missing() -> str | None:
    """Why this machine cannot have a network of hosts; None if it can."""
    try:
        with Network() as net:
            net.host("probe")
    except DeviceError as error:
        return str(error)
    return None
