"""What an answer says, taken apart as it comes: what was thought, what is said, which tools are called."""

import secrets
from typing import NamedTuple

import msgspec

from twofold.engine.request import Piece
from twofold.engine.toolbox import Toolbox
from twofold.model.chat import Message
from twofold.model.reasoning import Parted, ReasoningReader
from twofold.model.tool_calls import ToolCall


class Thought(NamedTuple):
    """A part of the reasoning."""

    text: str


Part = Thought | str | ToolCall


class Speech:
    """One answer. `called` counts the calls so far."""

    def __init__(self, toolbox: Toolbox, *, opened: bool) -> None:
        """`opened`: the prompt ended inside the reasoning."""
        self._reasoning, self._calls = ReasoningReader(opened=opened), toolbox.reader()
        self._told: list[Part] = []
        self.called = 0

    def push(self, piece: Piece) -> list[Part]:
        """What became certain with this piece of the answer; all that is left with the last."""
        parts = self._read(self._reasoning.push(piece.text))
        if piece.finish is not None:
            parts += self._read(self._reasoning.finish())
            parts += [] if self._calls is None else self._calls.finish()
        parts = [_named(part) if isinstance(part, ToolCall) else part for part in parts]
        self.called += sum(isinstance(part, ToolCall) for part in parts)
        self._told += parts
        return parts

    def reply(self) -> Message:
        """The answer so far, as a message."""
        thought = "".join(part.text for part in self._told if isinstance(part, Thought))
        said = "".join(part for part in self._told if isinstance(part, str))
        calls = tuple(part for part in self._told if isinstance(part, ToolCall))
        return Message("assistant", said, tool_calls=calls, reasoning_content=thought or None)

    def finish(self, finish: str) -> str:
        """Why the answer ended: "tool_calls" if it did so by itself and there are any."""
        return "tool_calls" if finish == "stop" and self.called else finish

    def _read(self, parted: Parted) -> list[Part]:
        thought: list[Part] = [Thought(parted.reasoning)] if parted.reasoning else []
        if self._calls is None:
            return [*thought, parted.content] if parted.content else thought
        return [*thought, *self._calls.push(parted.content)]


def _named(call: ToolCall) -> ToolCall:
    """The call with an id, for its result to name."""
    return msgspec.structs.replace(call, id=f"call_{secrets.token_hex(12)}")
