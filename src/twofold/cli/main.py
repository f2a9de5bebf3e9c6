"""The command line: the verbs, and the one place where an error becomes a line and an exit code."""

import errno
import os
import sys

import typer
from click.exceptions import Abort, ClickException
from rich.console import Console

from twofold import __version__
from twofold.cli import chat, doctor, inspect, list_models, pull, rm, run, weights
from twofold.errors import DeviceError, TwofoldError

app = typer.Typer(
    name="twofold",
    help="Large language models on two memories that compute: weights in one, context in the other.",
    no_args_is_help=True,
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
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"twofold {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


INTERRUPTED = 130
BROKEN_PIPE = 141


def main() -> None:
    """Run the command line; exits with the code of `errors.py`, 130 after Ctrl-C, 2 for wrong usage."""
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        return int(app(standalone_mode=False) or 0)
    except TwofoldError as error:
        _say(error)
        return error.exit_code
    except ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        Console(stderr=True).print()
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more may be written at exit
        return BROKEN_PIPE
    except (OSError, MemoryError) as error:
        _say(translated(error))
        return translated(error).exit_code


def _say(error: TwofoldError) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"twofold: {error}", markup=False)


def translated(error: OSError | MemoryError) -> TwofoldError:
    """What the system refused, as an error of ours: the last table, for what no edge translated."""
    if isinstance(error, MemoryError):
        return DeviceError("memory ran out; use a smaller model or a shorter --context")
    if error.errno == errno.ENOSPC:
        return DeviceError("the disk is full; free some space and try again")
    where = f" {error.filename}" if error.filename else ""
    return DeviceError(f"the system refused{where}: {error.strerror or error}")
