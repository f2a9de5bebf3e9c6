"""Completions: prompts in four ways, and answers in their shape."""

from typing import Any

import pytest
from fake_serving import TEXT
from served import Served, events

PATH = "/v1/completions"


def ask(served: Served, **parameters: Any) -> Any:
    answer = served.post(PATH, parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("hello", ["hello"]),
        (["hello", "the"], ["hello", "the"]),
        ([5, 6], [(5, 6)]),
        ([[5, 6], [7]], [(5, 6), (7,)]),
    ],
)
def test_a_prompt_is_text_or_tokens_or_a_list_of_either(served: Served, prompt: object, asked: list[Any]) -> None:
    told = ask(served, prompt=prompt, max_tokens=2)
    tokenizer = served.serving.tokenizer
    wanted = [tuple(tokenizer.encode(one)) if isinstance(one, str) else one for one in asked]
    assert [answer.request.prompt for answer in served.serving.answers] == wanted
    assert [choice["text"] for choice in told["choices"]] == ["hello the"] * len(asked)
    assert told["usage"]["prompt_tokens"] == sum(map(len, wanted))


def test_n_answers_to_each_prompt_stand_in_a_row(served: Served) -> None:
    told = ask(served, prompt=["hello", "the the"], n=2, seed=5)
    answers = served.serving.answers
    assert [answer.request.sampling.seed for answer in answers] == [5, 6, 5, 6]
    assert answers[0].request.prompt == answers[1].request.prompt != answers[2].request.prompt
    assert [choice["index"] for choice in told["choices"]] == [0, 1, 2, 3]
    assert told["usage"]["prompt_tokens"] == len(answers[0].request.prompt) + len(answers[2].request.prompt)


def test_sixteen_tokens_are_the_default(served: Served) -> None:
    ask(served, prompt="hello")
    assert served.serving.asked.limits.max_tokens == 16


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"prompt": ["a", 5]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [10**6]}, "prompt"),
        ({"prompt": ["a"] * 65}, "prompt"),
        ({"prompt": "a", "n": 17}, "n"),
        ({"prompt": "a", "logprobs": 21}, "logprobs"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "a", "echo": True}, "echo"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
    ],
)
def test_a_value_that_cannot_be_had_is_refused_with_its_parameter(
    served: Served, parameters: dict[str, Any], param: str
) -> None:
    answer = served.post(PATH, parameters)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert served.serving.answers == []


def test_ids_of_prompts_and_answers_are_told_whole_and_streamed_if_asked_for(served: Served) -> None:
    parameters = {"prompt": [[5, 6], [7]], "return_token_ids": True}
    choices = ask(served, **parameters)["choices"]
    assert [choice["prompt_token_ids"] for choice in choices] == [[5, 6], [7]]
    told: dict[int, list[int]] = {0: [], 1: []}
    prompts = {}
    for event in events(served.post(PATH, {**parameters, "stream": True})):
        for choice in () if event == "[DONE]" else event["choices"]:
            told[choice["index"]] += choice["token_ids"]
            if "prompt_token_ids" in choice:
                assert choice["index"] not in prompts
                prompts[choice["index"]] = choice["prompt_token_ids"]
    assert prompts == {0: [5, 6], 1: [7]}
    assert told == {choice["index"]: choice["token_ids"] for choice in choices}
    assert "token_ids" not in ask(served, prompt="a")["choices"][0]


def test_logprobs_stand_in_lists_with_the_place_of_each_token(served: Served) -> None:
    told = ask(served, prompt="a", logprobs=2)["choices"][0]["logprobs"]
    assert "".join(told["tokens"]) == TEXT + "<|im_end|>"
    assert told["text_offset"] == [0, 5, 9, 12, 13, 14, 15]
    assert set(told["token_logprobs"]) == {-0.5}
    assert told["top_logprobs"][0] == {"hello": -0.5, " w": -1.5}


def test_a_stream_tells_the_same_as_a_whole_answer(served: Served) -> None:
    parameters = {"prompt": ["hello", "the"], "n": 2, "logprobs": 1, "seed": 3}
    whole = ask(served, **parameters)
    *chunks, usage, done = events(
        served.post(PATH, {**parameters, "stream": True, "stream_options": {"include_usage": True}})
    )
    assert (done, usage["usage"]) == ("[DONE]", whole["usage"])
    for choice in whole["choices"]:
        own = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        assert "".join(c["text"] for c in own) == choice["text"]
        assert own[-1]["finish_reason"] == choice["finish_reason"]
        for name, values in choice["logprobs"].items():
            assert [value for c in own for value in c["logprobs"][name]] == values
