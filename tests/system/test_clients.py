"""The clients that people have: OpenAI's and Anthropic's, on a socket, as they are."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from fake_serving import TEXT, TOOLS
from http_server import Running, running
from openai.types.chat import ChatCompletionMessageParam

from twofold.errors import Overloaded, ProcessorLost
from twofold.server.shelves import Shelves
from twofold.store.contexts import Contexts, Quota
from twofold.units import GIB

KEY = "a-key-of-many-letters"
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
CALL = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
ADD: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


@pytest.fixture
def server(roomy_path: Path, tmp_path: Path) -> Iterator[Running]:
    shelves = Shelves(lambda owner: Contexts(tmp_path / owner, Quota(GIB)))
    with running(roomy_path, template=TOOLS, keys={"tests": KEY}, shelves=shelves) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def claude(server: Running) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


def test_openai_answers_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="tiny", messages=HELLO, n=2, seed=1, logprobs=True, top_logprobs=3)
    assert [choice.message.content for choice in whole.choices] == [TEXT, TEXT]
    assert whole.choices[0].logprobs is not None
    assert whole.usage is not None
    assert whole._request_id
    stream = client.chat.completions.create(
        model="tiny", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices) == TEXT
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens


def test_openai_calls_tools_and_parses_forms(server: Running, client: openai.OpenAI) -> None:
    server.serving.text = CALL
    answer = client.chat.completions.create(model="tiny", messages=HELLO, tools=[ADD]).choices[0]
    assert answer.finish_reason == "tool_calls"
    (call,) = answer.message.tool_calls or []
    back: Any = answer.message.model_dump()
    result: ChatCompletionMessageParam = {"role": "tool", "tool_call_id": call.id, "content": "2"}
    server.serving.text = TEXT
    again = client.chat.completions.create(model="tiny", messages=[*HELLO, back, result], tools=[ADD])
    assert again.choices[0].message.content == TEXT


def test_openai_completions_models_and_responses(client: openai.OpenAI) -> None:
    assert client.completions.create(model="tiny", prompt=["hello", "the"], max_tokens=2).choices[1].text == "hello the"
    assert [model.id for model in client.models.list()] == ["tiny"]
    response = client.responses.create(model="tiny", input="hello", store=False)
    assert (response.output_text, response.status) == (TEXT, "completed")
    events = list(client.responses.create(model="tiny", input="hello", stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    assert events[-1].type == "response.completed"


def test_openai_s_responses_call_tools_and_read_what_they_gave(server: Running, client: openai.OpenAI) -> None:
    tools: Any = [{"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": False}]
    server.serving.text = f"<think>hm</think>well {CALL}"
    first = client.responses.create(model="tiny", input="hello", tools=tools)
    assert [item.type for item in first.output] == ["reasoning", "message", "function_call"]
    with client.responses.stream(model="tiny", input="hello", tools=tools) as stream:
        events = list(stream)
    last = stream.get_final_response()
    assert [item.type for item in last.output] == [item.type for item in first.output]
    deltas = [event for event in events if event.type == "response.function_call_arguments.delta"]
    assert deltas[-1].snapshot == '{"a": 1}'
    call = first.output[-1]
    assert call.type == "function_call"
    assert (call.name, call.arguments) == ("add", '{"a": 1}')
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "2"}
    server.serving.text = TEXT
    past: Any = [{"role": "user", "content": "hello"}, *(item.to_dict() for item in first.output), result]
    again = client.responses.create(
        model="tiny", input=past, tools=tools, include=["message.output_text.logprobs"], top_logprobs=2
    )
    (message,) = again.output
    assert message.type == "message"
    (text,) = message.content
    assert text.type == "output_text"
    assert "".join(one.token for one in text.logprobs or []).startswith(TEXT)
    assert {len(one.top_logprobs) for one in text.logprobs or []} == {2}


def test_openai_reads_our_errors_as_its_own(server: Running, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="is not served here") as missing:
        client.chat.completions.create(model="gpt-4", messages=HELLO)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="audio is not supported") as refused:
        client.chat.completions.create(model="tiny", messages=HELLO, audio={"voice": "alloy", "format": "wav"})
    assert refused.value.param == "audio"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    server.serving.failing = ProcessorLost("it went away")
    with pytest.raises(openai.APIError, match="it went away"):
        list(client.chat.completions.create(model="tiny", messages=HELLO, stream=True))


def test_openai_comes_back_after_429_as_it_was_told(server: Running, client: openai.OpenAI) -> None:
    refusals = iter([Overloaded("full", 1.0)])
    server.serving.refusing = lambda request: next(refusals, None)
    answer = client.with_options(max_retries=1).chat.completions.create(model="tiny", messages=HELLO)
    assert answer.choices[0].message.content == TEXT


def test_a_client_that_times_out_or_closes_its_stream_cancels_its_answer(
    server: Running, client: openai.OpenAI
) -> None:
    server.serving.held = True
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(model="tiny", messages=HELLO)
    stream = client.chat.completions.create(model="tiny", messages=HELLO, stream=True)
    next(stream)
    stream.close()
    assert all(answer.ended.wait(5) and answer.cancelled for answer in server.serving.answers)
    assert len(server.serving.answers) == 2


def test_openai_goes_on_in_a_context_and_one_that_goes_away_leaves_the_last_good_copy(
    server: Running, client: openai.OpenAI
) -> None:
    rain: Any = {"context": "rain"}
    client.post("/contexts", body={"name": "rain"}, cast_to=object)
    for _ in range(2):
        client.chat.completions.create(model="tiny", messages=HELLO, extra_body=rain)
    before: Any = client.get("/contexts/rain", cast_to=object)
    server.serving.held = True
    stream = client.chat.completions.create(model="tiny", messages=HELLO, extra_body=rain, stream=True)
    next(stream)
    with pytest.raises(openai.ConflictError) as refused:
        client.chat.completions.create(model="tiny", messages=HELLO, extra_body=rain)
    assert refused.value.code == "context_in_use"
    stream.close()
    assert server.serving.answers[-1].ended.wait(5)
    server.serving.held = False
    after: Any = client.get("/contexts/rain", cast_to=object)
    assert (len(before["turns"]), after["turns"]) == (4, before["turns"])
    again = client.with_options(max_retries=5).chat.completions.create(model="tiny", messages=HELLO, extra_body=rain)
    assert again.choices[0].message.content == TEXT


def test_anthropic_answers_whole_streamed_and_counted(claude: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": "hello"}]
    whole = claude.messages.create(model="tiny", max_tokens=50, messages=messages, system="be brief")
    assert whole.content[0].to_dict() == {"type": "text", "text": TEXT}
    assert whole.stop_reason == "end_turn"
    with claude.messages.stream(model="tiny", max_tokens=50, messages=messages) as stream:
        assert "".join(stream.text_stream) == TEXT
        assert stream.get_final_message().usage.output_tokens == whole.usage.output_tokens
    assert claude.messages.count_tokens(model="tiny", messages=messages).input_tokens > 5


def test_anthropic_calls_tools(server: Running, claude: anthropic.Anthropic) -> None:
    server.serving.text = f"<think>hm</think>well {CALL}"
    messages: Any = [{"role": "user", "content": "hello"}]
    tools: Any = [{"name": "add", "input_schema": {"type": "object"}}]
    with claude.messages.stream(model="tiny", max_tokens=500, messages=messages, tools=tools) as stream:
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert message.stop_reason == "tool_use"
    call = message.content[-1]
    assert (call.name, call.input) == ("add", {"a": 1})  # type: ignore[union-attr]
    messages += [
        {"role": "assistant", "content": [block.to_dict() for block in message.content]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "2"}]},  # type: ignore[union-attr]
    ]
    server.serving.text = TEXT
    again = claude.messages.create(model="tiny", max_tokens=500, messages=messages, tools=tools)
    assert again.content[0].to_dict() == {"type": "text", "text": TEXT}


def test_what_anthropic_s_client_puts_into_headers_is_in_no_body(claude: anthropic.Anthropic) -> None:
    headers: Any = {"betas": ["a-beta"], "user_profile_id": "a", "workspace_id": "a"}
    messages: Any = [{"role": "user", "content": "hello"}]
    answer = claude.beta.messages.create(model="tiny", max_tokens=50, messages=messages, **headers)
    assert answer.content[0].to_dict() == {"type": "text", "text": TEXT}


def test_anthropic_reads_our_errors_as_its_own(server: Running, claude: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": "hello"}]
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="claude", max_tokens=5, messages=messages)
    with pytest.raises(anthropic.AuthenticationError):
        claude.with_options(api_key="wrong").messages.create(model="tiny", max_tokens=5, messages=messages)
    server.serving.refusing = lambda request: Overloaded("full", 1.0)
    with pytest.raises(anthropic.RateLimitError):
        claude.messages.create(model="tiny", max_tokens=5, messages=messages)


def test_while_the_model_loads_clients_are_told_to_come_back_and_do(tiny_path: Path) -> None:
    with running(tiny_path, opened=False) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.InternalServerError, match="loading the weights, 50 %") as refused:
            client.chat.completions.create(model="tiny", messages=HELLO)
        assert refused.value.response.headers["retry-after"] == "2"
        threading.Timer(0.2, server.opened.set).start()
        answer = client.with_options(max_retries=5).chat.completions.create(model="tiny", messages=HELLO)
        assert answer.choices[0].message.content == TEXT
