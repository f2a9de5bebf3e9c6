"""Links: `connect` and `listen`, by scheme. Start in `base.py`.

The files of shm:// and tcp:// are imported by name when an address asks for one: a model in one process needs neither.
"""

import importlib
from typing import Any

from twofold.errors import ConfigurationError
from twofold.link import inproc
from twofold.link.base import HANDSHAKE_SECONDS, Connection, Listener, Service, parse
from twofold.link.exposure import NO_TOKENS, Tokens
from twofold.units import Seconds
from twofold.wire.message import Hello


def connect(
    url: str,
    *,
    digest: str | None = None,
    owner: str = "",
    service: Service | None = None,
    deadline: Seconds = HANDSHAKE_SECONDS,
) -> Connection:
    """A connection to the weight processor at `url`, greeted within `deadline` from now.

    `digest`: the only model to accept. `owner`: who calls; the connections of one owner share what it gets.
    `service`: what inproc:// connects to. Raises ConfigurationError for
    an address that cannot be, Unreachable if nobody answers there, Refused with the reason if the two sides
    do not fit, DeadlinePassed, ProcessorLost or FrameError if the other side is not what it should be.
    """
    address = parse(url)
    hello = Hello(digest=digest, owner=owner, shared_memory=address.scheme == "shm")
    match address.scheme:
        case "inproc" if service is not None:
            return inproc.connect(service, hello)
        case "shm":
            connection: Connection = _named("shm").connect(address, hello, deadline)
        case "tcp":
            connection = _named("tcp").connect(address, hello, deadline)
        case "tls" | "twofold":
            connection = _named("tls").connect(address, hello, deadline)
        case _:
            raise ConfigurationError(
                f"cannot connect to '{url}'; use shm://NAME, tcp://127.0.0.1:PORT, tls://HOST:PORT or a join link"
            )
    return connection


def listen(url: str, tokens: Tokens = NO_TOKENS) -> Listener:
    """Take the address `url`; ConfigurationError if it cannot be one, Unreachable if it cannot be had.

    ConfigurationError too if other hosts can reach it without being encrypted or without tokens.
    """
    address = parse(url)
    match address.scheme:
        case "shm":
            listener: Listener = _named("shm").ShmListener(address)
        case "tcp":
            listener = _named("tcp").TcpListener(address, tokens)
        case "tls":
            listener = _named("tls").TlsListener(address, tokens)
        case _:
            raise ConfigurationError(
                f"cannot listen at '{url}'; use shm://NAME, tcp://127.0.0.1:PORT or tls://HOST:PORT"
            )
    return listener


def _named(scheme: str) -> Any:
    """The module of a scheme, with its `connect` and its listener."""
    return importlib.import_module(f"twofold.link.{scheme}")
