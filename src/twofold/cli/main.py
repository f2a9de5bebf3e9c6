"""The command line: the verbs, and the one place where an error becomes a line and an exit code."""

import errno
import importlib
import io
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from twofold import __version__
from twofold.cli import show
from twofold.errors import ConfigurationError, DeviceError, RequestError, TwofoldError, one_line

# What typer raises for wrong usage: click's UsageError or, by version, its own copy; its child alone has a public name.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

# verb, of one word or two → (module, function, what the list of verbs says: the first line of the function's docstring)
VERBS = {
    "run": ("run", "run", "Answer one prompt. The default model is fetched on first use."),
    "chat": (
        "chat",
        "chat",
        "Talk with a model. What was said stays in context memory, so each turn reads only what is new.",
    ),
    "serve": (
        "serve",
        "serve",
        "Serve a model over HTTP, to the clients of OpenAI and of Anthropic, until Ctrl-C.",
    ),
    "pull": ("pull", "pull", "Fetch a model and verify it; nothing is done if it is here and right."),
    "list": ("list_models", "list_", "Show the known models and which of them are here."),
    "rm": ("rm", "rm", "Delete a fetched model from the cache."),
    "inspect": (
        "inspect",
        "inspect",
        "Show where a model is cut: each segment, its planes, its bytes, and which operation is on which side.",
    ),
    "weights": (
        "weights",
        "weights",
        "Hold a model's weights and answer calls, until Ctrl-C. It keeps nothing of a call.",
    ),
    "map show": (
        "map",
        "show_",
        "Show the replicas of a memory map: who answers, with which segments, how fast; and what nobody holds.",
    ),
    "map add": (
        "map",
        "add",
        "List a replica, in a file that is made if there is none; one that was drained is used again.",
    ),
    "map remove": ("map", "remove", "Take a replica off the list; calls in flight there are made again elsewhere."),
    "map drain": (
        "map",
        "drain",
        "Call a replica only if nobody else is there: in one memory map, or told to the processor, by everybody.",
    ),
    "map move": (
        "map",
        "move",
        "Let one replica take over from another, which is drained; remove it once nobody calls it.",
    ),
    "top": (
        "top",
        "top",
        "Watch weight processors: clients, queue, rows, times and bytes of each, a second at a time; q ends it.",
    ),
    "ping": (
        "ping",
        "ping",
        "Measure the link to a weight processor, and predict from it how fast a model can be over it at most.",
    ),
    "keys": ("keys", "keys", "Show the fingerprint of this host's certificate, which is made on first use."),
    "keys grant": ("keys", "grant", "Let a client in: prints a join link, once. Whoever has the link is let in."),
    "keys list": ("keys", "list_", "Show the tokens that were granted, what each may do, and whether it is in force."),
    "keys revoke": (
        "keys",
        "revoke",
        "End a token: its holder is refused from now on, and its connections are closed within seconds.",
    ),
    "context list": (
        "context",
        "list_",
        "Show the contexts that are kept: of which model, how long, how large, and when each was last used.",
    ),
    "context show": ("context", "show_", "Show what was said in a context, after its checksum was found right."),
    "context fork": ("context", "fork", "Keep a context under a second name, so that it can go on in two ways."),
    "context rename": ("context", "rename", "Give a context another name."),
    "context delete": ("context", "delete", "Keep contexts no longer."),
    "context pin": ("context", "pin", "Never let a context go to make room for another."),
    "context export": (
        "context_file",
        "export",
        "Write a context to a file, which goes on with the same bits on any host that has its model.",
    ),
    "context import": (
        "context_file",
        "import_",
        "Keep what is in a file that `export` wrote, once its checksum was found right.",
    ),
    "join": ("join", "join", "Keep what a join link says, so that its host can be used by its address."),
    "bench": (
        "bench",
        "bench",
        "Measure, and state each figure as a share of what this machine can do. Let nothing else run meanwhile.",
    ),
    "doctor": ("doctor", "doctor", "Check this installation and show what it will use."),
}


def verb(name: str) -> Any:
    """The function of a verb; its module is imported now, because the others' would cost every start their time."""
    module, function, _ = VERBS[name]
    return getattr(importlib.import_module(f"twofold.cli.{module}"), function)


def command(name: str) -> Any:
    """A verb with its arguments and options, as typer runs it."""
    alone = typer.Typer(add_completion=False)
    alone.command(name)(verb(name))
    return typer.main.get_command(alone)


class Verbs(TyperGroup):
    """The verbs: listed from the table, each loaded once it is the one to run or to explain."""

    def resolve_command(self, ctx: Any, args: Any) -> Any:
        """As the group's, with the command itself in the place of its line in the list."""
        if " ".join(args[:2]) in VERBS:
            args = [" ".join(args[:2]), *args[2:]]
        name, _, rest = super().resolve_command(ctx, args)
        if name is None:
            return name, None, rest
        return name, command(name), rest


def _listed() -> None:
    """Stands for a verb in the list of verbs; what runs is put in its place by `Verbs`."""


app = typer.Typer(
    name="twofold",
    cls=Verbs,
    help="Large language models on two memories that compute: weights in one, context in the other.",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, (_, _, _line) in VERBS.items():
    app.command(_name, help=_line)(_listed)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"twofold {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    if context.invoked_subcommand is None:
        show.write(context.get_help() + "\n")


INTERRUPTED = 130
BROKEN_PIPE = 141


def main() -> None:
    """Run the command line; exits with the code of `errors.py`, 130 after Ctrl-C, 2 for wrong usage."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a letter shows a question mark
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        return int(app(prog_name="twofold", standalone_mode=False) or 0)
    except TwofoldError as error:
        return _told(error)
    except UsageError as error:
        return _told(_usage(error))
    except (KeyboardInterrupt, typer.Abort):
        show.note("")
        return INTERRUPTED
    except show.OutputClosed:
        _discard_output()
        return BROKEN_PIPE
    except (OSError, MemoryError, UnicodeError) as error:
        _discard_output()
        return _told(translated(error))


def _told(error: TwofoldError) -> int:
    """Say the error, on one line; its exit code."""
    show.note(f"twofold: {one_line(str(error))}")
    return error.exit_code


def _usage(error: Any) -> ConfigurationError:
    """A UsageError as one of ours, with the help that would have told."""
    command = error.ctx.command_path if error.ctx else "twofold"
    return ConfigurationError(f"{error.format_message().strip().rstrip('.')}; see {command} --help")


def _discard_output() -> None:
    """Let go of what standard output still buffers, so that no more is said about it at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def translated(error: OSError | MemoryError | UnicodeError) -> TwofoldError:
    """What the system refused, as an error of ours: the last table, for what no edge translated."""
    if isinstance(error, UnicodeError):
        return RequestError(f"something that was given is not UTF-8 text ({error}); give text")
    if isinstance(error, MemoryError) or error.errno == errno.ENOMEM:
        return DeviceError("memory ran out; use a smaller model or a shorter --context")
    if error.errno == errno.ENOSPC:
        return DeviceError("the disk is full; free some space and try again")
    where = f" {error.filename}" if error.filename else ""
    return DeviceError(f"the system refused{where}: {error.strerror or error}")
