"""`twofold.LLM`: the same answers whichever way they are asked for, and errors by name."""

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from twofold import LLM, Limits, Message, Output, Sampling
from twofold.engine.answer import Answer
from twofold.engine.asking import Options
from twofold.engine.request import Request
from twofold.engine.seen import Seen
from twofold.errors import ConfigurationError, ModelError, RequestError

PROMPTS = ["hello", "the world", "in on re", "hello the", "a"]
SCHEMA = {"enum": ["hello", "the world"]}
SEEDED: Options = {"temperature": 0.9, "top_p": 0.9, "seed": 7, "max_tokens": 12, "ignore_end": True}


@pytest.fixture(scope="module")
def llm(tiny_path: Path) -> Iterator[LLM]:
    with LLM(tiny_path, threads=1) as llm:
        yield llm


def content(output: Output) -> tuple[object, ...]:
    """All of an answer that load may not change; how much was computed anew it may."""
    return output.text, output.token_ids, output.finish_reason, output.usage.prompt_tokens, output.logprobs


def test_a_batch_equals_its_prompts_one_by_one_in_order(llm: LLM) -> None:
    batch = llm.generate(PROMPTS, logprobs=2, **SEEDED)
    alone = [llm.generate(prompt, logprobs=2, **SEEDED) for prompt in PROMPTS]
    assert [content(output) for output in batch] == [content(output) for output in alone]
    assert len({output.text for output in batch}) == len(PROMPTS)


def test_more_prompts_than_are_asked_at_once_are_all_answered(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = llm.generate(PROMPTS * 3, max_tokens=2)
    monkeypatch.setattr("twofold.llm.AT_ONCE", 2)
    assert [content(o) for o in llm.generate(PROMPTS * 3, max_tokens=2)] == [content(o) for o in whole]
    again = asyncio.run(llm.agenerate(PROMPTS * 3, max_tokens=2))
    assert [content(o) for o in again] == [content(o) for o in whole]


def test_token_ids_are_gone_on_with_as_their_text_is(llm: LLM) -> None:
    ids = llm.tokenizer.encode("hello the")
    assert content(llm.generate(ids, **SEEDED)) == content(llm.generate("hello the", **SEEDED))
    assert [content(output) for output in llm.generate([ids, ids], **SEEDED)] == [
        content(llm.generate(ids, **SEEDED)) for _ in range(2)
    ]


def test_no_prompts_have_no_answers(llm: LLM) -> None:
    assert llm.generate([]) == []


def test_each_async_method_equals_its_plain_one(llm: LLM) -> None:
    async def asked() -> list[Any]:
        pair = asyncio.gather(llm.agenerate("hello", **SEEDED), llm.achat("hello", **SEEDED))
        streams = [await llm.astream("hello", **SEEDED), await llm.astream_chat("hello", **SEEDED)]
        texts = ["".join([text async for text in stream]) for stream in streams]
        return [*await pair, await llm.agenerate(PROMPTS, **SEEDED), texts, [stream.output for stream in streams]]

    one, turn, several, texts, outputs = asyncio.run(asked())
    assert content(one) == content(llm.generate("hello", **SEEDED)) == content(outputs[0])
    assert content(turn) == content(llm.chat("hello", **SEEDED)) == content(outputs[1])
    assert list(map(content, several)) == list(map(content, llm.generate(PROMPTS, **SEEDED)))
    assert texts == [one.text, turn.text]


def test_the_pieces_of_a_stream_joined_are_the_answer(llm: LLM) -> None:
    whole = llm.generate("hello", logprobs=0, **SEEDED)
    stream = llm.stream("hello", logprobs=0, **SEEDED)
    pieces = list(stream)
    assert "".join(pieces) == whole.text
    assert len(pieces) > 1
    assert content(stream.output) == content(whole)


def test_the_whole_of_a_stream_is_not_there_before_its_end(llm: LLM) -> None:
    with llm.stream("hello", **SEEDED) as stream:
        next(stream)
        with pytest.raises(RequestError, match="iterate to its end"):
            _ = stream.output


@pytest.mark.parametrize("letting_go", ["closed", "deleted"])
def test_an_answer_that_nobody_reads_to_its_end_is_cancelled(letting_go: str, roomy_path: Path) -> None:
    with LLM(roomy_path, threads=1) as llm:
        stream = llm.stream("hello", max_tokens=60_000, ignore_end=True)
        next(stream)
        if letting_go == "closed":
            stream.close()
            assert len("".join(stream)) < 60_000
            assert stream.output.finish_reason == "cancelled"
        else:
            del stream
            gc.collect()
        llm.generate("a", max_tokens=1)  # a step later than that in which it ended
        assert llm._serving.status().running == 0
        assert llm._serving.status().finished["cancelled"] == 1


def test_to_cancel_the_task_that_waits_ends_all_its_answers(roomy_path: Path) -> None:
    async def given_up(llm: LLM) -> None:
        task = asyncio.create_task(llm.agenerate(["hello", "a"], max_tokens=60_000, ignore_end=True))
        while llm._serving.status().running < 2:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with LLM(roomy_path, threads=1) as llm:
        asyncio.run(given_up(llm))
        llm.generate("a", max_tokens=1)
        assert llm._serving.status().finished["cancelled"] == 2


def test_to_cancel_a_task_whose_answer_is_about_to_begin_ends_it_too(
    roomy_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    async def given_up(llm: LLM) -> None:
        task = asyncio.create_task(llm.agenerate("hello", max_tokens=60_000, ignore_end=True))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()

    with LLM(roomy_path, threads=1) as llm:
        submit = llm._serving.submit

        def slowly(request: Request, before: Seen) -> Answer:
            begun.set()
            go_on.wait()
            return submit(request, before)

        monkeypatch.setattr(llm._serving, "submit", slowly)
        asyncio.run(given_up(llm))
        llm.generate("a", max_tokens=1)
        assert llm._serving.status().finished["cancelled"] == 1


@pytest.mark.parametrize("finder", ["the main thread", "another thread", "the engine's thread"])
def test_what_nobody_has_any_more_is_closed_whoever_finds_out(finder: str, roomy_path: Path) -> None:
    llm: Any = LLM(roomy_path, threads=1)
    llm.itself, thread = llm, llm._serving._thread
    llm.stream_ = llm.stream("hello", max_tokens=60_000, ignore_end=True)
    if finder == "the engine's thread":
        plan = llm._serving._scheduler.plan
        llm._serving._scheduler.plan = lambda now: (gc.collect(), plan(now))[1]
    del llm
    if finder == "the main thread":
        gc.collect()
    elif finder == "another thread":
        other = threading.Thread(target=gc.collect)
        other.start()
        other.join()
    thread.join(60)
    assert not thread.is_alive()


def test_a_prompt_that_is_refused_ends_the_others_of_its_list(roomy_path: Path) -> None:
    with LLM(roomy_path, threads=1, context=128) as llm:
        with pytest.raises(RequestError, match="only 127 fit"):
            llm.generate([[1], [2] * 200], max_tokens=60_000, ignore_end=True)
        llm.generate("a", max_tokens=1)
        assert llm._serving.status().finished["cancelled"] == 1


def test_a_conversation_is_gone_on_with_as_the_chat_template_says(llm: LLM) -> None:
    text = "<|im_start|>system\nhello<|im_end|>\n<|im_start|>user\nthe world<|im_end|>\n<|im_start|>assistant\n"
    expected = content(llm.generate(llm.tokenizer.encode(text, add_bos=False), **SEEDED))
    messages = [{"role": "system", "content": "hello"}, {"role": "user", "content": "the world"}]
    assert content(llm.chat(messages, **SEEDED)) == expected
    assert content(llm.chat([Message("system", "hello"), messages[1]], **SEEDED)) == expected


def test_an_answer_has_the_form_that_is_asked_for(llm: LLM) -> None:
    schema = llm.generate("hello", json_schema=SCHEMA, max_tokens=60)
    jsonschema.validate(msgspec.json.decode(schema.text), SCHEMA)
    assert llm.generate("hello", json_schema=msgspec.json.encode(SCHEMA).decode(), max_tokens=60).text == schema.text
    assert llm.generate("hello", regex="(he|in){3}", max_tokens=60).text in {
        a + b + c for a in ("he", "in") for b in ("he", "in") for c in ("he", "in")
    }
    assert llm.generate("hello", grammar='start: "wo" "re"', max_tokens=60).text == "wore"
    assert llm.generate("hello", json_object=True, max_tokens=60).text.lstrip().startswith("{")


def test_every_option_of_sampling_and_limits_can_be_given_by_its_name(llm: LLM) -> None:
    fields = Sampling.__dataclass_fields__.keys() | set(Limits.__struct_fields__)
    assert fields <= Options.__annotations__.keys()
    sampling = Sampling(temperature=0.8, top_k=30, min_p=0.01, seed=3, logit_bias=((40, 5.0),))
    limits = Limits(9, stop=("zz",), ignore_end=True)
    records = llm.generate("hello", sampling=sampling, limits=limits)
    names = llm.generate(
        "hello", temperature=0.8, top_k=30, min_p=0.01, seed=3, logit_bias={40: 5}, max_tokens=9, stop="zz",
        ignore_end=True,
    )  # fmt: skip
    assert content(names) == content(records)
    assert content(names) != content(llm.generate("hello", limits=limits))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temprature": 1}, "'temprature' is not an option; options: sampling, temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"max_tokens": 0}, "max-tokens is 0"),
        ({"stop": 3}, "stop"),
        ({"stop_ids": [1 << 40]}, "stop-ids"),
        ({"logprobs": 21}, "logprobs is 21"),
        ({"sampling": Sampling(), "top_k": 3}, "top_k and sampling exclude each other"),
        ({"sampling": {"top_k": 3}}, "sampling is a dict; give a Sampling"),
        ({"json_object": True, "regex": "a"}, "json_object and regex exclude each other"),
        ({"json_schema": {"type": "nothing"}}, "json_schema is refused"),
    ],
)
def test_an_option_that_is_wrong_is_refused_by_its_name(llm: LLM, options: dict[str, Any], words: str) -> None:
    for ask in (llm.generate, llm.chat, llm.stream, llm.stream_chat):
        with pytest.raises(RequestError, match=words) as refused:
            ask("hello", **options)  # type: ignore[operator]
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("", "the prompt is empty"),
        ([""], "the prompt is empty"),
        (None, "neither text nor a list of token ids"),
        ([1, "hello"], "neither text nor a list of token ids"),
        (["hello", 1], "neither text nor a list of token ids"),
        ([1 << 30], "not in the vocabulary"),
        ([-1], "not in the vocabulary"),
        ("a\ud800", "surrogate"),
        ("hello " * 100_000, "shorten it"),
        ([1] * 300, "shorten it"),
    ],
)
def test_a_prompt_that_cannot_be_had_is_refused(llm: LLM, prompt: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        llm.generate(prompt)
    with pytest.raises(RequestError, match=words):
        asyncio.run(llm.agenerate(prompt))


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "conversation is empty"),
        ([{"role": "user"}], "give role and content"),
        ([{"role": "user", "content": "hello", "colour": "blue"}], "give role and content"),
        ([{"role": "user", "content": 3}], "Expected `str"),
        (["hello"], "give role and content"),
    ],
)
def test_messages_that_are_wrong_are_refused(llm: LLM, messages: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        llm.chat(messages)


@pytest.mark.parametrize("name", ["messages", "now", "strftime_now"])
def test_a_variable_that_the_template_is_given_anyway_is_refused(llm: LLM, name: str) -> None:
    with pytest.raises(RequestError, match=f"'{name}' is set by Twofold"):
        llm.chat("hello", variables={name: 1})


def test_what_is_closed_says_so_and_can_be_closed_again(tiny_path: Path) -> None:
    llm = LLM(tiny_path, threads=1)
    llm.close()
    llm.close()
    with pytest.raises(RequestError, match="closed; open another"):
        llm.generate("hello")


def test_what_cannot_be_opened_says_why(tiny_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing\.gguf"):
        LLM(tmp_path / "nothing.gguf")
    with pytest.raises(ConfigurationError, match=r"threads from LLM\(\.\.\.\) is 0"):
        LLM(tiny_path, threads=0)
    with pytest.raises(ConfigurationError, match=r"^split and weights name different places"):
        LLM(tiny_path, split=True, weights="tcp://127.0.0.1:1")


def test_a_program_that_forgets_to_close_ends_all_the_same(tiny_path: Path) -> None:
    program = (
        "import sys, twofold\nllm = twofold.LLM(sys.argv[1], threads=1)\n"
        "stream = llm.stream('hello', max_tokens=200, ignore_end=True)\nprint(bool(next(stream)))"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(tiny_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


def test_the_package_imports_no_library_before_something_of_it_is_asked_for() -> None:
    program = "import sys, twofold; print('numpy' in sys.modules); twofold.LLM; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
