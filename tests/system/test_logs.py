"""The log at its default level: no word of a prompt, of an answer, or of what was wrong with a request."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from command import start

SECRET = "xylophone"
KEY = "a-key-of-many-letters"
SAID = {"role": "user", "content": f"my {SECRET}"}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": [SECRET]}}}
TOOL = {"type": "function", "function": {"name": "add", "description": SECRET}}
ASKED: list[tuple[str, Any]] = [
    ("/v1/chat/completions", {"messages": [SAID], "max_tokens": 3}),
    ("/v1/chat/completions", {"messages": [SAID], "max_tokens": 3, "stream": True, "stop": [SECRET], "user": SECRET}),
    ("/v1/chat/completions", {"messages": [SAID], "max_tokens": 9, "response_format": SCHEMA}),
    ("/v1/chat/completions", {"messages": [SAID], "tools": [TOOL]}),
    ("/v1/chat/completions", {"messages": [SAID], SECRET: 1}),
    ("/v1/chat/completions", {"messages": [SAID], "temperature": SECRET}),
    ("/v1/chat/completions", {"messages": [SAID], "model": SECRET}),
    ("/v1/chat/completions", {"messages": [SAID], "chat_template_kwargs": {"self": SECRET}}),
    ("/v1/completions", {"prompt": f"{SECRET} " * 10_000}),
    ("/v1/completions", {"prompt": SECRET, "max_tokens": 3, "metadata": {SECRET: SECRET}}),
    ("/v1/responses", {"input": SECRET, "instructions": SECRET, "max_output_tokens": 3}),
    ("/v1/messages", {"model": "tiny", "max_tokens": 3, "messages": [SAID], "system": SECRET}),
    ("/tokenize", {"prompt": SECRET}),
    (f"/v1/{SECRET}", {}),
    (f"/v1/models/{SECRET}", {}),
]


@pytest.mark.parametrize("form", ["--no-log-json", "--log-json"])
def test_no_word_of_what_is_said_is_in_the_log(tiny: Path, form: str) -> None:
    environment = {"TWOFOLD_API_KEY": KEY}
    with start("serve", tiny, "--port", "0", form, environment=environment) as running:
        url = running.wait_output(b"\n").decode().split()[1]
        statuses, told = [], ""
        with httpx.Client(base_url=url, timeout=60, headers={"authorization": f"Bearer {KEY}"}) as client:
            for path, body in ASKED:
                answer = client.post(path, json=body)
                statuses.append(answer.status_code)
                told += answer.text
            raw = f'{{"messages": "{SECRET}'.encode() + b"\xff"
            statuses.append(
                client.post(ASKED[0][0], content=raw, headers={"content-type": "application/json"}).status_code
            )
            statuses.append(
                client.get(f"/v1/models?{SECRET}", headers={"authorization": f"Bearer {SECRET}"}).status_code
            )
        running.wait_errors("request", times=len(statuses))
        log = running.errors()
    assert {200, 400, 401, 404} <= set(statuses)
    assert SECRET in told  # what is wrong is said to whoever asked
    assert SECRET not in log
    assert KEY not in log
    if form == "--log-json":
        lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        assert sorted(line["status"] for line in lines) == sorted(statuses)
