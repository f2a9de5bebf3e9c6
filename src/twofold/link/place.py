"""Where the Unix socket of a shm:// link lies, and taking that place."""

import fcntl
import os
import re
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from twofold.errors import ConfigurationError, Unreachable
from twofold.link.base import Address, reason
from twofold.link.listener import BACKLOG

PATH_BYTES = 107  # what a Unix socket address holds, less its end
FALLBACK = Path("/tmp")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}", re.ASCII)


def socket_path(address: Address, environment: Mapping[str, str] = os.environ) -> Path:
    """The path of shm://NAME (in a folder that only this user can enter) or shm:///absolute/path."""
    if address.place.startswith("/"):
        path = Path(address.place)
    elif _NAME.fullmatch(address.place):
        path = _private_folder(environment) / address.place
    else:
        raise ConfigurationError(
            f"'{address.url}' is not of the form shm://NAME (letters, digits, '-', '_', '.') or shm:///absolute/path"
        )
    if len(os.fsencode(path)) > PATH_BYTES or "\0" in address.place:
        raise ConfigurationError(
            f"the socket path of {address.url} has {len(os.fsencode(path))} bytes; "
            f"{PATH_BYTES} are possible: choose a shorter one"
        )
    return path


def _private_folder(environment: Mapping[str, str]) -> Path:
    """$XDG_RUNTIME_DIR/twofold or /tmp/twofold-UID, of mode 0700; ConfigurationError if not ours alone."""
    base = environment.get("XDG_RUNTIME_DIR", "")
    folder = Path(base, "twofold") if base.startswith("/") else FALLBACK / f"twofold-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise ConfigurationError(
            f"the folder of shm:// names, {folder}, cannot be made ({reason(error)}); "
            "set XDG_RUNTIME_DIR or use shm:///absolute/path"
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigurationError(
            f"{folder} does not belong to you alone (a folder, mode 0700); remove it or set XDG_RUNTIME_DIR"
        )
    return folder


def bind(path: Path, url: str) -> socket.socket:
    """A socket listening at `path`, for this user only; Unreachable if the place is taken or unusable.

    The socket file of a dead server is replaced. The lock on the folder is so that of two servers that find
    the same dead file one gets the place and the other an error.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = -1
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(folder, fcntl.LOCK_EX)
        _clear(path, url)
        sock.bind(str(path))
        path.chmod(0o600)  # before listen: nobody can connect until then
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise Unreachable(f"cannot listen at {url} ({path}): {reason(error)}") from error
    except BaseException:
        sock.close()
        raise
    finally:
        if folder >= 0:
            os.close(folder)
    return sock


def _clear(path: Path, url: str) -> None:
    """Remove the socket file of a dead server; Unreachable if something else is at `path`."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Unreachable(f"cannot listen at {url}: {path} exists and is not a socket; choose another name")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # alive, and busy
    raise Unreachable(f"cannot listen at {url}: the address is in use; stop its server or choose another name")
