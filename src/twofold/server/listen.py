"""The socket of a server. Beyond this host it needs keys, and who listens there is told so before a model is loaded."""

import socket

from twofold.errors import ConfigurationError, Unreachable
from twofold.link.base import Address, reason
from twofold.link.exposure import on_this_host
from twofold.link.listener import bound
from twofold.link.tcp import resolved

BACKLOG = 1024


def listening(host: str, port: int, *, keyed: bool) -> socket.socket:
    """A socket that takes connections at `host` and `port` (0: any).

    ConfigurationError if other hosts can reach it and there is no key, Unreachable if it cannot be had.
    """
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    found = resolved(Address("http", place))
    family, where = next((at for at in found if at[0] == socket.AF_INET), found[0])
    if not keyed and not on_this_host(where[0]):
        raise ConfigurationError(
            f"{host} can be reached from other hosts, and there is no API key; set TWOFOLD_API_KEY, "
            "give --api-key-file, or listen at 127.0.0.1"
        )
    try:
        return bound(family, where, BACKLOG)
    except OSError as error:
        raise Unreachable(f"nothing can be served at {place} ({reason(error)}); give another --port, or 0") from error


def url_of(listening: socket.socket) -> str:
    """Where clients of this host reach it."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
