"""Responses: an input with its whole past, an output item, and the events of one."""

from typing import Any

import pytest
from fake_serving import TEXT
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
