"""A conversation in a kept context, over HTTP: the tokens and log-probabilities that it has if it never stops."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from engines import engine, native

from twofold.engine.serving import Serving
from twofold.model.checkpoint import Checkpoint
from twofold.model.tokenizer import Tokenizer
from twofold.server.api_keys import Keys
from twofold.server.app import application
from twofold.server.front import Front
from twofold.server.offer import Offer
from twofold.server.readiness import Readiness
from twofold.server.shelves import Shelves
from twofold.store.contexts import Contexts, Quota
from twofold.units import GIB

CHAT, CONTEXTS = "/v1/chat/completions", "/v1/contexts"
SAID = ("Why is the sky blue?", "And what of the sea, then? Say it in a few words.", "Thank you.")
HOW = {"max_tokens": 24, "temperature": 0.9, "seed": 5, "logprobs": True, "top_logprobs": 3, "ignore_eos": True}


@contextlib.contextmanager
def application_of(path: Path, folder: Path) -> Iterator[Front]:
    """A server of the checkpoint at `path`, which begins with nothing in memory."""
    with Checkpoint.open(path) as checkpoint:
        tokenizer = Tokenizer(checkpoint.tokenizer)
    readiness = Readiness()
    shelves = Shelves(lambda owner: Contexts(folder / "contexts", Quota(GIB)))
    app = application(Offer(readiness, ("model",), shelves=shelves), Keys({}), lambda record: None)
    with native(2) as backend, engine(path, backend) as fast, Serving(fast, tokenizer) as serving:
        readiness.ready(serving)
        yield app


def asked(app: Front, method: str, path: str, **request: Any) -> Any:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return await client.request(method, path, **request)

    response = asyncio.run(ask())
    assert response.status_code == 200, response.text
    return response


def answer(app: Front, messages: list[dict[str, str]], **more: Any) -> Any:
    body = asked(app, "POST", CHAT, json={"messages": messages, **HOW, **more}).json()
    return body["choices"][0] | {"cached": body["usage"]["prompt_tokens_details"]["cached_tokens"]}


def said(choice: Any) -> Any:
    """The text, and bit for bit the log-probabilities: JSON has each digit that tells two floats apart."""
    return choice["message"], choice["logprobs"]


@pytest.mark.parametrize("model", ["roomy_path", "smollm2_path"])
def test_three_requests_two_restarts_and_a_fork_equal_a_conversation_that_never_stops(
    model: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path = request.getfixturevalue(model)
    expected, conversation = [], []
    with application_of(path, tmp_path) as app:
        for text in SAID:
            conversation.append({"role": "user", "content": text})
            expected.append(answer(app, conversation))
            conversation.append({"role": "assistant", "content": expected[-1]["message"]["content"]})
    found, forked = [], None
    for number, text in enumerate(SAID):
        with application_of(path, tmp_path) as app:
            if not number:
                asked(app, "POST", CONTEXTS, json={"name": "rain"})
            found.append(answer(app, [{"role": "user", "content": text}], context="rain"))
            if number == 1:
                asked(app, "POST", f"{CONTEXTS}/rain/fork", json={"name": "snow"})
    with application_of(path, tmp_path) as app:
        forked = answer(app, [{"role": "user", "content": SAID[2]}], context="snow")
        files = [asked(app, "GET", f"{CONTEXTS}/{name}/file").content for name in ("rain", "snow")]
    assert [said(one) for one in found] == [said(one) for one in expected]
    assert said(forked) == said(expected[2])
    assert len(found[2]["logprobs"]["content"]) == HOW["max_tokens"]
    assert found[0]["cached"] == 0
    assert found[2]["cached"] > found[1]["cached"] > 24
    assert len(files[0]) == len(files[1])
