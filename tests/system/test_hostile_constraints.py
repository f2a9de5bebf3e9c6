"""Hostile schemas, expressions, grammars and template variables on the socket: each is refused in time, and meanwhile
others are answered as ever."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import start
from http_server import running

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
HELLO = [{"role": "user", "content": "hello"}]
REFUSED_SECONDS = 40.0  # two seconds of processor time, on a machine that is busy with other work
ANSWERED_SECONDS = 5.0  # the same for what takes milliseconds; it must not wait for the others


def reference(depth: int) -> dict[str, Any]:
    """A schema that is twice as large with each step it is followed: 2^depth."""
    places = {f"p{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(2)}
    defs: dict[str, Any] = {}
    for i in range(depth):
        pair = {name: {"$ref": f"#/$defs/d{i + 1}"} for name in places}
        defs[f"d{i}"] = {"type": "object", "properties": pair, "required": [*pair], "additionalProperties": False}
    defs[f"d{depth}"] = {"type": "string", "minLength": 9}
    return {"$ref": "#/$defs/d0", "$defs": defs}


def schema(value: object) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": value}}


def grammar(text: str) -> dict[str, Any]:
    return {"type": "grammar", "grammar": text}


def nested(depth: int) -> Any:
    value: Any = True
    for _ in range(depth):
        value = {"type": "array", "items": value}
    return value


PATTERNS = [{"type": "string", "pattern": f".*{i}.*"} for i in range(40)]
REFUSED = {
    "all of forty patterns": schema({"allOf": PATTERNS}),
    "a reference to itself": schema({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}),
    "a reference to a file": schema({"$ref": "file:///etc/passwd"}),
    "nested too deep": schema(nested(500)),
    "an enumeration of a million": schema({"enum": [*range(1_000_000)]}),
    "a million properties": schema({"properties": {f"p{i}": True for i in range(1_000_000 // 20)}}),
    "a pattern that looks back": schema({"type": "string", "pattern": "^(a+)\\1$"}),
    "a grammar of nested groups": grammar("start: " + "(" * 5000 + '"a"' + ")" * 5000),
    "a grammar that includes a file": grammar('%include "/etc/passwd"\nstart: "a"'),
    "a million letters of grammar": grammar('start: "' + "a" * 1_000_000 + '"'),
}
ENDED = {  # in time; some libraries never come back from these
    "counted repetition of repetitions": schema({"type": "string", "pattern": "^(((a{1,999}){1,999}){1,999}){1,999}$"}),
    "references that double": schema(reference(24)),
    "nested quantifiers": schema({"type": "string", "pattern": "^(a+)+(a|aa)*(.*.*)*b$", "maxLength": 100}),
    "many alternatives": grammar("start: " + " | ".join(f"/a{{0,{i}}}b/" for i in range(1, 200))),
}


@pytest.fixture(scope="module")
def server(tiny: Path) -> Iterator[str]:
    with start("serve", tiny, "--port", "0") as running:
        yield running.wait_output(b"\n").decode().split()[1].removeprefix("http://")


def post(place: str, body: dict[str, Any]) -> tuple[int, dict[str, Any], float]:
    """Status, answer and seconds."""
    begun = time.monotonic()
    with contextlib.closing(http.client.HTTPConnection(place, timeout=60)) as connection:
        connection.request("POST", CHAT, json.dumps(body), JSON)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), time.monotonic() - begun


@pytest.mark.parametrize("form", REFUSED.values(), ids=REFUSED.keys())
def test_a_hostile_form_is_refused_in_time(server: str, form: dict[str, Any]) -> None:
    status, told, seconds = post(server, {"messages": HELLO, "max_tokens": 20, "response_format": form})
    assert status == 400, told
    assert len(told["error"]["message"]) < 1000
    assert seconds < REFUSED_SECONDS


@pytest.mark.parametrize("form", ENDED.values(), ids=ENDED.keys())
def test_a_costly_form_comes_to_an_end_in_time(server: str, form: dict[str, Any]) -> None:
    status, told, seconds = post(server, {"messages": HELLO, "max_tokens": 20, "response_format": form})
    assert status in (200, 400), told
    assert seconds < REFUSED_SECONDS


def test_others_are_answered_while_hostile_forms_are_tried_out(server: str) -> None:
    seconds: list[float] = []

    def hostile(number: int) -> None:
        form = schema({"allOf": [*PATTERNS, {"type": "string", "pattern": f"new{number}"}]})
        seconds.append(post(server, {"messages": HELLO, "response_format": form})[2])

    attackers = [threading.Thread(target=hostile, args=(number,)) for number in range(4)]
    for attacker in attackers:
        attacker.start()
    answered = 0
    while any(attacker.is_alive() for attacker in attackers):
        status, _, took = post(server, {"messages": HELLO, "max_tokens": 2})
        assert (status, took < ANSWERED_SECONDS) == (200, True)
        answered += 1
    assert len(seconds) == len(attackers)
    assert answered > len(attackers)


COSTLY = "{% for i in range(n) %}{{ text * i }}{% endfor %}{{ tree }}{{ (text | length) ** power }}"
VARIABLES: dict[str, dict[str, Any]] = {
    "a long loop": {"n": 10**12, "text": ""},
    "long text, often": {"n": 100_000, "text": "x" * 1_000_000},
    "a power without end": {"n": 0, "text": "x" * 1000, "power": 10**9},
    "a name that is taken": {"messages": []},
    "a deep tree": {"n": 0, "tree": nested(100)},
}


@pytest.mark.parametrize("variables", VARIABLES.values(), ids=VARIABLES.keys())
def test_variables_that_make_a_template_costly_are_refused_in_time(roomy_path: Path, variables: dict[str, Any]) -> None:
    with running(roomy_path, template=COSTLY) as server:
        place = server.url.removeprefix("http://")
        status, told, seconds = post(place, {"messages": HELLO, "chat_template_kwargs": variables})
        assert status == 400, told
        assert seconds < REFUSED_SECONDS
        harmless = {"n": 1, "text": "hello", "power": 1, "tree": ""}
        assert post(place, {"messages": HELLO, "chat_template_kwargs": harmless})[0] == 200


@pytest.mark.parametrize("text", ['"\\ud800"', '"\\udc00\\ud800"'])
def test_half_a_pair_of_surrogates_is_refused_or_read_as_no_text(server: str, text: str) -> None:
    for body in (f'{{"messages": [{{"role": "user", "content": {text}}}]}}', f'{{"messages": [], "model": {text}}}'):
        with contextlib.closing(http.client.HTTPConnection(server, timeout=60)) as connection:
            connection.request("POST", CHAT, body, JSON)
            answer = connection.getresponse()
            assert (answer.status, "error" in json.loads(answer.read())) == (400, True)


def test_text_that_is_not_utf_8_is_refused(server: str) -> None:
    for raw in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"):
        body = b'{"messages": [{"role": "user", "content": "' + raw + b'"}]}'
        with contextlib.closing(http.client.HTTPConnection(server, timeout=60)) as connection:
            connection.request("POST", CHAT, body, JSON)
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())["error"]["code"]) == (400, "invalid_json")
