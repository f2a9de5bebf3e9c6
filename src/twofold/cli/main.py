"""The command line: the verbs, and the one place where an error becomes a line and an exit code."""

import errno
import io
import os
import sys
from typing import Any

import typer
from rich.console import Console

from twofold import __version__
from twofold.cli import bench, chat, doctor, inspect, list_models, pull, rm, run, show, weights
from twofold.errors import ConfigurationError, DeviceError, RequestError, TwofoldError
from twofold.wire.message import one_line

# What typer raises for wrong usage: click's UsageError or, by version, its own copy; its child alone has a public name.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="twofold",
    help="Large language models on two memories that compute: weights in one, context in the other.",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("chat")(chat.chat)
app.command("pull")(pull.pull)
app.command("list")(list_models.list_)
app.command("rm")(rm.rm)
app.command("inspect")(inspect.inspect)
app.command("weights")(weights.weights)
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)


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
        Console(stderr=True).print()
        return INTERRUPTED
    except show.OutputClosed:
        _discard_output()
        return BROKEN_PIPE
    except (OSError, MemoryError, UnicodeError) as error:
        _discard_output()
        return _told(translated(error))


def _told(error: TwofoldError) -> int:
    """Say the error, on one line; its exit code."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"twofold: {one_line(str(error))}", markup=False)
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
