"""What HTTP needs of an engine that is served: `engine.serving.Serving` and what follows its form."""

from typing import Protocol

from twofold.engine.request import Request
from twofold.engine.seen import NOTHING, Seen
from twofold.engine.serving_status import ServingStatus
from twofold.engine.whole import Told
from twofold.model.chat import ChatTemplate
from twofold.model.manifest import Manifest
from twofold.model.tokenizer import Tokenizer


class Answering(Told, Protocol):
    """One answer under way, which can be ended."""

    @property
    def left(self) -> Seen | None:
        """All that was seen, once it is complete and if that was asked for."""

    def cancel(self) -> None:
        """End it within a step; nothing if it has ended."""


class Served(Protocol):
    """A model that answers many at once."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the model."""

    @property
    def manifest(self) -> Manifest:
        """Of the model."""

    @property
    def chat_template(self) -> ChatTemplate | None:
        """Of the model, if it has one."""

    def submit(self, request: Request, before: Seen = NOTHING) -> Answering:
        """Begin an answer to a prompt of which `before` has seen a beginning, if only a part of one.

        RequestError for what cannot be had, Overloaded if it would wait too long.
        """

    def status(self) -> ServingStatus:
        """How it does now, and what it did."""
