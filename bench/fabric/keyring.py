"""Keys for processors under attack: who may come in, and who must not.

FOLDER/server      what the processor goes by: its certificate, and what was granted
FOLDER/good        of a client that has joined
FOLDER/attacker    of one that has joined too, and has every bad token as well, each as if it were that of another
                   host, whose name says what is wrong with it
"""

import secrets
import time
from pathlib import Path

from twofold.store import keys
from twofold.store.certificate import self_signed
from twofold.store.grant import Grant, Invitation, Scope, Token, UnixSeconds, verifier_of
from twofold.wire.token import NO_FINGERPRINT

SERVER, GOOD, ATTACKER = "server", "good", "attacker"
BAD = ("unknown", "forged", "expired", "revoked", "elsewhere")
LONG_AGO = UnixSeconds(1)


def environment(folder: Path, who: str) -> dict[str, str]:
    """What makes a process that of `who`."""
    return {"XDG_CONFIG_HOME": str(folder / who)}


def grant_all(folder: Path) -> None:
    """Make the server's certificate and every token."""
    server = keys.keys_folder(environment(folder, SERVER))
    keys.ensure_identity(server, lambda: self_signed(time.time()))
    for name in BAD:
        token = _granted(server, name)
        _join(folder, ATTACKER, Invitation(f"{name}.example:1", NO_FINGERPRINT, token))


def join(folder: Path, *places: str, encrypted: bool = False) -> None:
    """Let the good client and the attacker join the server's processors at `places`; once. `encrypted`: over TLS."""
    server = keys.keys_folder(environment(folder, SERVER))
    fingerprint = keys.identity(server).fingerprint if encrypted else NO_FINGERPRINT
    for who in (GOOD, ATTACKER):
        token = _granted(server, who)
        for place in places:
            _join(folder, who, Invitation(place, fingerprint, token))


def bad_tokens() -> dict[str, Token]:
    """The attacker's, by what is wrong with them."""
    named = {host.place.partition(".")[0]: host.token for host in keys.hosts(keys.keys_folder())}
    return {name: named[name] for name in BAD}


def own_token(place: str) -> Token:
    """The one of this process that is good at `place`."""
    return next(host.token for host in keys.hosts(keys.keys_folder()) if host.place == place)


def _join(folder: Path, who: str, invitation: Invitation) -> None:
    keys.join(keys.keys_folder(environment(folder, who)), invitation)


def _granted(server: Path, name: str) -> Token:
    """A token that the server knows as the name says."""
    token = Token(secrets.token_hex(8), secrets.token_bytes(32))
    scope = {"expired": Scope(expires=LONG_AGO), "elsewhere": Scope(model="feedface")}.get(name, Scope())
    verifier = verifier_of(bytes(32) if name == "forged" else token.secret)
    if name != "unknown":
        revoked = LONG_AGO if name == "revoked" else None
        keys.add_grant(server, Grant(name, token.id, verifier, scope, LONG_AGO, revoked))
    return token
