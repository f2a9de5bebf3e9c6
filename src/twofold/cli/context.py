"""`twofold context …`: what is kept, and what becomes of it. Export and import are in `context_file.py`."""

from collections.abc import Callable
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from twofold.cli import drawn, options, show
from twofold.config import read_settings
from twofold.errors import one_line
from twofold.store.contexts import Contexts, contexts_of
from twofold.store.grant import moment_text
from twofold.store.told import told
from twofold.units import bytes_text

Name = Annotated[str, typer.Argument(metavar="NAME", help="What the context is called.")]
New = Annotated[str, typer.Argument(metavar="NEW", help="A name that is not taken.")]
TITLE_LETTERS = 60  # of a row of the table


def list_(json: options.Json = False) -> None:
    """Show the contexts that are kept: of which model, how long, how large, and when each was last used."""
    contexts = _contexts()
    found = contexts.entries()
    if json:
        show.write_json([msgspec.to_builtins(told(kept)) for kept in found])
        return
    table = Table("name", "model", "tokens", "size", "last used", "", "title", box=None)
    for kept in found:
        head = kept.head
        table.add_row(
            kept.name,
            escape(one_line(head.model_name)) if head else "damaged",
            str(head.tokens) if head else "",
            bytes_text(kept.size_bytes),
            moment_text(kept.used),
            "pinned" if kept.pinned else "",
            escape(one_line(head.title)[:TITLE_LETTERS]) if head else "",
        )
    taken = sum(kept.size_bytes for kept in found)
    drawn.render(table, f"{bytes_text(taken)} of {bytes_text(contexts.quota.size_bytes)} in {contexts.folder}")


def show_(name: Name, json: options.Json = False) -> None:
    """Show what was said in a context, after its checksum was found right."""
    contexts = _contexts()
    kept = contexts.entry(name)
    with contexts.read(name) as file:
        for _ in file.pages():
            pass
    head = file.head
    if json:
        show.write_json(msgspec.to_builtins(told(kept)) | {"turns": head.turns})
        return
    for turn in head.turns or ():
        calls = "".join(f" {call.name}({call.arguments})" for call in turn.tool_calls)
        show.write(f"{one_line(turn.role)}: {_harmless((turn.content or '') + calls)}\n")
    what = "plain text" if head.turns is None else f"{len(head.turns)} messages"
    show.note(
        f"{what}, {head.tokens} tokens of {one_line(head.model_name)}, {bytes_text(kept.size_bytes)}, "
        f"begun {moment_text(head.created)}, kept {moment_text(head.saved)}"
    )


def fork(name: Name, new: New) -> None:
    """Keep a context under a second name, so that it can go on in two ways."""
    _contexts().fork(name, new)
    show.write(f"{name} forked to {new}\n")


def rename(name: Name, new: New) -> None:
    """Give a context another name."""
    _contexts().rename(name, new)
    show.write(f"{name} renamed to {new}\n")


def delete(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="What the contexts are called.")],
) -> None:
    """Keep contexts no longer."""
    _each(names, lambda contexts, name: contexts.delete(name), "deleted")


def pin(
    name: Name, off: Annotated[bool, typer.Option("--off", help="Let it go again where others need its room.")] = False
) -> None:
    """Never let a context go to make room for another."""
    _each([name], lambda contexts, name: contexts.pin(name, pinned=not off), "may go" if off else "pinned")


def _harmless(text: str) -> str:
    """`text` without what a terminal would obey: it may have come in a file from elsewhere."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)


def _contexts() -> Contexts:
    return contexts_of(read_settings())


def _each(names: list[str], do: Callable[[Contexts, str], None], done: str) -> None:
    contexts = _contexts()
    for name in names:
        do(contexts, name)
        show.write(f"{name} {done}\n")
