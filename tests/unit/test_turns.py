"""Tools, reasoning and forms of answers over chat completions."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_serving import TEXT, TOOLS
from served import HELLO, Served, events

PATH = "/v1/chat/completions"
PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}}
ADD = {"type": "function", "function": {"name": "add", "description": "adds", "parameters": PARAMETERS}}
NOW = {"type": "function", "function": {"name": "now"}}
CALL = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'


@pytest.fixture
def able(roomy_path: Path) -> Served:
    served = Served(roomy_path, TOOLS)
    served.serving.text = f"well {CALL}"
    return served


def ask(served: Served, status: int = 200, **parameters: Any) -> Any:
    answer = served.post(PATH, {"messages": HELLO, **parameters})
    assert answer.status_code == status, answer.text
    return answer.json()["choices"][0] if status == 200 else answer.json()["error"]


def prompt(served: Served) -> str:
    return served.serving.tokenizer.decode(served.serving.asked.prompt, skip_special=False)


def test_tools_are_told_to_the_model_and_its_calls_come_back(able: Served) -> None:
    told = ask(able, tools=[ADD, NOW])
    assert json.dumps([ADD]).removeprefix("[").removesuffix("]") in prompt(able)
    (call,) = told["message"]["tool_calls"]
    assert call["function"] == {"name": "add", "arguments": '{"a": 1}'}
    assert (call["type"], call["id"][:5]) == ("function", "call_")
    assert (told["message"]["content"], told["finish_reason"]) == ("well", "tool_calls")
    assert able.serving.asked.constraint is None


@pytest.mark.parametrize("lumped", [False, True])
def test_a_stream_tells_the_same_calls_numbered(able: Served, lumped: bool) -> None:
    able.serving.text, able.serving.lumped = f"well {CALL}{CALL}", lumped
    chunks = events(able.post(PATH, {"messages": HELLO, "tools": [ADD], "stream": True}))[:-1]
    choices = [chunk["choices"][0] for chunk in chunks]
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
    assert [(call["index"], call["function"]["arguments"]) for call in calls] == [(0, '{"a": 1}'), (1, '{"a": 1}')]
    assert len({call["id"] for call in calls}) == 2
    assert "".join(choice["delta"].get("content", "") for choice in choices) == "well"
    assert choices[-1]["finish_reason"] == "tool_calls"


def test_an_answer_that_was_cut_off_after_a_call_says_so(able: Served) -> None:
    able.serving.text = f"{CALL} and so on"
    tokens = len(able.serving.tokenizer.encode(CALL))
    told = ask(able, tools=[ADD], max_tokens=tokens + 1)
    assert (len(told["message"]["tool_calls"]), told["finish_reason"]) == (1, "length")


@pytest.mark.parametrize("parameters", [{"tools": [NOW]}, {"tools": [ADD], "tool_choice": "none"}, {}])
def test_a_call_of_nothing_that_was_offered_is_text(able: Served, parameters: dict[str, Any]) -> None:
    told = ask(able, **parameters)
    assert (told["message"]["content"], told["finish_reason"]) == (able.serving.text, "stop")
    assert "tool_calls" not in told["message"]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_a_call_that_is_asked_for_is_what_the_answer_must_be(able: Served, choice: object) -> None:
    ask(able, tools=[ADD, NOW], tool_choice=choice)
    constraint = able.serving.asked.constraint
    assert constraint is not None
    assert constraint.kind == "grammar"
    assert "add" in constraint.text
    assert ("now" in constraint.text) == (choice == "required")


def test_calls_and_their_results_go_back_to_the_model(able: Served) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    said = {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "let me"}
    ask(able, messages=[*HELLO, said, {"role": "tool", "tool_call_id": "call_1", "content": "one"}])
    text = prompt(able)
    assert "assistant let me<tool_call>" in text
    assert '"arguments": {"a": 1}' in text
    assert "tool onecall_1" in text


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"tools": [ADD, ADD]}, "tools"),
        ({"tools": [{"type": "retrieval"}]}, "tools[0].type"),
        ({"tools": [ADD], "tool_choice": {"type": "function", "function": {"name": "sub"}}}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": "required", "response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "function", "function": {"name": "add", "strict": True}}]}, None),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(able: Served, parameters: dict[str, Any], param: str | None) -> None:
    error = ask(able, 400, **parameters)
    assert error["param"] == param
    assert param or "tools: strict" in error["message"]


def test_strict_arguments_can_be_had_where_the_call_is_asked_for(able: Served) -> None:
    ask(able, tools=[{"type": "function", "function": {"name": "add", "strict": True}}], tool_choice="required")


@pytest.mark.parametrize(
    ("form", "kind", "text"),
    [
        ({"type": "json_object"}, "json_object", ""),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
            "json_schema",
            '{"type":"object"}',
        ),
        ({"type": "grammar", "grammar": "start: /a/"}, "grammar", "start: /a/"),
    ],
)
def test_the_form_of_an_answer_is_a_constraint(served: Served, form: dict[str, Any], kind: str, text: str) -> None:
    ask(served, response_format=form)
    constraint = served.serving.asked.constraint
    assert constraint is not None
    assert (constraint.kind, constraint.text) == (kind, text)
    ask(served, response_format={"type": "text"})
    assert served.serving.asked.constraint is None


@pytest.mark.parametrize(
    ("text", "variables"),
    [("<think>hm hm</think>\n\nhello the world", {}), ("hm hm</think>hello the world", {"thinking": True})],
)
def test_reasoning_is_told_apart(able: Served, text: str, variables: dict[str, Any]) -> None:
    able.serving.text = text
    parameters = {"messages": HELLO, "chat_template_kwargs": variables}
    message = ask(able, **parameters)["message"]
    assert (message["reasoning_content"], message["content"]) == ("hm hm", TEXT)
    chunks = events(able.post(PATH, {**parameters, "stream": True}))[:-1]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    for name in ("reasoning_content", "content"):
        assert "".join(delta.get(name, "") for delta in deltas) == message[name]
