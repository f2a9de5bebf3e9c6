"""`twofold.LLM` in conversations: kept ones, tools, and reasoning apart from what is said."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_gguf
from fake_serving import TOOLS
from tiny_gguf import TinyLlama, write_tiny_llama

from twofold import LLM, Message, Output, Tool
from twofold.engine.asking import ChatOptions
from twofold.errors import ContextError, ContextInUse, ContextTaken, NoContext, OtherModel, RequestError

SAID = ("hello", "the world", "in on re")
SEEDED: ChatOptions = {"temperature": 0.9, "top_p": 0.9, "seed": 7, "max_tokens": 12, "logprobs": 2}
ADD = Tool("add", None, {"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"]})
CALL = {"type": "function", "function": {"name": "add", "parameters": ADD.parameters}}


@pytest.fixture(scope="module")
def llm(roomy_path: Path) -> Iterator[LLM]:
    with LLM(roomy_path, threads=1) as llm:
        yield llm


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def able(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    """A model whose template knows tools, and whose prompts end inside the reasoning if it is told to think."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_gguf, "CHAT_TEMPLATE", TOOLS)
        path = write_tiny_llama(tmp_path_factory.mktemp("able") / "able.gguf", TinyLlama(context_length=4096))
    with LLM(path, threads=1) as llm:
        yield llm


def answer(output: Output) -> Any:
    return output.text, output.token_ids, output.logprobs


def never_stopped(llm: LLM) -> list[Any]:
    """What three turns have for answers, each asked with all that was said before."""
    said, answers = list[Message](), []
    for text in SAID:
        said.append(Message("user", text))
        output = llm.chat(said, **SEEDED)
        said.append(Message("assistant", output.text))
        answers.append(answer(output))
    return answers


def streamed(llm: LLM, text: str, context: str) -> Output:
    stream = llm.stream_chat(text, context=context, **SEEDED)
    assert "".join(stream) == stream.output.text
    return stream.output


async def astreamed(llm: LLM, text: str, context: str) -> Output:
    stream = await llm.astream_chat(text, context=context, **SEEDED)
    assert "".join([piece async for piece in stream]) == stream.output.text
    return stream.output


@pytest.mark.parametrize("way", ["chat", "achat", "stream_chat", "astream_chat"])
def test_a_kept_conversation_equals_one_that_never_stops(llm: LLM, way: str) -> None:
    ways = {
        "chat": lambda text: llm.chat(text, context="rain", **SEEDED),
        "achat": lambda text: asyncio.run(llm.achat(text, context="rain", **SEEDED)),
        "stream_chat": lambda text: streamed(llm, text, "rain"),
        "astream_chat": lambda text: asyncio.run(astreamed(llm, text, "rain")),
    }
    llm.contexts.begin("rain")
    outputs = [ways[way](text) for text in SAID]
    assert [answer(output) for output in outputs] == never_stopped(llm)
    assert outputs[2].usage.cached_tokens > outputs[1].usage.cached_tokens > outputs[0].usage.cached_tokens
    assert [one.messages for one in llm.contexts.list()] == [6]


def test_conversations_are_forked_saved_loaded_renamed_and_deleted(llm: LLM, tmp_path: Path) -> None:
    expected = never_stopped(llm)
    contexts = llm.contexts
    contexts.begin("rain")
    for text in SAID[:2]:
        llm.chat(text, context="rain", **SEEDED)
    contexts.fork("rain", "snow")
    contexts.save("snow", tmp_path / "snow.context")
    contexts.delete("snow")
    contexts.load(tmp_path / "snow.context", "hail")
    contexts.rename("hail", "sleet")
    assert [answer(llm.chat(SAID[2], context=name, **SEEDED)) for name in ("rain", "sleet")] == [expected[2]] * 2
    assert [one.name for one in contexts.list()] == ["rain", "sleet"]


def test_what_is_not_kept_in_use_or_of_another_model_is_refused_by_name(llm: LLM, able: LLM, tmp_path: Path) -> None:
    with pytest.raises(NoContext):
        llm.chat("hello", context="rain")
    llm.contexts.begin("rain")
    with pytest.raises(ContextTaken):
        llm.contexts.begin("rain")
    with llm.stream_chat("hello", context="rain", max_tokens=1000), pytest.raises(ContextInUse):
        llm.chat("hello", context="rain")
    with pytest.raises(OtherModel):
        able.chat("hello", context="rain")
    llm.contexts.save("rain", tmp_path / "rain")
    with pytest.raises(OtherModel):
        able.contexts.load(tmp_path / "rain", "snow")
    (tmp_path / "rain").write_bytes(b"nothing")
    with pytest.raises(ContextError, match="not a context file"):
        llm.contexts.load(tmp_path / "rain", "snow")


@pytest.mark.parametrize("way", ["stream", "cancelled task", "refused"])
def test_an_answer_that_was_not_read_to_its_end_leaves_the_last_good_copy_and_lets_go(llm: LLM, way: str) -> None:
    async def given_up() -> None:
        task = asyncio.create_task(llm.achat("hello", context="rain", max_tokens=60_000, ignore_end=True))
        while not llm._serving.status().running:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    llm.contexts.begin("rain")
    llm.chat("hello", context="rain", **SEEDED)
    if way == "stream":
        with llm.stream_chat("hello", context="rain", max_tokens=60_000, ignore_end=True) as stream:
            next(stream)
    elif way == "refused":
        with pytest.raises(RequestError):
            llm.chat("hello", context="rain", temperature=-1.0)
    else:
        asyncio.run(given_up())
    assert [one.messages for one in llm.contexts.list()] == [2]
    llm.chat("hello", context="rain", **SEEDED)
    assert [one.messages for one in llm.contexts.list()] == [4]


@pytest.mark.parametrize("tool", [ADD, CALL], ids=["record", "dictionary"])
def test_a_call_that_is_asked_for_is_made_and_its_result_is_told(able: LLM, tool: Any) -> None:
    for choice in ("required", "add"):
        output = able.chat("hello", tools=[tool], tool_choice=choice, max_tokens=200)
        assert output.finish_reason == "tool_calls"
        assert {(call.name, "".join(call.arguments.split())) for call in output.tool_calls} == {("add", '{"a":1}')}
        assert output.text == ""
    said = [Message("user", "hello"), Message("assistant", "", tool_calls=output.tool_calls)]
    told = Message("tool", "2", tool_call_id=output.tool_calls[0].id)
    assert able.chat([*said, told], tools=[tool], tool_choice="none", max_tokens=3).tool_calls == ()


def test_reasoning_is_apart_from_what_is_said(able: LLM) -> None:
    plain = able.generate("hello", max_tokens=5, ignore_end=True)
    thinking = able.chat("hello", variables={"thinking": True}, max_tokens=5, ignore_end=True)
    speaking = able.chat("hello", variables={"thinking": False}, max_tokens=5, ignore_end=True)
    assert thinking.text == speaking.reasoning == plain.reasoning == ""
    assert thinking.reasoning
    assert speaking.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tools": [{"type": "function"}]}, "a tool is wrong"),
        ({"tools": [3]}, "a tool is wrong"),
        ({"tools": [ADD, ADD]}, "two tools have the same name"),
        ({"tool_choice": "required"}, "there are no tools"),
        ({"tools": [ADD], "tool_choice": "subtract"}, "subtract"),
        ({"tools": [ADD], "tool_choice": "required", "regex": "a"}, "calls and of another form"),
        ({"variables": {"tools": []}}, "set by Twofold"),
    ],
)
def test_tools_that_are_wrong_are_refused_by_name(able: LLM, options: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        able.chat("hello", **options)


def test_a_model_that_knows_no_tools_says_so(llm: LLM) -> None:
    with pytest.raises(RequestError, match="knows no tools"):
        llm.chat("hello", tools=[ADD])
    with pytest.raises(RequestError, match="knows no tools"):
        llm.chat([Message("user", "hello"), Message("tool", "2", tool_call_id="a")])
