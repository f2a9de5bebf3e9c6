"""Calls of tools: found the same however the answer is cut; what only looks like one is content."""

import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.errors import RequestError
from twofold.model.tool_calls import FORMATS, HERMES, LLAMA3, MISTRAL, ToolCall, ToolCallReader, ToolFormat, format_of

NAMES = ("add", "search")
ADD = '{"name": "add", "arguments": {"a": 1, "b": [2]}}'
FORMS = st.sampled_from(list(FORMATS.values()))
PIECES = st.lists(
    st.sampled_from(
        [
            ADD, ADD.replace("arguments", "parameters"), f"<tool_call>{ADD}</tool_call>", f"[TOOL_CALLS][{ADD}, {ADD}]",
            "<tool_call>", "</tool_call>", "<tool", "_call>", "[TOOL_CALLS]", "[TOOL", "<|python_tag|>", "{", "}", "[", "]",
            '"', "\\", ";", " ", "\n", "x", '{"name": "other", "arguments": {}}', '{"name": "add", "arguments": "{}"}',
        ]
    ),
    max_size=10,
)  # fmt: skip


def read(form: ToolFormat, pieces: list[str]) -> list[str | ToolCall]:
    """The parts of an answer, content between two calls as one text."""
    reader = ToolCallReader(form, NAMES)
    joined: list[str | ToolCall] = []
    for part in [part for piece in pieces for part in reader.push(piece)] + reader.finish():
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


@settings(max_examples=400)
@given(FORMS, PIECES)
def test_no_cut_of_the_answer_changes_what_is_found(form: ToolFormat, pieces: list[str]) -> None:
    text = "".join(pieces)
    assert read(form, pieces) == read(form, [text]) == read(form, list(text))


@settings(max_examples=400)
@given(FORMS, PIECES)
def test_every_call_names_an_offered_tool_and_has_an_object(form: ToolFormat, pieces: list[str]) -> None:
    for part in read(form, pieces):
        if isinstance(part, ToolCall):
            assert part.name in NAMES
            assert isinstance(msgspec.json.decode(part.arguments), dict)


@given(FORMS, st.text())
def test_an_answer_without_calls_is_content_letter_by_letter(form: ToolFormat, text: str) -> None:
    assert read(form, list(text)) == ([text] if text else [])


ARGUMENTS = '{"a": 1, "b": [2]}'
ONE = ToolCall("add", ARGUMENTS)


@pytest.mark.parametrize(
    ("form", "text", "parts"),
    [
        (HERMES, f"Sure.\n<tool_call>\n{ADD}\n</tool_call>", ["Sure.", ONE]),
        (HERMES, f"<tool_call>{ADD}</tool_call>\n<tool_call>{ADD}</tool_call>\nDone", [ONE, ONE, "Done"]),
        (HERMES, f"<tool_call>\n{ADD}\n", [ONE]),  # the end mark is often a token that ends the answer
        (LLAMA3, '{"name": "add", "parameters": {"a": 1, "b": [2]}}', [ONE]),
        (LLAMA3, f"<|python_tag|>{ADD}; {ADD}", [ONE, ONE]),
        (MISTRAL, f"Sure. [TOOL_CALLS] [{ADD}, {ADD}]", ["Sure.", ONE, ONE]),
        (HERMES, '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>', [ToolCall("add", '{"a": 1}')]),
        (
            HERMES,
            '<tool_call>{"name": "add", "arguments": {"a": "}</tool_call>\\""}}</tool_call>',
            [ToolCall("add", '{"a": "}</tool_call>\\""}')],
        ),
    ],
)
def test_calls_are_found_in_the_form_that_models_write(
    form: ToolFormat, text: str, parts: list[str | ToolCall]
) -> None:
    assert read(form, list(text)) == parts


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (HERMES, "<tool_call>"),
        (HERMES, "<tool_call>add(1, 2)</tool_call>"),
        (HERMES, f"<tool_call>{ADD} and so on"),
        (HERMES, f"<tool_call>{ADD}</tool"),
        (HERMES, f"<tool_call>{ADD[:-1]}"),
        (HERMES, '<tool_call>{"name": "other", "arguments": {}}</tool_call>'),
        (HERMES, '<tool_call>{"name": "add"}</tool_call>'),
        (HERMES, '<tool_call>{"name": "add", "arguments": [1]}</tool_call>'),
        (HERMES, '<tool_call>{"name": "add", "arguments": "no"}</tool_call>'),
        (HERMES, '<tool_call>{"name": "add", "arguments": {"a": tru}}</tool_call>'),
        (HERMES, "<tool_call>" + "[" * 100_000 + "]" * 100_000 + "</tool_call>"),
        (HERMES, ADD),
        (LLAMA3, f"Sure: {ADD}"),
        (LLAMA3, '{"name": "Bob", "age": 3}'),
        (MISTRAL, f"[{ADD}]"),
        (MISTRAL, "[TOOL_CALLS][]"),
        (MISTRAL, f'[TOOL_CALLS][{ADD}, {{"name": "other", "arguments": {{}}}}]'),
    ],
)
def test_what_only_looks_like_a_call_is_content(form: ToolFormat, text: str) -> None:
    assert read(form, [text]) == [text]


def test_content_is_not_held_back_longer_than_it_could_begin_a_call() -> None:
    reader = ToolCallReader(HERMES, NAMES)
    assert [reader.push(piece) for piece in ("Yes", " <to", "ad")] == [["Yes"], [], [" <toad"]]


@pytest.mark.parametrize(
    "unit", ["<tool_call>{", "<tool_call>{}", '<tool_call>{"', "[TOOL_CALLS][", "{", " ", "<tool_cal"]
)
def test_a_long_hostile_answer_takes_time_by_its_length_alone(unit: str) -> None:
    start = time.process_time()
    for form in FORMATS.values():
        read(form, [unit * 20 for _ in range(1000)])
    assert time.process_time() - start < 5


def test_the_form_follows_from_the_template_or_is_forced_by_name() -> None:
    assert format_of("… <tool_call>\n …") is HERMES
    assert format_of("… [TOOL_CALLS] …") is MISTRAL
    assert format_of("… <|python_tag|> …") is LLAMA3
    assert format_of('{%- for t in tools %} … "parameters" …') is LLAMA3
    assert format_of("… <tool_call> …", forced="mistral") is MISTRAL
    with pytest.raises(RequestError, match="hermes, llama3, mistral"):
        format_of("", forced="other")
    with pytest.raises(RequestError, match="knows no tools"):
        format_of("{{ messages }}")
