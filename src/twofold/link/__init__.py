"""Links: `connect` and `listen`, by scheme. Start in `base.py`.

The files of all schemes but inproc:// are imported by name when an address asks for one: a model in one process
needs none of them.
"""

import contextlib
import importlib
from collections.abc import Sequence
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
        case "ws" | "wss":
            connection = _named("ws").connect(address, hello, deadline)
        case _:
            raise ConfigurationError(
                f"cannot connect to '{url}'; use shm://NAME, tcp://127.0.0.1:PORT, tls://HOST:PORT, "
                "ws://127.0.0.1:PORT, wss://HOST:PORT or a join link"
            )
    return connection


def listen(url: str, tokens: Tokens = NO_TOKENS, origins: Sequence[str] = ()) -> Listener:
    """Take the address `url`; ConfigurationError if it cannot be one, Unreachable if it cannot be had.

    ConfigurationError too if other hosts can reach it without being encrypted or without tokens. `origins`: of
    the pages that may connect to a ws:// or wss:// address from a browser, beside its own.
    """
    address = parse(url)
    match address.scheme:
        case "shm":
            listener: Listener = _named("shm").ShmListener(address)
        case "tcp":
            listener = _named("tcp").TcpListener(address, tokens)
        case "tls":
            listener = _named("tls").TlsListener(address, tokens)
        case "ws" | "wss":
            listener = _named("ws").WsListener(address, tokens, origins)
        case _:
            raise ConfigurationError(
                f"cannot listen at '{url}'; use shm://NAME, tcp://127.0.0.1:PORT, tls://HOST:PORT, "
                "ws://127.0.0.1:PORT or wss://HOST:PORT"
            )
    return listener


def listen_at(urls: Sequence[str], tokens: Tokens, origins: Sequence[str] = ()) -> list[Listener]:
    """Take all of `urls`, or none; as `listen`. ConfigurationError too for `origins` that no address asks for."""
    if origins and not any(parse(url).scheme in ("ws", "wss") for url in urls):
        raise ConfigurationError("--origin lets pages connect to ws:// and wss:// addresses; --listen has none")
    with contextlib.ExitStack() as taken:
        listeners = [taken.enter_context(contextlib.closing(listen(url, tokens, origins))) for url in urls]
        taken.pop_all()
    return listeners


def _named(scheme: str) -> Any:
    """The module of a scheme, with its `connect` and its listener."""
    return importlib.import_module(f"twofold.link.{scheme}")
