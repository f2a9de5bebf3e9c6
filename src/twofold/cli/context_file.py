"""`twofold context export` and `import`: a kept context as a file that can leave this host, encrypted or not."""

import getpass
import os
import sys
from pathlib import Path
from typing import IO, Annotated

import typer

from twofold.cli import show
from twofold.config import Settings, read_settings
from twofold.errors import ConfigurationError
from twofold.store import sealed
from twofold.store.context_file import ContextFile, write_context
from twofold.store.contexts import contexts_of, opened_file
from twofold.store.place import replacing
from twofold.units import KIB

File = Annotated[Path, typer.Argument(metavar="FILE", help="The context file.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where the passphrase is; else TWOFOLD_PASSPHRASE, else it is asked for."),
]
PASSPHRASE_BYTES = 4 * KIB


def export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the context is called here.")],
    file: File,
    encrypt: Annotated[bool, typer.Option("--encrypt", help="Encrypt it with a passphrase.")] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write a context to a file, which goes on with the same bits on any host that has its model."""
    settings = read_settings()
    passphrase = _passphrase(settings, passphrase_file, confirm=True) if encrypt else None
    with contexts_of(settings).read(name) as kept, replacing(file) as sink:
        if passphrase is None:
            write_context(sink, kept.head, kept.tokens, kept.pages())
        else:
            with sealed.Sealing(sink, passphrase) as sealing:
                write_context(sealing, kept.head, kept.tokens, kept.pages())
    show.write(f"{name} written to {file}\n")
    if passphrase is None:
        show.note("Whoever has the file can read what was said; --encrypt needs a passphrase for that.")


def import_(
    file: File,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", show_default=False, help="What to call it here. Default: the file's name."),
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Keep what is in a file that `export` wrote, once its checksum was found right."""
    settings = read_settings()
    contexts, called = contexts_of(settings), name or file.name.partition(".")[0]
    with opened_file(file) as source:
        contexts.add(called, _read(source, file, settings, passphrase_file))
    show.write(f"{called} imported\n")


def _read(source: IO[bytes], file: Path, settings: Settings, passphrase_file: Path | None) -> ContextFile:
    """The context file, decrypted as it is read if it is encrypted."""
    size, magic = os.fstat(source.fileno()).st_size, source.read(len(sealed.MAGIC))
    source.seek(0)
    if magic != sealed.MAGIC:
        return ContextFile(source, size, str(file))
    unsealed = sealed.Unsealed(source, size, _passphrase(settings, passphrase_file, confirm=False), str(file))
    return ContextFile(unsealed, unsealed.size_bytes, str(file))


def _passphrase(settings: Settings, file: Path | None, *, confirm: bool) -> str:
    """From the file, the settings, or who sits at the terminal. ConfigurationError if there is none."""
    if file is not None:
        return _not_empty(_from_file(file))
    if settings.passphrase is not None:
        return _not_empty(settings.passphrase)
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigurationError("a passphrase is needed; set TWOFOLD_PASSPHRASE, or give --passphrase-file FILE")
    given = _not_empty(_asked("Passphrase: "))
    if confirm and _asked("Once more: ") != given:
        raise ConfigurationError("these were two passphrases; try again")
    return given


def _asked(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except EOFError:
        return ""


def _from_file(file: Path) -> str:
    try:
        with file.open("rb") as source:
            return source.read(PASSPHRASE_BYTES).decode().rstrip("\r\n")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, a path with a NUL
        raise ConfigurationError(f"no passphrase can be read from {file} ({error}); correct the file") from error


def _not_empty(passphrase: str) -> str:
    if not passphrase:
        raise ConfigurationError("the passphrase is empty; give one")
    return passphrase
