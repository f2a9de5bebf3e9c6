"""API keys: who may ask, and under which name. From the environment or a file, never from an argument."""

import hashlib
import hmac
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from twofold.errors import ConfigurationError

LEAST_LETTERS = 16  # of a key: fewer can be guessed
FILE_BYTES = 1 << 20
UNNAMED = "default"
REMEDY = "write a line a key: NAME KEY, or KEY alone"


class Keys:
    """The keys in force, kept as digests. Without any, everybody may ask."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        """`keys`: key by name."""
        self._names = {hashlib.sha256(key.encode()).digest(): name for name, key in keys.items()}

    def __bool__(self) -> bool:
        return bool(self._names)

    def owner(self, headers: Mapping[str, str]) -> str | None:
        """The name of the key that a request brings (`Authorization: Bearer` or `x-api-key`), None if it has none.

        Every key is compared, and in constant time, so that an answer's time tells nothing of them.
        """
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        digest = hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest()
        found = [name for known, name in self._names.items() if hmac.compare_digest(known, digest)]
        return found[0] if found else None


def keys_of(text: str, source: str) -> dict[str, str]:
    """Key by name from lines `NAME KEY` or `KEY`; empty lines and those that begin with # are none.

    ConfigurationError names the line, never the key.
    """
    keys: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        name, key = (UNNAMED, words[0]) if len(words) == 1 else (words[0], words[1])
        fault = _fault(name, key, len(words), keys)
        if fault:
            raise ConfigurationError(f"line {number} of {source} {fault}; {REMEDY}")
        keys[name] = key
    if not keys:
        raise ConfigurationError(f"{source} holds no key; {REMEDY}")
    return keys


def _fault(name: str, key: str, words: int, keys: Mapping[str, str]) -> str | None:
    if words > 2:
        return f"has {words} words"
    if len(key) < LEAST_LETTERS:
        return f"has a key of {len(key)} letters, and at least {LEAST_LETTERS} are needed"
    if name in keys:
        return f"has a second key named {name!r}"
    return "has a key that was given before" if key in keys.values() else None


def key_file(path: Path) -> str:
    """The text of a file of keys; ConfigurationError if it cannot be read or if others can read it too."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise ConfigurationError(f"{path} can be read by others; run: chmod 600 {path}")
            return file.read(FILE_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the API keys in {path} cannot be read ({error}); {REMEDY}") from error
