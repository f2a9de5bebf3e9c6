"""Tools that must be called: random logits make calls, and nothing else, whose arguments are valid."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from babble import babble
from tiny_gguf import tokens

from twofold.engine.tool_choice import call_of
from twofold.errors import RequestError
from twofold.model.checkpoint import Checkpoint
from twofold.model.strings import Strings
from twofold.model.tokenizer import Tokenizer
from twofold.model.tool_calls import FORMATS, HERMES, MISTRAL, ToolCall, ToolCallReader, ToolFormat

TOOLS: dict[str, dict[str, Any]] = {
    "meet": {
        "type": "object",
        "properties": {"who": {"$ref": "#/$defs/person"}, "when": {"type": "string", "format": "date"}},
        "required": ["who"],
        "additionalProperties": False,
        "$defs": {"person": {"enum": ["Ann", 'B"ob']}},
    },
    'say "it"': {"properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False},
}


@pytest.fixture(scope="module")
def tokenizer(tiny_path: Path) -> Tokenizer:
    with Checkpoint.open(tiny_path) as checkpoint:
        return Tokenizer(checkpoint.tokenizer)


def calls(tokenizer: Tokenizer, form: ToolFormat, seed: int, only: str | None = None) -> list[str]:
    """The names of the tools that an answer calls, its arguments being valid; AssertionError for any content."""
    reader = ToolCallReader(form, TOOLS)
    text = babble(tokenizer, call_of(TOOLS, form, tokenizer, only=only), seed)
    names = []
    for part in reader.push(text) + reader.finish():
        assert isinstance(part, ToolCall), text
        jsonschema.validate(json.loads(part.arguments), TOOLS[part.name])
        names.append(part.name)
    return names


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_an_answer_is_calls_with_valid_arguments_and_nothing_else(tokenizer: Tokenizer, form: ToolFormat) -> None:
    answers = [calls(tokenizer, form, seed) for seed in range(8)]
    assert all(answers)
    assert {name for answer in answers for name in answer} == set(TOOLS)
    assert any(len(answer) > 1 for answer in answers)


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_a_named_tool_is_called_once(tokenizer: Tokenizer, form: ToolFormat) -> None:
    assert [calls(tokenizer, form, seed, 'say "it"') for seed in range(3)] == [['say "it"']] * 3


@pytest.mark.parametrize(("form", "mark"), [(MISTRAL, "[TOOL_CALLS]"), (HERMES, "<tool_call>")])
def test_a_mark_that_is_a_control_token_is_written_as_this_token(
    tokenizer: Tokenizer, form: ToolFormat, mark: str
) -> None:
    controls = Tokenizer(msgspec.structs.replace(tokenizer.data, tokens=Strings.of([mark, *tokens()[1:]])))
    assert "<[0]>" in call_of(TOOLS, form, controls).text
    assert calls(controls, form, 1, "meet") == ["meet"]


def test_a_tool_that_is_not_offered_cannot_be_required(tokenizer: Tokenizer) -> None:
    with pytest.raises(RequestError, match="'other'"):
        call_of(TOOLS, HERMES, tokenizer, only="other")
    with pytest.raises(RequestError, match="tools"):
        call_of({}, HERMES, tokenizer)
