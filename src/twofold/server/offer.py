"""What a server offers: one model, under which names, how much of it."""

import time
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field

from twofold.server.readiness import Readiness
from twofold.server.refusal import Refusal
from twofold.server.served import Served
from twofold.server.shelves import Shelves
from twofold.server.sse import PING_SECONDS
from twofold.server.turnstile import Turnstile
from twofold.units import Seconds

BODY_SECONDS = Seconds(60.0)
PREPARED_AT_ONCE = 2  # constraints; whoever sends hostile ones delays other new ones, and nothing else


@dataclass(frozen=True)
class Offer:
    """Settled when the server starts; `readiness` alone changes."""

    readiness: Readiness
    names: tuple[str, ...]  # of the model; the first is told in answers
    max_model_len: int | None = None  # tokens of prompt and answer; None: as many as the model was made for
    created: int = field(default_factory=lambda: int(time.time()))  # Unix time
    ping: Seconds = PING_SECONDS  # after which a silent stream is pinged
    patience: Seconds = BODY_SECONDS  # for a body to arrive
    preparing: Executor = field(default_factory=lambda: ThreadPoolExecutor(PREPARED_AT_ONCE, "preparing"))
    turnstile: Turnstile = field(default_factory=Turnstile)  # of large bodies
    shelves: Shelves | None = None  # kept contexts; None: none are kept

    def check(self, model: str | None) -> None:
        """Refusal 404 for a model that is not served."""
        if model is not None and model not in self.names:
            raise Refusal(
                404,
                f"the model {model[:100]!r} is not served here; served: {', '.join(self.names)}",
                param="model",
                code="model_not_found",
            )

    def most(self, serving: Served) -> int:
        """Tokens that prompt and answer may have together."""
        length = serving.manifest.context_length
        return length if self.max_model_len is None else min(length, self.max_model_len)

    def room(self, serving: Served, prompt: int, wanted: int | None) -> int:
        """Tokens that an answer to so many may have, at most `wanted`; Refusal 400 if not one."""
        most = self.most(serving)
        if prompt >= most:
            raise Refusal(
                400,
                f"the prompt has {prompt} tokens, but only {most - 1} fit; shorten it",
                code="context_length_exceeded",
            )
        return min(most - prompt, most if wanted is None else wanted)
