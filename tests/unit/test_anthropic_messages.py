"""Messages: Anthropic's shapes, with the reason why an answer ended."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_serving import TEXT, TOOLS
from served import HELLO, Served, events

from twofold.errors import Overloaded, ProcessorLost

PATH = "/v1/messages"
BODY: dict[str, Any] = {"model": "tiny", "max_tokens": 500, "messages": HELLO}


def ask(served: Served, **parameters: Any) -> Any:
    answer = served.post(PATH, {**BODY, **parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_answer_is_a_message_with_blocks(served: Served) -> None:
    block = {"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}
    told = ask(served, system=[block], temperature=0.5, top_k=3, top_p=0.5)
    assert (told["type"], told["role"], told["model"]) == ("message", "assistant", "tiny")
    assert told["content"] == [{"type": "text", "text": TEXT}]
    assert (told["stop_reason"], told["stop_sequence"]) == ("end_turn", None)
    asked = served.serving.asked
    assert told["usage"] == {
        "input_tokens": len(asked.prompt) - 1, "cache_read_input_tokens": 1, "cache_creation_input_tokens": 0,
        "output_tokens": 7,
    }  # fmt: skip
    assert (asked.sampling.temperature, asked.sampling.top_k, asked.sampling.top_p) == (0.5, 3, 0.5)
    assert served.serving.tokenizer.decode(asked.prompt, skip_special=False).startswith("<|im_start|>system\nbe brief")


def test_an_answer_that_was_cut_off_says_max_tokens(served: Served) -> None:
    assert ask(served, max_tokens=2)["stop_reason"] == "max_tokens"


def test_a_stop_sequence_that_ended_an_answer_is_named(served: Served) -> None:
    served.serving.stopping = True
    told = ask(served, stop_sequences=["zebra", " wo"])
    assert (told["stop_reason"], told["stop_sequence"]) == ("stop_sequence", " wo")
    assert served.serving.asked.limits.stop == ("zebra", " wo")


def test_the_events_of_a_stream_add_up_to_the_message(served: Served) -> None:
    whole = ask(served)
    told = events(served.post(PATH, {**BODY, "stream": True}))
    kinds = [event["type"] for event in told if event["type"] not in ("content_block_delta", "ping")]
    assert kinds == ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]
    start, end = told[0]["message"], told[-2]
    assert (start["content"], start["stop_reason"]) == ([], None)
    text = "".join(event["delta"]["text"] for event in told if event["type"] == "content_block_delta")
    assert text == whole["content"][0]["text"]
    assert end["delta"] == {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    assert end["usage"] == whole["usage"]


def test_counting_asks_nothing_of_the_engine(served: Served) -> None:
    counted = served.post(f"{PATH}/count_tokens", {"model": "tiny", "messages": HELLO})
    assert served.serving.answers == []
    ask(served)
    assert counted.json() == {"input_tokens": len(served.serving.asked.prompt)}


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({**BODY, "model": "claude"}, 404, "not_found_error"),
        ({**BODY, "max_tokens": 0}, 400, "invalid_request_error"),
        ({**BODY, "temperature": 1.5}, 400, "invalid_request_error"),
        ({**BODY, "tools": [{"name": "x", "input_schema": {}}]}, 400, "invalid_request_error"),
        ({**BODY, "tool_choice": {"type": "any"}}, 400, "invalid_request_error"),
        ({**BODY, "thinking": {"type": "enabled", "budget_tokens": 1024}}, 400, "invalid_request_error"),
        ({"model": "tiny", "messages": HELLO}, 400, "invalid_request_error"),
    ],
)
def test_errors_have_anthropics_shape(served: Served, body: dict[str, Any], status: int, kind: str) -> None:
    answer = served.post(PATH, body, headers={"x-request-id": "mine"})
    told = answer.json()
    assert (answer.status_code, told["type"], told["error"]["type"]) == (status, "error", kind)
    assert told["request_id"] == answer.headers["request-id"] == "mine"


def test_what_the_engine_refuses_has_anthropics_shape_too(served: Served) -> None:
    served.serving.refusing = lambda request: Overloaded("full", 2.0)
    answer = served.post(PATH, BODY)
    assert (answer.status_code, answer.json()["error"]["type"]) == (429, "rate_limit_error")
    served.serving.refusing, served.serving.failing = lambda request: None, ProcessorLost("gone")
    assert events(served.post(PATH, {**BODY, "stream": True}))[-1]["error"]["type"] == "overloaded_error"


ADD = {"name": "add", "description": "adds", "input_schema": {"type": "object"}}
CALL = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'


@pytest.fixture
def able(roomy_path: Path) -> Served:
    served = Served(roomy_path, TOOLS)
    served.serving.text = f"<think>hm</think>well {CALL}{CALL}"
    return served


def test_thoughts_text_and_calls_are_blocks(able: Served) -> None:
    told = ask(able, tools=[ADD])
    thought, said, *calls = told["content"]
    assert (thought["thinking"], said["text"]) == ("hm", "well")
    assert [(call["type"], call["name"], call["input"]) for call in calls] == [("tool_use", "add", {"a": 1})] * 2
    assert len({call["id"] for call in calls}) == 2
    assert told["stop_reason"] == "tool_use"


def test_the_blocks_of_a_stream_add_up_to_those_of_the_message(able: Served) -> None:
    whole = ask(able, tools=[ADD])["content"]
    told = events(able.post(PATH, {**BODY, "tools": [ADD], "stream": True}))
    blocks: list[dict[str, Any]] = []
    for event in told:
        if event["type"] == "content_block_start":
            assert event["index"] == len(blocks)
            blocks.append({**event["content_block"], "said": ""})
        if event["type"] == "content_block_delta":
            assert event["index"] == len(blocks) - 1
            blocks[-1]["said"] += next(value for name, value in event["delta"].items() if name != "type")
    assert [event["index"] for event in told if event["type"] == "content_block_stop"] == list(range(len(whole)))
    assert [block["type"] for block in blocks] == [block["type"] for block in whole]
    assert [blocks[0]["said"], blocks[1]["said"]] == [whole[0]["thinking"], whole[1]["text"]]
    assert [json.loads(block["said"]) for block in blocks[2:]] == [block["input"] for block in whole[2:]]
    assert told[-2]["delta"]["stop_reason"] == "tool_use"


def test_calls_and_their_results_go_back_to_the_model(able: Served) -> None:
    said = [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": "well"}]
    call = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
    result = {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": [{"type": "text", "text": "no"}],
        "is_error": True,
    }
    ask(able, tools=[ADD], messages=[
        *HELLO, {"role": "assistant", "content": [*said, call]},
        {"role": "user", "content": [result, {"type": "text", "text": "and now?"}]},
    ])  # fmt: skip
    text = able.serving.tokenizer.decode(able.serving.asked.prompt, skip_special=False)
    assert "<|im_start|>assistant hmwell<tool_call>" in text
    assert '"arguments": {"a": 1}' in text
    assert "<|im_start|>tool error: notoolu_1<|im_end|><|im_start|>user and now?<|im_end|>" in text


@pytest.mark.parametrize(("choice", "kind"), [("any", "grammar"), ("tool", "grammar"), ("auto", None), ("none", None)])
def test_a_call_that_is_asked_for_is_what_the_answer_must_be(able: Served, choice: str, kind: str | None) -> None:
    named = {"name": "add"} if choice == "tool" else {}
    ask(able, tools=[ADD], tool_choice={"type": choice, **named})
    constraint = able.serving.asked.constraint
    assert (constraint and constraint.kind) == kind
