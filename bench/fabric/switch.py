"""The switch of a network of hosts: a process that holds one end of every host's TUN device and moves the packets.

Started by `hosts.Network` in a namespace of its own; commands come as lines of JSON on standard input, each is
answered with a line, and the process ends with its input. What it does to packets is in `cables`.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence

import msgspec

from fabric.cables import Cable, Cables

PACKET_BYTES = 65536
TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PR_SET_TIMERSLACK = 29  # linux/prctl.h: a wait may end so many nanoseconds late; the default is 50,000
STDIN, STDOUT = 0, 1


class AddHost(msgspec.Struct, frozen=True, tag="host"):
    """Make a TUN device for a host; answered with its name, to be moved into the host's namespace."""

    name: str
    addresses: tuple[str, ...]


class SetCable(msgspec.Struct, frozen=True, tag="cable"):
    """A host's cable, both directions."""

    host: str
    cable: Cable


class Cut(msgspec.Struct, frozen=True, tag="cut"):
    """Cut a path one way."""

    source: str
    target: str


class Heal(msgspec.Struct, frozen=True, tag="heal"):
    """Cut no path."""


Command = AddHost | SetCable | Cut | Heal
_DECODER = msgspec.json.Decoder(Command)


class Switch:
    """Moves packets between the TUN devices it made."""

    def __init__(self, seed: int) -> None:
        self._cables = Cables(seed)
        self._devices: dict[int, str] = {}  # descriptor → host
        self._descriptors: dict[str, int] = {}  # and back

    def serve_forever(self) -> None:
        """Until standard input ends."""
        while True:
            due = self._cables.next_arrival()
            wait = None if due is None else max(due - time.monotonic(), 0)
            for descriptor in select.select([STDIN, *self._devices], [], [], wait)[0]:
                if descriptor != STDIN:
                    self._take(descriptor)
                elif not self._obey():
                    return
            self._deliver()

    def _take(self, descriptor: int) -> None:
        with contextlib.suppress(BlockingIOError):
            packet = os.read(descriptor, PACKET_BYTES)
            self._cables.send(time.monotonic(), self._devices[descriptor], packet)

    def _deliver(self) -> None:
        for arrival in self._cables.arrived(time.monotonic()):
            with contextlib.suppress(
                OSError
            ):  # the host's device is not up, or its queue is full: lost, as on any cable
                os.write(self._descriptors[arrival.host], arrival.packet)

    def _obey(self) -> bool:
        """Obey one line; False at the end of the input."""
        line = sys.stdin.buffer.readline()
        if line:
            os.write(STDOUT, (self._answer(_DECODER.decode(line)) + "\n").encode())
        return bool(line)

    def _answer(self, command: Command) -> str:
        match command:
            case AddHost():
                return self._add(command.name, command.addresses)
            case SetCable():
                self._cables.set(command.host, command.cable)
            case Cut():
                self._cables.cut(command.source, command.target)
            case Heal():
                self._cables.heal()
        return "done"

    def _add(self, host: str, addresses: Sequence[str]) -> str:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        asked = struct.pack("16sH22x", b"net%d", IFF_TUN | IFF_NO_PI)  # %d: the system numbers it
        made: bytes = fcntl.ioctl(descriptor, TUNSETIFF, asked)
        self._devices[descriptor], self._descriptors[host] = host, descriptor
        self._cables.add(host, *map(socket.inet_aton, addresses))
        return made[:16].rstrip(b"\0").decode()


def main() -> None:
    """Serve; the one argument is the seed of losses and jitter."""
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    Switch(int(sys.argv[1])).serve_forever()


if __name__ == "__main__":
    main()
