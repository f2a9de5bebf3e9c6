"""`twofold join`: keep what a join link says."""

import sys
from typing import Annotated

import typer

from twofold.cli import show
from twofold.errors import ConfigurationError
from twofold.store.keys import join as keep
from twofold.store.keys import keys_folder
from twofold.wire.token import parse_link


def join(
    link: Annotated[
        str,
        typer.Argument(metavar="LINK", help="What `twofold keys grant` printed; - reads it from standard input."),
    ],
) -> None:
    """Keep what a join link says, so that its host can be used by its address."""
    invitation = parse_link(_from_input() if link == "-" else link)
    keep(keys_folder(), invitation)
    show.write(f"tls://{invitation.place}\n")
    show.note(
        f"Joined; its certificate must be {invitation.fingerprint.hex(' ', 2)}. "
        f"Use it with: twofold run --weights tls://{invitation.place} 'your text'"
    )


def _from_input() -> str:
    """The first line of standard input."""
    if sys.stdin is None:
        raise ConfigurationError("standard input is closed; give the join link there or as the argument")
    return sys.stdin.readline(1000)
