"""What is asked of an engine, and what it answers: plain records, the same for every front end."""

import msgspec

from twofold.engine.constraint import Constraint
from twofold.engine.limits import Limits
from twofold.engine.sampling import Sampling
from twofold.errors import RequestError

__all__ = ["MOST_LOGPROBS", "Chosen", "Constraint", "Limits", "Moments", "Piece", "Request", "Sampling", "Usage"]

MOST_LOGPROBS = 20


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One answer that is asked for. Raises RequestError for an empty prompt and for what no answer can have."""

    prompt: tuple[int, ...]
    sampling: Sampling = Sampling()
    limits: Limits = Limits()
    logprobs: int | None = None  # log-probabilities of every token and of so many of the likeliest, 0 to 20
    constraint: Constraint | None = None
    owner: str = ""  # whose fair share it takes: the name of the API key
    priority: int = 0  # lower goes first
    keep: bool = False  # the answer is to have what was seen, to be gone on with

    def __post_init__(self) -> None:
        """Raise RequestError for an empty prompt and for more log-probabilities than are given."""
        if not self.prompt:
            raise RequestError("the prompt is empty; give some text")
        if self.logprobs is not None and not 0 <= self.logprobs <= MOST_LOGPROBS:
            raise RequestError(f"logprobs is {self.logprobs}; it must lie between 0 and {MOST_LOGPROBS}")


class Chosen(msgspec.Struct, frozen=True):
    """A token of an answer; with log-probabilities, natural, of the model's own distribution if they were asked for."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()  # (token, log-probability), likeliest first


class Piece(msgspec.Struct, frozen=True):
    """Text of an answer as it becomes certain, and the tokens chosen since the piece before."""

    text: str
    chosen: tuple[Chosen, ...] = ()
    finish: str | None = None  # of the last piece: "stop", "length" or "cancelled"


class Moments(msgspec.Struct):
    """When an answer was asked for, had its first step, its first token, its end; seconds of the serving's clock."""

    arrived: float | None = None
    begun: float | None = None
    first: float | None = None
    ended: float | None = None


class Usage(msgspec.Struct):
    """What an answer took; `cached_tokens` of the prompt were not computed, as context memory had seen them."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    moments: Moments = msgspec.field(default_factory=Moments)
