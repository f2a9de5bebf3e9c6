"""A conversation in a context file has everything that its messages have."""

from types import SimpleNamespace
from typing import cast

import msgspec

from twofold.cli.keeping import keep, messages
from twofold.engine.kept import Keeper
from twofold.model.chat import Message
from twofold.model.tool_calls import ToolCall
from twofold.store.context_file import Turn

SAID = [
    Message("system", "Be brief."),
    Message("user", "1 + 1?"),
    Message("assistant", None, (ToolCall("add", '{"a": 1, "b": 1}', "c1"), ToolCall("none", "{}")), None, None, "Hm."),
    Message("tool", "2", (), "c1", "add"),
]


def test_messages_are_kept_with_their_calls_their_results_and_their_reasoning() -> None:
    kept = []
    keeper = cast(Keeper, SimpleNamespace(turns=None, keep=lambda: kept.append(True)))
    keep(keeper, SAID)
    assert kept
    assert all(isinstance(turn, Turn) for turn in keeper.turns or ())
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(keeper.turns), type=list[Turn])
    assert messages(cast(Keeper, SimpleNamespace(turns=again))) == SAID


def test_every_field_of_a_message_has_a_place_in_the_file() -> None:
    assert Turn.__struct_fields__ == Message.__struct_fields__
