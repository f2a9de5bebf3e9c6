"""Chat completions: what is asked of the engine, and what is told of its answers."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_serving import TEXT
from served import HELLO, Served, events

from twofold.engine.request import Limits
from twofold.errors import DeviceError, Overloaded, ProcessorLost, RequestError

PATH = "/v1/chat/completions"


def ask(served: Served, **parameters: Any) -> Any:
    answer = served.post(PATH, {"messages": HELLO, **parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(served: Served, status: int = 400, **parameters: Any) -> Any:
    answer = served.post(PATH, {"messages": HELLO, **parameters})
    assert answer.status_code == status, answer.text
    return answer.json()["error"]


def test_an_answer_is_a_message_with_its_end_and_its_usage(served: Served) -> None:
    told = ask(served, model="small")
    (choice,) = told["choices"]
    assert choice["message"] == {"role": "assistant", "content": TEXT}
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)
    assert (told["object"], told["model"]) == ("chat.completion", "tiny")
    usage = told["usage"]
    assert usage["prompt_tokens"] == len(served.serving.asked.prompt)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 1}


def test_the_prompt_is_the_conversation_by_the_models_template(served: Served) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    ask(served, messages=[{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}])
    text = served.serving.tokenizer.decode(served.serving.asked.prompt, skip_special=False)
    assert text == ("<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\na\nb<|im_end|>\n<|im_start|>assistant\n")


def test_parameters_reach_the_engine(served: Served) -> None:
    ask(
        served, temperature=0.5, top_p=0.9, top_k=40, min_p=0.1, seed=7, presence_penalty=0.5, frequency_penalty=-0.5,
        repetition_penalty=1.1, logit_bias={"5": -100, "6": 2.5}, max_completion_tokens=9, stop="x", min_tokens=2,
        stop_token_ids=[4], ignore_eos=True, priority=3, top_logprobs=2,
    )  # fmt: skip
    asked = served.serving.asked
    sampling = asked.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p, sampling.seed) == (
        0.5,
        0.9,
        40,
        0.1,
        7,
    )
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty) == (0.5, -0.5, 1.1)
    assert sampling.logit_bias == ((5, -100.0), (6, 2.5))
    assert asked.limits == Limits(max_tokens=9, min_tokens=2, stop=("x",), stop_ids=(4,), ignore_end=True)
    assert (asked.priority, asked.logprobs) == (3, 2)


def test_what_is_left_out_is_openais_default(served: Served) -> None:
    ask(served)
    first = served.serving.asked
    ask(served)
    assert (first.sampling.temperature, first.sampling.top_p, first.sampling.top_k) == (1.0, 1.0, 0)
    assert first.limits == Limits(max_tokens=served.serving.manifest.context_length - len(first.prompt))
    assert first.sampling.seed != served.serving.asked.sampling.seed
    assert (first.logprobs, first.priority, first.owner) == (None, 0, "")


@pytest.mark.parametrize(
    ("given", "most"),
    [
        ({"max_tokens": 3}, 3),
        ({"max_tokens": 3, "max_completion_tokens": 2}, 2),
        ({"max_completion_tokens": 10**9}, 211),
    ],
)
def test_an_answer_has_at_most_the_tokens_that_were_asked_for_and_that_fit(
    served: Served, given: dict[str, int], most: int
) -> None:
    ask(served, **given)
    assert served.serving.asked.limits.max_tokens == most


@pytest.mark.parametrize(("temperature", "taken"), [(0, 0.0), (0.00005, 0.0), (0.0001, 0.0001)])
def test_a_temperature_too_low_to_matter_is_zero(served: Served, temperature: float, taken: float) -> None:
    ask(served, temperature=temperature)
    assert served.serving.asked.sampling.temperature == taken


@pytest.mark.parametrize(("seed", "seeds"), [(7, [7, 8]), (-1, [2**64 - 1, 0]), (None, None)])
def test_n_answers_have_seeds_in_a_row(served: Served, seed: int | None, seeds: list[int] | None) -> None:
    told = ask(served, n=2, seed=seed)
    drawn = [answer.request.sampling.seed for answer in served.serving.answers]
    assert seeds is None or drawn == seeds
    assert (drawn[1] - drawn[0]) % 2**64 == 1
    assert [choice["index"] for choice in told["choices"]] == [0, 1]
    assert told["usage"]["prompt_tokens"] == len(served.serving.asked.prompt)
    assert told["usage"]["completion_tokens"] == 2 * 7


def test_ids_of_prompt_and_answer_are_told_whole_and_streamed_if_asked_for(served: Served) -> None:
    whole = ask(served, return_token_ids=True)
    assert whole["prompt_token_ids"] == list(served.serving.asked.prompt)
    told = whole["choices"][0]["token_ids"]
    assert served.serving.tokenizer.decode(told) == TEXT
    body = {"messages": HELLO, "stream": True, "return_token_ids": True}
    (first, *rest) = [event for event in events(served.post(PATH, body)) if event != "[DONE]"]
    assert first["prompt_token_ids"] == whole["prompt_token_ids"]
    assert [token for event in rest for token in event["choices"][0]["token_ids"]] == told
    assert not any("prompt_token_ids" in event for event in rest)
    assert "token_ids" not in ask(served)["choices"][0]


def test_logprobs_tell_token_bytes_and_alternatives(served: Served) -> None:
    (first, *_) = ask(served, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    assert (first["token"], first["logprob"], bytes(first["bytes"])) == ("hello", -0.5, b"hello")
    assert [(other["token"], other["logprob"]) for other in first["top_logprobs"]] == [("hello", -0.5), (" w", -1.5)]
    assert ask(served, logprobs=True)["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []
    assert ask(served, logprobs=False)["choices"][0]["logprobs"] is None


def test_a_stream_tells_the_same_as_a_whole_answer(served: Served) -> None:
    parameters = {"messages": HELLO, "n": 2, "seed": 1, "logprobs": True}
    whole = served.post(PATH, parameters).json()
    *chunks, usage, done = events(
        served.post(PATH, {**parameters, "stream": True, "stream_options": {"include_usage": True}})
    )
    assert done == "[DONE]"
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all(chunk["usage"] is None for chunk in chunks)
    for choice in whole["choices"]:
        own = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(c["delta"].get("content", "") for c in own) == choice["message"]["content"]
        assert [c["finish_reason"] for c in own] == [None] * (len(own) - 1) + [choice["finish_reason"]]
        assert own[-1]["delta"] == {}
        told = [token for c in own if c["logprobs"] for token in c["logprobs"]["content"]]
        assert told == choice["logprobs"]["content"]


def test_answers_of_one_request_are_interleaved(served: Served) -> None:
    chunks = events(served.post(PATH, {"messages": HELLO, "n": 2, "stream": True}))[:-1]
    said = [c["index"] for chunk in chunks for c in chunk["choices"] if c["delta"].get("content")]
    assert said == [0, 1] * 6


def test_without_include_usage_no_event_has_it(served: Served) -> None:
    chunks = events(served.post(PATH, {"messages": HELLO, "stream": True}))
    assert all("usage" not in chunk for chunk in chunks[:-1])
    assert all(None not in c["delta"].values() for chunk in chunks[:-1] for c in chunk["choices"])


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "a"}]}, "messages"),
        ({"tools": [{"type": "function", "function": {"name": "add"}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, None),
        ({"messages": [{"role": "user", "content": "x", "name": "me"}]}, "messages[0]"),
        ({"logit_bias": {"9999": 1}}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias[...]"),
        ({"n": 17}, "n"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": ""}, "stop"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"self": 1}}, "chat_template_kwargs"),
        ({"response_format": {"type": "unheard of"}}, "response_format.type"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ],
)
def test_a_value_that_cannot_be_had_is_refused_with_its_parameter(
    served: Served, parameters: dict[str, Any], param: str | None
) -> None:
    told = refused(served, **parameters)
    assert told["type"] == "invalid_request_error"
    assert param is None or told["param"] == param
    assert served.serving.answers == []


def test_a_model_that_is_not_served_is_not_found(served: Served) -> None:
    assert refused(served, 404, model="gpt-4")["code"] == "model_not_found"


def test_a_prompt_that_does_not_fit_is_refused(tiny_path: Path) -> None:
    served = Served(tiny_path, max_model_len=50)
    assert (
        refused(served, messages=[{"role": "user", "content": "a b c d e f g h"}])["code"] == "context_length_exceeded"
    )
    huge = refused(served, messages=[{"role": "user", "content": "a" * 100_000}])
    assert "far more" in huge["message"]


def test_a_model_without_a_template_is_asked_for_completions_instead(served: Served) -> None:
    served.serving.chat_template = None
    assert "/v1/completions" in refused(served)["message"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RequestError("too long"), 400),
        (Overloaded("too much waits", 3.2), 429),
        (ProcessorLost("it went away"), 503),
        (DeviceError("no memory"), 500),
    ],
)
def test_what_the_engine_refuses_has_its_status(served: Served, error: Any, status: int) -> None:
    served.serving.refusing = lambda request: error
    told = served.post(PATH, {"messages": HELLO})
    assert (told.status_code, told.json()["error"]["message"]) == (status, str(error))
    assert told.headers.get("retry-after") == {429: "3", 503: "1"}.get(status)


def test_if_one_of_n_answers_cannot_be_had_none_goes_on(served: Served) -> None:
    served.serving.refusing = lambda _: Overloaded("full", 1.0) if len(served.serving.answers) == 2 else None
    refused(served, 429, n=3)
    assert [answer.cancelled for answer in served.serving.answers] == [True, True]


def test_an_engine_that_fails_ends_a_whole_answer_with_a_status_and_a_stream_with_an_event(served: Served) -> None:
    served.serving.failing = ProcessorLost("it went away")
    assert refused(served, 503, n=2)["message"] == "it went away"
    *_, error, done = events(served.post(PATH, {"messages": HELLO, "stream": True, "n": 2}))
    assert error["error"]["message"] == "it went away"
    assert done == "[DONE]"
    assert all(answer.cancelled for answer in served.serving.answers)


def test_no_text_of_a_request_is_in_its_record(served: Served) -> None:
    secret = "xylophone"
    ask(served, messages=[{"role": "user", "content": secret}], user=secret)
    line = served.records[-1].line()
    assert secret not in json.dumps(line)
    assert TEXT not in json.dumps(line)
    assert (line["route"], line["status"], line["generated_tokens"]) == (PATH, 200, 7)
