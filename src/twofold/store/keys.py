"""The keys folder: who this host is, whom it has granted a token, and where it has joined.

keys/                 $XDG_CONFIG_HOME/twofold/keys, or ~/.config/twofold/keys; mode 0700
    identity.pem      the private key and the self-signed certificate of this host's processors
    grants.json       the tokens that were granted: verifiers, no secrets
    hosts.json        where this host has joined: fingerprints and tokens, with their secrets

All files have mode 0600 and only ever appear by a rename. Who changes one holds the lock on the folder meanwhile.
"""

import base64
import binascii
import hashlib
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from twofold.config import config_file
from twofold.errors import ConfigurationError, one_line
from twofold.store.grant import Grant, Invitation, UnixSeconds, lapse
from twofold.store.lock import alone
from twofold.store.place import replacing

IDENTITY, GRANTS, HOSTS = "identity.pem", "grants.json", "hosts.json"
FILE_BYTES = 16 << 20  # the largest file that is read
VERSION = 1

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


class Grants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What grants.json holds."""

    version: int = VERSION
    grants: tuple[Grant, ...] = ()


class Hosts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What hosts.json holds: an invitation a place."""

    version: int = VERSION
    hosts: tuple[Invitation, ...] = ()


Content = TypeVar("Content", Grants, Hosts)


class Identity(NamedTuple):
    """Who this host's processors are."""

    path: Path  # a PEM file of the private key and the certificate
    fingerprint: bytes  # SHA-256 of the certificate, DER


def keys_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The keys folder; it need not exist."""
    return config_file(environment).parent / "keys"


def identity(folder: Path) -> Identity:
    """This host's identity; ConfigurationError if it has none yet, or one that cannot be read."""
    path = folder / IDENTITY
    content = _content(path)
    if content is None:
        raise ConfigurationError(f"this host has no certificate yet ({path}); make one with: twofold keys")
    try:
        _, begin, rest = content.decode("ascii").partition(_BEGIN)
        body, end, _ = rest.partition(_END)
        certificate = base64.b64decode("".join(body.split()), validate=True)
    except (UnicodeDecodeError, binascii.Error):
        certificate = b""
    if not certificate or not begin or not end:
        raise _damaged(path, "no certificate is in it", "all clients have to join again")
    return Identity(path, hashlib.sha256(certificate).digest())


def ensure_identity(folder: Path, make: Callable[[], bytes]) -> Identity:
    """This host's identity, which `make` gives in PEM if there is none yet."""
    with alone(folder):
        if not (folder / IDENTITY).exists():
            _put(folder / IDENTITY, make())
        return identity(folder)


def grants(folder: Path) -> tuple[Grant, ...]:
    """The tokens granted, revoked ones too; ConfigurationError if the file cannot be read."""
    return _read(folder / GRANTS, Grants, "all tokens end").grants


def in_force(folder: Path, now: float) -> int:
    """How many of the tokens granted are in force at `now` (seconds since 1970)."""
    return sum(lapse(grant, now) is None for grant in grants(folder))


def add_grant(folder: Path, grant: Grant) -> None:
    """Keep `grant`; ConfigurationError if another of its name is in force at the moment it was granted."""
    with alone(folder):
        kept = []
        for other in grants(folder):
            if other.name != grant.name:
                kept.append(other)
            elif lapse(other, grant.granted) is None:
                name = grant.name
                raise ConfigurationError(
                    f"a token '{name}' is in force; choose another name, or first: twofold keys revoke {name}"
                )
        _put(folder / GRANTS, msgspec.json.encode(Grants(grants=(*kept, grant))))


def revoke(folder: Path, name: str, now: UnixSeconds) -> Grant:
    """Revoke the token `name`, and return what it was; ConfigurationError if there is none that could be."""
    with alone(folder):
        held = grants(folder)
        found = next((grant for grant in held if grant.name == name and grant.revoked is None), None)
        if found is None:
            raise ConfigurationError(f"there is no token '{name}' to revoke; see: twofold keys list")
        ended = msgspec.structs.replace(found, revoked=now)
        _put(folder / GRANTS, msgspec.json.encode(Grants(grants=tuple(ended if g is found else g for g in held))))
    return found


def hosts(folder: Path) -> tuple[Invitation, ...]:
    """Where this host has joined; ConfigurationError if the file cannot be read."""
    return _read(folder / HOSTS, Hosts, "this host has to join again").hosts


def join(folder: Path, invitation: Invitation) -> None:
    """Keep `invitation`, in the place of an earlier one to the same HOST:PORT."""
    with alone(folder):
        others = tuple(host for host in hosts(folder) if host.place != invitation.place)
        _put(folder / HOSTS, msgspec.json.encode(Hosts(hosts=(*others, invitation))))


class WatchedGrants:
    """The tokens granted, read again when their file changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: Sequence[int] | None = ()

    def changed(self) -> tuple[Grant, ...] | None:
        """The tokens if they changed since the last call, else None; ConfigurationError, once, if unreadable."""
        stamp = self._stamp()
        if stamp == self._seen:
            return None
        self._seen = stamp
        return grants(self._folder)

    def _stamp(self) -> Sequence[int] | None:
        try:
            found = (self._folder / GRANTS).stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(path: Path, kind: type[Content], loss: str) -> Content:
    content = _content(path)
    if content is None:
        return kind()
    try:
        found = msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, str(error), loss) from error
    if found.version != VERSION:
        raise _damaged(path, f"it is of version {found.version}, this program reads {VERSION}", loss)
    return found


def _content(path: Path) -> bytes | None:
    """The bytes of a file of ours, None without one; ConfigurationError if others may read or change it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(FILE_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}); correct its owner and mode") from error
    if mode & 0o077:
        raise ConfigurationError(f"{path} is open to others (mode {mode:04o}); close it with: chmod 600 {path}")
    return content


def _damaged(path: Path, why: str, loss: str) -> ConfigurationError:
    return ConfigurationError(f"{path} is damaged ({one_line(why)}); restore it, or remove it, and then {loss}")


def _put(path: Path, content: bytes) -> None:
    with replacing(path) as file:  # a temporary file, so its mode is 0600 from the beginning
        file.write(content)
