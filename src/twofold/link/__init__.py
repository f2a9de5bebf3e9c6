"""Links: `connect` and `listen`, by scheme. Start in `base.py`."""

from twofold.errors import ConfigurationError
from twofold.link import inproc, shm, tcp
from twofold.link.base import HANDSHAKE_SECONDS, Connection, Listener, Service, parse
from twofold.units import Seconds
from twofold.wire.message import Hello


def connect(
    url: str,
    *,
    digest: str | None = None,
    service: Service | None = None,
    deadline: Seconds = HANDSHAKE_SECONDS,
) -> Connection:
    """A connection to the weight processor at `url`, greeted within `deadline` from now.

    `digest`: the only model to accept. `service`: what inproc:// connects to. Raises ConfigurationError for
    an address that cannot be, Unreachable if nobody answers there, Refused with the reason if the two sides
    do not fit, DeadlinePassed, ProcessorLost or FrameError if the other side is not what it should be.
    """
    address = parse(url)
    match address.scheme:
        case "inproc" if service is not None:
            return inproc.connect(service, Hello(digest=digest))
        case "shm":
            return shm.connect(address, Hello(digest=digest, shared_memory=True), deadline)
        case "tcp":
            return tcp.connect(address, Hello(digest=digest), deadline)
        case _:
            raise ConfigurationError(f"cannot connect to '{url}'; use shm://NAME or tcp://127.0.0.1:PORT")


def listen(url: str) -> Listener:
    """Take the address `url`; ConfigurationError if it cannot be one, Unreachable if it cannot be had."""
    address = parse(url)
    match address.scheme:
        case "shm":
            return shm.ShmListener(address)
        case "tcp":
            return tcp.TcpListener(address)
        case _:
            raise ConfigurationError(f"cannot listen at '{url}'; use shm://NAME or tcp://127.0.0.1:PORT")
