"""What is asked of an engine, and what it gives: a request, and the pieces of its answer."""

import msgspec

from twofold.engine.constraint import Constraint
from twofold.engine.limits import Limits
from twofold.engine.sampling import Sampling


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One answer that is asked for."""

    prompt: tuple[int, ...]
    sampling: Sampling
    limits: Limits
    logprobs: int | None = None  # of every token, and of the likeliest n, 0 to 20
    constraint: Constraint | None = None
    owner: str = ""  # whose fair share it takes: the name of the API key
    priority: int = 0  # lower goes first
    context: str | None = None  # name of a kept context to go on with


class Chosen(msgspec.Struct, frozen=True):
    """One token; if asked for, its log-probability and the likeliest tokens with theirs, likeliest first."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Piece(msgspec.Struct, frozen=True):
    """Text as it becomes certain, and the tokens chosen since the piece before."""

    text: str
    chosen: tuple[Chosen, ...] = ()
    finish: str | None = None  # of the last piece: "stop", "length", "cancelled"


class Usage(msgspec.Struct):
    """Tokens of one answer."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
