"""What HTTP needs of an engine that is served: `engine.serving.Serving` and what follows its form."""

from collections.abc import AsyncIterator
from typing import Protocol

from twofold.engine.request import Piece, Request, Usage
from twofold.engine.serving_status import ServingStatus
from twofold.model.chat import ChatTemplate
from twofold.model.manifest import Manifest
from twofold.model.tokenizer import Tokenizer


class Answering(Protocol):
    """One answer under way: its pieces come as they are known, and `usage` is right after the last."""

    usage: Usage

    def __aiter__(self) -> AsyncIterator[Piece]:
        """The pieces, the last with its `finish`; a TwofoldError if the engine fails."""

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

    def submit(self, request: Request) -> Answering:
        """Begin an answer; RequestError for what cannot be had, Overloaded if it would wait too long."""

    def status(self) -> ServingStatus:
        """How it does now, and what it did."""
