"""Responses: an input with its whole past, an output item, and the events of one."""

from pathlib import Path
from typing import Any

import pytest
from fake_serving import TEXT, TOOLS
from served import Served, events

from twofold.errors import DeviceError

PATH = "/v1/responses"


def ask(served: Served, **parameters: Any) -> Any:
    answer = served.post(PATH, parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_response_is_one_message(served: Served) -> None:
    told = ask(served, input="hello", instructions="be brief", metadata={"a": "b"}, temperature=0, max_output_tokens=20)
    assert (told["object"], told["status"], told["store"]) == ("response", "completed", False)
    (item,) = told["output"]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    assert item["content"] == [{"type": "output_text", "text": TEXT, "annotations": []}]
    assert told["metadata"] == {"a": "b"}
    asked = served.serving.asked
    assert told["usage"]["input_tokens"] == len(asked.prompt)
    assert told["usage"]["total_tokens"] == len(asked.prompt) + told["usage"]["output_tokens"]
    assert (asked.sampling.temperature, asked.limits.max_tokens) == (0.0, 20)
    assert served.serving.tokenizer.decode(asked.prompt, skip_special=False).startswith("<|im_start|>system\nbe brief")


def test_the_past_comes_back_as_input(served: Served) -> None:
    first = ask(served, input="hello")
    user = {"role": "user", "content": [{"type": "input_text", "text": "the"}]}
    ask(served, input=[{"role": "user", "content": "hello"}, *first["output"], user])
    text = served.serving.tokenizer.decode(served.serving.asked.prompt, skip_special=False)
    assert f"<|im_start|>assistant\n{TEXT}<|im_end|>\n<|im_start|>user\nthe<|im_end|>" in text


def test_an_answer_that_was_cut_off_is_incomplete(served: Served) -> None:
    told = ask(served, input="hello", max_output_tokens=1)
    assert (told["status"], told["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


@pytest.mark.parametrize("most", [None, 1])
def test_the_events_of_a_stream_add_up_to_the_response(served: Served, most: int | None) -> None:
    whole = ask(served, input="hello", max_output_tokens=most)
    told = events(served.post(PATH, {"input": "hello", "max_output_tokens": most, "stream": True}))
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    kinds = [event["type"].removeprefix("response.") for event in told]
    assert [kind for kind in kinds if kind != "output_text.delta"] == [
        "created", "in_progress", "output_item.added", "content_part.added",
        "output_text.done", "content_part.done", "output_item.done", whole["status"],
    ]  # fmt: skip
    last = told[-1]["response"]
    text = "".join(event["delta"] for event in told if event["type"] == "response.output_text.delta")
    assert text == last["output"][0]["content"][0]["text"] == whole["output"][0]["content"][0]["text"]
    assert (last["usage"], last["incomplete_details"]) == (whole["usage"], whole["incomplete_details"])


def test_a_stream_that_fails_says_so(served: Served) -> None:
    served.serving.failing = DeviceError("no memory")
    last = events(served.post(PATH, {"input": "hello", "stream": True}))[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"] == {"code": "server_error", "message": "no memory"}


def test_what_was_thought_is_an_item_before_the_message(served: Served) -> None:
    served.serving.text = "<think>hm</think>well"
    whole = ask(served, input="hello", max_output_tokens=100)
    thought, message = whole["output"]
    assert (thought["type"], thought["content"]) == ("reasoning", [{"type": "reasoning_text", "text": "hm"}])
    assert message["content"][0]["text"] == "well"
    told = events(served.post(PATH, {"input": "hello", "max_output_tokens": 100, "stream": True}))
    assert [item["type"] for item in told[-1]["response"]["output"]] == ["reasoning", "message"]
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert done == told[-1]["response"]["output"]
    for name, text in (("reasoning_text", "hm"), ("output_text", "well")):
        deltas = [event for event in told if event["type"] == f"response.{name}.delta"]
        assert "".join(event["delta"] for event in deltas) == text
        assert {event["output_index"] for event in deltas} == {0 if name == "reasoning_text" else 1}


def test_the_form_of_an_answer_is_a_constraint(served: Served) -> None:
    form = {"type": "json_schema", "name": "n", "schema": {"a": 1}, "strict": True}
    told = ask(served, input="hello", text={"format": form})
    constraint = served.serving.asked.constraint
    assert constraint is not None
    assert (constraint.kind, constraint.text) == ("json_schema", '{"a":1}')
    assert told["text"]["format"]["name"] == "n"


@pytest.mark.parametrize("name", ["previous_response_id", "conversation", "prompt"])
def test_what_would_have_to_be_remembered_is_refused(served: Served, name: str) -> None:
    answer = served.post(PATH, {"input": "hello", name: "x"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)


CALL = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
ADD = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": False}


@pytest.fixture
def able(roomy_path: Path) -> Served:
    return Served(roomy_path, TOOLS)


def prompt(served: Served) -> str:
    return served.serving.tokenizer.decode(served.serving.asked.prompt, skip_special=False)


@pytest.mark.parametrize("text", [CALL, f"well {CALL}", f"<think>hm</think>{CALL}{CALL}", f"a {CALL} b"])
def test_calls_are_items_in_their_order_and_a_stream_adds_up_to_them(able: Served, text: str) -> None:
    able.serving.text = text
    whole = ask(able, input="hello", tools=[ADD])
    assert (whole["status"], whole["tools"], whole["tool_choice"]) == (
        "completed",
        [{**ADD, "description": None}],
        "auto",
    )
    calls = [item for item in whole["output"] if item["type"] == "function_call"]
    assert [(call["name"], call["arguments"]) for call in calls] == [("add", '{"a": 1}')] * text.count(CALL)
    told = events(able.post(PATH, {"input": "hello", "tools": [ADD], "stream": True}))
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    output = told[-1]["response"]["output"]
    assert [item["type"] for item in output] == [item["type"] for item in whole["output"]]
    assert [event["item"] for event in told if event["type"] == "response.output_item.done"] == output
    added = [event for event in told if event["type"] == "response.output_item.added"]
    assert [event["output_index"] for event in added] == list(range(len(output)))
    assert len({item["id"] for item in output}) == len(output)
    for kind in ("delta", "done"):
        name = "delta" if kind == "delta" else "arguments"
        said = [event[name] for event in told if event["type"] == f"response.function_call_arguments.{kind}"]
        assert said == [item["arguments"] for item in output if item["type"] == "function_call"]


def test_a_message_is_asked_for_even_by_an_item_that_names_no_type(served: Served) -> None:
    ask(served, input=[{"role": "user", "content": "hello"}])
    without = served.serving.asked.prompt
    ask(served, input=[{"type": "message", "role": "user", "content": "hello"}])
    assert served.serving.asked.prompt == without


def test_what_was_thought_said_and_called_is_one_turn_of_the_past(able: Served) -> None:
    able.serving.text = f"<think>hm</think>well {CALL}{CALL}"
    first = ask(able, input="hello", tools=[ADD])
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "2"}
        for item in first["output"]
        if item["type"] == "function_call"
    ]
    able.serving.text = TEXT
    ask(able, input=[{"role": "user", "content": "hello"}, *first["output"], *results], tools=[ADD])
    assert prompt(able).count("<|im_start|>assistant") == 2  # that turn, and the one to come
    assert prompt(able).count("<tool_call>{&") + prompt(able).count('<tool_call>{"') == 2
    assert "<|im_start|>assistant hmwell" in prompt(able)
    assert prompt(able).count("<|im_start|>tool 2") == 2


def test_a_call_that_is_asked_for_is_a_constraint(able: Served) -> None:
    able.serving.text = CALL
    for choice in ("required", {"type": "function", "name": "add"}):
        told = ask(able, input="hello", tools=[ADD], tool_choice=choice)
        constraint = able.serving.asked.constraint
        assert constraint is not None
        assert constraint.kind == "grammar"
        assert told["tool_choice"] == choice


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "function", "name": "sub"}}, "tool_choice"),
        ({"tools": [{**ADD, "strict": True}]}, None),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [ADD], "tool_choice": "required", "text": {"format": {"type": "json_object"}}}, "text"),
        ({"include": ["reasoning.encrypted_content"]}, "include[0]"),
        ({"input": [{"type": "item_reference", "id": "a"}]}, "input[0].type"),
    ],
)
def test_what_tools_cannot_do_is_refused(able: Served, wrong: dict[str, Any], param: str | None) -> None:
    answer = able.post(PATH, {"input": "hello", **wrong})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_model_whose_template_knows_no_tools_is_sent_none(served: Served) -> None:
    call = {"type": "function_call", "call_id": "a", "name": "add", "arguments": "{}"}
    for body in ({"input": "hello", "tools": [ADD]}, {"input": [call]}):
        assert served.post(PATH, body).status_code == 400


@pytest.mark.parametrize("asked", [{"include": ["message.output_text.logprobs"]}, {"top_logprobs": 3}])
def test_log_probabilities_are_those_of_the_message_alone(able: Served, asked: dict[str, Any]) -> None:
    able.serving.text = f"<think>hm</think>{TEXT} {CALL}"
    body = {"input": "hello", "tools": [ADD], **asked}
    whole = ask(able, **body)
    (message,) = [item for item in whole["output"] if item["type"] == "message"]
    (part,) = message["content"]
    assert "".join(one["token"] for one in part["logprobs"]).startswith(TEXT)
    assert "hm" not in [one["token"] for one in part["logprobs"]]
    assert {len(one["top_logprobs"]) for one in part["logprobs"]} == {asked.get("top_logprobs", 0)}
    told = events(able.post(PATH, {**body, "stream": True}))
    deltas = [event["logprobs"] for event in told if event["type"] == "response.output_text.delta"]
    assert [one for delta in deltas for one in delta] == part["logprobs"]
    (done,) = [event for event in told if event["type"] == "response.output_text.done"]
    assert done["logprobs"] == part["logprobs"]
    back = [{"role": "user", "content": "hello"}, *whole["output"][:2], {"role": "user", "content": "go on"}]
    assert ask(able, input=back)["status"] == "completed"
