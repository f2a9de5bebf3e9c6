"""`twofold keys`, and under it grant, list and revoke: who this host is to others, and whom it lets in."""

import os
import socket
import time
from typing import Annotated

import typer
from rich.table import Table

from twofold.cli import drawn, options, show
from twofold.errors import ConfigurationError
from twofold.store import keys as store
from twofold.store.catalogue import BY_NAME
from twofold.store.certificate import self_signed
from twofold.store.digest import digest_of
from twofold.store.grant import (
    ID_BYTES,
    SECRET_BYTES,
    Grant,
    Invitation,
    Moment,
    Scope,
    Token,
    UnixSeconds,
    checked_grant,
    duration,
    lapse,
    moment_text,
    verifier_of,
)
from twofold.store.models import file_at
from twofold.wire.token import link_text, place_of

PORT = 7070
Name = Annotated[str, typer.Argument(metavar="NAME", help="What the token is called here: who or what it is for.")]


def keys(json: options.Json = False) -> None:
    """Show the fingerprint of this host's certificate, which is made on first use."""
    identity = _identity()
    if json:
        show.write_json({"fingerprint": identity.fingerprint.hex(), "certificate": str(identity.path)})
        return
    show.write(f"{identity.fingerprint.hex(' ', 2)}\n")
    show.note(
        f"That is the SHA-256 of the certificate in {identity.path}. Let a client in with: twofold keys grant NAME"
    )


def grant(
    name: Name,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="For this model only: a known name, a .gguf file or a digest.")
    ] = None,
    rows: Annotated[int | None, typer.Option(help="Most rows of its calls at once.")] = None,
    rate: Annotated[float | None, typer.Option(help="Most rows a second.")] = None,
    expires: Annotated[str | None, typer.Option(metavar="TIME", help="Valid for so long: 12h, 30d, 8w.")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="May drain the processor.")] = False,
    host: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help=f"How clients reach this host. Default: its name, port {PORT}."),
    ] = None,
) -> None:
    """Let a client in: prints a join link, once. Whoever has the link is let in."""
    now = UnixSeconds(int(time.time()))
    scope = Scope(_digest(model), rows, rate, _end(expires, now), admin)
    token = Token(os.urandom(ID_BYTES).hex(), os.urandom(SECRET_BYTES))
    granted = checked_grant(Grant(name, token.id, verifier_of(token.secret), scope, now))
    place = place_of(host or f"{socket.gethostname()}:{PORT}")
    identity = _identity()
    store.add_grant(store.keys_folder(), granted)
    show.write(f"{link_text(Invitation(place, identity.fingerprint, token))}\n")
    show.note(f"Shown this once. On the client's host: twofold join LINK. End it with: twofold keys revoke {name}")


def list_(json: options.Json = False) -> None:
    """Show the tokens that were granted, what each may do, and whether it is in force."""
    now = time.time()
    grants = store.grants(store.keys_folder())
    if json:
        show.write_json([_record(grant, now) for grant in grants])
        return
    table = Table("name", "may use", "rows", "rows/s", "admin", "expires", "state", box=None)
    for grant in grants:
        scope = grant.scope
        table.add_row(
            grant.name,
            _model_text(scope.model),
            str(scope.rows or "any"),
            f"{scope.rate:g}" if scope.rate else "any",
            "yes" if scope.admin else "no",
            moment_text(scope.expires) if scope.expires is not None else "never",
            lapse(grant, now) or "in force",
        )
    drawn.render(table)


def revoke(name: Name) -> None:
    """End a token: its holder is refused from now on, and its connections are closed within seconds."""
    store.revoke(store.keys_folder(), name, UnixSeconds(int(time.time())))
    show.write(f"{name} revoked\n")


def _identity() -> store.Identity:
    return store.ensure_identity(store.keys_folder(), lambda: self_signed(time.time()))


def _digest(model: str | None) -> str | None:
    """How the digest of a model begins that is given as a name, a file, or that beginning."""
    if model is None or (8 <= len(model) <= 64 and not set(model) - set("0123456789abcdef")):
        return model
    entry = BY_NAME.get(model)
    return entry.sha256 if entry else digest_of(file_at(model))


def _end(expires: str | None, now: UnixSeconds) -> Moment | None:
    if expires is None:
        return None
    seconds = duration(expires)
    if seconds is None:
        raise ConfigurationError(f"--expires {expires!r} is not a time; write it like 12h, 30d or 8w")
    return UnixSeconds(now + int(seconds))


def _model_text(digest: str | None) -> str:
    if digest is None:
        return "any model"
    return next((entry.name for entry in BY_NAME.values() if entry.sha256.startswith(digest)), digest[:16])


def _record(grant: Grant, now: float) -> dict[str, object]:
    scope = grant.scope
    return {
        "name": grant.name, "token": grant.token, "model": scope.model, "rows": scope.rows, "rate": scope.rate,
        "expires": scope.expires, "admin": scope.admin, "granted": grant.granted, "revoked": grant.revoked,
        "in_force": lapse(grant, now) is None,
    }  # fmt: skip
