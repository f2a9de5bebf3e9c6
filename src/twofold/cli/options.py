"""Arguments and options that several verbs share, and what they build."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from twofold.config import Settings, check_places, read_settings
from twofold.engine.constraint import TEXT_LIMIT_BYTES, Constraint, Kind
from twofold.errors import ConfigurationError, RequestError
from twofold.store.catalogue import BY_NAME
from twofold.units import bytes_text

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help=f"A known name ({', '.join(BY_NAME)}) or the path of a .gguf file."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", help="Threads that compute. Default: the physical cores this process may use."),
]
Context = Annotated[
    int | None,
    typer.Option("--context", help="Positions of context memory. Default: the model's context length."),
]
Split = Annotated[bool, typer.Option("--split", help="Run the weight memory in a second process, over shared memory.")]
Weights = Annotated[
    str | None,
    typer.Option("--weights", metavar="URL[,URL…]", help="Use the weight processors that run there."),
]
Map = Annotated[
    str | None,
    typer.Option(
        "--map", metavar="FILE", help="Use the weight processors listed in FILE, as it is edited (twofold map)."
    ),
]
Wait = Annotated[
    int | None,
    typer.Option("--wait", metavar="SECONDS", help="How long to wait for a lost weight processor to come back [30]."),
]
PackedCache = Annotated[
    bool | None,
    typer.Option(
        "--packed-cache/--no-packed-cache",
        show_default=False,
        help="Keep the packed weights in a file, as large as the model, and read that at the next start.",
    ),
]
Keep = Annotated[
    str | None,
    typer.Option(
        "--keep", metavar="NAME", help="Go on with the context of this name, and keep it (twofold context list)."
    ),
]
Temperature = Annotated[float, typer.Option(help="0 takes the likeliest token; higher is more varied.")]
TopP = Annotated[float, typer.Option(help="Sample among the likeliest tokens that together reach this share.")]
TopK = Annotated[int, typer.Option(help="Sample among this many likeliest tokens; 0: all.")]
MinP = Annotated[float, typer.Option(help="Leave out tokens below this share of the likeliest.")]
Seed = Annotated[int, typer.Option(help="Same seed, same text.")]
RepetitionPenalty = Annotated[
    float, typer.Option(help="Above 1 makes tokens of the prompt and the answer less likely, below 1 more; 1: off.")
]
PresencePenalty = Annotated[
    float, typer.Option(help="Subtracted from the logits of tokens that the answer has; 0: off.")
]
FrequencyPenalty = Annotated[float, typer.Option(help="The same, for each time that the answer has them; 0: off.")]
MinTokens = Annotated[int, typer.Option(help="Do not end before this many tokens.")]
Schema = Annotated[
    Path | None, typer.Option("--json-schema", metavar="FILE", help="Answer with JSON that is valid under this schema.")
]
Grammar = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Answer with a word of this grammar (llguidance's, like Lark's).")
]
RegularExpression = Annotated[
    str | None, typer.Option("--regex", help="Answer with text that this expression matches from end to end.")
]
LogProbs = Annotated[
    int | None,
    typer.Option("--logprobs", metavar="N", help="With --json: each token's log-probability, and the N likeliest's."),
]
MaxTokens = Annotated[int, typer.Option(help="Stop after this many tokens.")]
IgnoreEnd = Annotated[bool, typer.Option("--ignore-eos", help="Go on past the model's end token.")]
Stop = Annotated[list[str] | None, typer.Option(help="Stop at this text; may be given several times.")]


def settings(threads: int | None, *, packed_cache: bool | None = None) -> Settings:
    """The settings in force, with these flags."""
    return read_settings(threads=threads, packed_cache=packed_cache)


def placed(settings: Settings, *, split: bool) -> Settings:
    """`settings`; ConfigurationError if the weights are to be in two places at once."""
    check_places(settings, split=split, option="--")
    return settings


def constraint(schema: Path | None, grammar: Path | None, regex: str | None) -> Constraint | None:
    """What the answer must look like, if one of these is given.

    ConfigurationError if several are, or for a file that cannot be read; RequestError for one that is not UTF-8 text.
    """
    given = {"json_schema": schema, "grammar": grammar, "regex": regex}
    kinds: list[Kind] = [kind for kind in get_args(Kind) if given.get(kind) is not None]
    if len(kinds) > 1:
        raise ConfigurationError("--json-schema, --grammar and --regex exclude each other; give one of them")
    if not kinds:
        return None
    source = given[kinds[0]]
    return Constraint(kinds[0], _text(source) if isinstance(source, Path) else source or "")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(TEXT_LIMIT_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}); name a file") from error
    if len(data) > TEXT_LIMIT_BYTES:
        raise RequestError(f"{path} is longer than {bytes_text(TEXT_LIMIT_BYTES)}; shorten it")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from error


def multiple(flag: str, value: int, of: int) -> int:
    """`value` if it is a multiple of `of`, else ConfigurationError."""
    if value % of:
        raise ConfigurationError(f"{flag} {value} is not a multiple of {of}; give {value // of * of} or the next")
    return value
