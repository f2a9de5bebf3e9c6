"""`twofold serve` as a user starts it: real text to real clients, and an end in order."""

import contextlib
import json
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
from command import Running, refused, start, twofold

CONFIGURATION, MODEL_ERROR, UNREACHABLE = 2, 3, 4
PROMPT_END_SECONDS = 3.0
QUESTION = "Why is the sky blue?"
KEY = "a-key-of-many-letters"


@contextlib.contextmanager
def serving(*arguments: str | Path, environment: dict[str, str] | None = None) -> Iterator[tuple[Running, str]]:
    """A server that is ready, and its address."""
    with start("serve", *arguments, "--port", "0", environment=environment) as running:
        yield running, running.wait_output(b"\n").decode().split()[1]


def client(url: str, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60)


def streamed(ask: openai.OpenAI, model: str, tokens: int) -> "openai.Stream[openai.types.chat.ChatCompletionChunk]":
    return ask.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": QUESTION}],
        temperature=0,
        max_tokens=tokens,
        stream=True,
        extra_body={"ignore_eos": True},
    )


def text_of(chunks: "Sequence[openai.types.chat.ChatCompletionChunk]") -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def test_the_text_is_that_of_twofold_run(smollm2_path: Path) -> None:
    said = twofold("run", "smollm2", QUESTION, "--max-tokens", "24").text.rstrip("\n")
    with serving("smollm2") as (running, url), client(url) as ask:
        whole = ask.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=24
        )
        chunks = list(streamed(ask, "smollm2", 24))
        assert whole.choices[0].message.content == said
        assert text_of(chunks) == said
        again = ask.chat.completions.create(
            model="smollm2",
            messages=[{"role": "user", "content": QUESTION}],
            temperature=0.8,
            seed=5,
            max_tokens=24,
            n=2,
        )
        alone = ask.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": QUESTION}], temperature=0.8, seed=6, max_tokens=24
        )
        assert again.choices[1].message.content == alone.choices[0].message.content
        assert QUESTION not in running.errors()
        assert "generated_tokens=24" in running.errors()


def test_a_context_goes_on_after_a_restart_and_is_that_of_the_verbs(roomy_path: Path, tmp_path: Path) -> None:
    home = {"XDG_DATA_HOME": str(tmp_path)}

    def say(text: str, messages: int) -> None:
        with serving(roomy_path, "--keep-contexts", environment=home) as (_, url), client(url) as ask:
            if messages == 2:
                ask.post("/contexts", body={"name": "rain"}, cast_to=object)
            ask.chat.completions.create(
                model="roomy",
                messages=[{"role": "user", "content": text}],
                max_tokens=8,
                extra_body={"context": "rain"},
            )
            listed: Any = ask.get("/contexts", cast_to=object)
            assert [(one["name"], one["messages"]) for one in listed["data"]] == [("rain", messages)]

    say("hello", 2)
    say("the world", 4)
    shown = json.loads(twofold("context", "show", "rain", "--json", environment=home).text)
    assert [turn["content"] for turn in shown["turns"] if turn["role"] == "user"] == ["hello", "the world"]
    assert len(list(tmp_path.rglob("*.context"))) == 1


def test_contexts_over_the_quota_of_the_verb_are_refused(smollm2_path: Path, tmp_path: Path) -> None:
    home = {"XDG_DATA_HOME": str(tmp_path), "TWOFOLD_API_KEY": f"../alice {KEY}"}
    options = ("--keep-contexts", "--contexts-mib", "1")
    with serving("smollm2", *options, environment=home) as (_, url), client(url, KEY) as ask:
        ask.post("/contexts", body={"name": "rain"}, cast_to=object)
        with pytest.raises(openai.PermissionDeniedError) as refused:
            ask.chat.completions.create(
                model="smollm2", messages=[{"role": "user", "content": "hello"}], extra_body={"context": "rain"}
            )
        assert refused.value.code == "contexts_full"
    (kept,) = tmp_path.rglob("*.context")
    assert kept == tmp_path / "twofold/served/contexts-..%2Falice/rain.context"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_answers_in_hand_end_and_takes_no_more(number: signal.Signals, long: Path) -> None:
    with serving(long) as (running, url), client(url) as ask, client(url) as other:
        other.models.list()  # a connection that is there before
        stream = streamed(ask, "long", 3000)
        first = next(stream)
        running.send(number)
        running.wait_errors("to end now")
        with pytest.raises(openai.InternalServerError, match="ending"):
            other.chat.completions.create(model="long", messages=[{"role": "user", "content": "x"}], max_tokens=1)
        last = list(stream)[-1]
        assert first.choices[0].delta.role == "assistant"
        assert last.choices[0].finish_reason == "length"
        assert running.finish(seconds=PROMPT_END_SECONDS).code == 0


def test_a_second_signal_ends_it_at_once(long: Path) -> None:
    with serving(long) as (running, url), client(url) as ask:
        next(streamed(ask, "long", 60_000))
        running.send(signal.SIGINT)
        running.wait_errors("to end now")
        running.send(signal.SIGTERM)
        finished = running.finish(seconds=PROMPT_END_SECONDS)
    assert finished.code == 0
    assert "Traceback" not in finished.errors


def test_answers_that_take_longer_than_the_drain_are_cut_off(long: Path) -> None:
    with serving(long, "--drain", "0") as (running, url), client(url) as ask:
        next(streamed(ask, "long", 60_000))
        running.send(signal.SIGTERM)
        finished = running.finish(seconds=PROMPT_END_SECONDS)
    assert finished.code == 0
    assert "Traceback" not in finished.errors


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--host", "0.0.0.0"), CONFIGURATION, ("TWOFOLD_API_KEY", "--api-key-file")),
        (("--api-key-file", "/dev/null"), CONFIGURATION, ("/dev/null",)),
        (("--port", "70000"), CONFIGURATION, ("port", "0 to 65535")),
        (("--config", "nowhere.toml"), CONFIGURATION, ("nowhere.toml",)),
        (("--split", "--weights", "tcp://127.0.0.1:1"), CONFIGURATION, ("--split", "--weights")),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_is_loaded(
    arguments: Sequence[str], code: int, words: Sequence[str], tiny: Path
) -> None:
    refused(twofold("serve", tiny, *arguments), code, *words)


def test_a_port_that_is_taken_is_said(tiny: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "--port" in refused(twofold("serve", tiny, "--port", port), UNREACHABLE, port)


def test_a_model_that_cannot_be_loaded_ends_the_server_with_the_reason() -> None:
    finished = twofold("serve", "there-is-no-such-model", "--port", "0")
    assert finished.code == MODEL_ERROR
    assert "there-is-no-such-model" in finished.errors.strip().splitlines()[-1]
    assert "Traceback" not in finished.errors


def test_settings_come_from_a_file_and_flags_win(tiny: Path, tmp_path: Path) -> None:
    keys, config = tmp_path / "keys", tmp_path / "serve.toml"
    keys.write_text(f"alice {KEY}\n")
    keys.chmod(0o600)
    config.write_text(f"served_model_name = 'a,b'\nmax_model_len = 100\napi_key_file = '{keys}'\nlog_json = true\n")
    with serving(tiny, "--config", config, "--max-model-len", "90") as (running, url):
        with client(url) as stranger, pytest.raises(openai.AuthenticationError):
            stranger.models.list()
        with client(url, KEY) as alice:
            assert [model.id for model in alice.models.list()] == ["a", "b"]
            assert alice.models.retrieve("b").model_dump()["max_model_len"] == 90
        running.wait_errors('"status":200', times=2)
        lines = [json.loads(line) for line in running.errors().splitlines() if line.startswith("{")]
        assert [line.get("owner") for line in lines] == [None, "alice", "alice"]
        assert KEY not in running.errors()


def test_the_key_can_come_from_the_environment(tiny: Path) -> None:
    environment = {"TWOFOLD_API_KEY": KEY}
    with serving(tiny, "--host", "0.0.0.0", environment=environment) as (_, url), client(url, KEY) as ask:
        assert [model.id for model in ask.models.list()] == ["tiny"]


def test_weights_of_another_process_are_served_too(tcp: str) -> None:
    with serving("--weights", tcp) as (_, url), client(url) as ask:
        answer = ask.completions.create(model="twofold", prompt="hello", max_tokens=4, temperature=0)
        assert answer.usage is not None
        assert answer.usage.completion_tokens >= 1
