"""A listening socket, as every scheme's listener has one."""

import errno
import socket

from twofold.errors import DeviceError

BACKLOG = 128  # connections that wait for a server to accept them


def bound(family: socket.AddressFamily, where: tuple[str, int], backlog: int = BACKLOG) -> socket.socket:
    """A socket that listens at `where` and never blocks; OSError if it cannot."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # only over connections that linger
        sock.bind(where)
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def accepted(sock: socket.socket) -> socket.socket | None:
    """The next connection on `sock`, which never blocks; None if there is none; DeviceError if out of files."""
    try:
        return sock.accept()[0]
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise DeviceError("too many open files to accept a connection; raise the limit (ulimit -n)") from error
        return None  # nobody, or the other side has gone again
