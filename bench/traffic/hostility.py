"""Bodies that no server should be made to work for, and who sends them.

    python -m traffic.hostility KIND HOST:PORT SEED SECONDS CASES     prints how many got which status, as JSON

It ends after so many cases, or so many seconds if that is sooner. `hung up`: the server closed before the body was
through, as it may once it has answered.
"""

import contextlib
import http.client
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/tokenize", "/detokenize")
JSON = {"content-type": "application/json"}
MESSAGES = [{"role": "user", "content": "hello"}]
HELLO = {"messages": MESSAGES}
MILLION = 1_000_000
HUGE_BYTES, PIECE = 100 << 20, b" " * (1 << 20)
PATIENCE_SECONDS = 60.0


class Case(NamedTuple):
    """One request; `huge`: so many bytes follow the body, in pieces, with their length declared or not."""

    path: str
    body: bytes
    huge: int = 0
    declared: bool = True


def damaged(draw: random.Random) -> bytes:
    """A good body with some bytes changed, left out, repeated or put in."""
    body = bytearray(json.dumps({**HELLO, "temperature": 0.5, "stop": ["a"], "n": 2, "logit_bias": {"5": 1}}).encode())
    for _ in range(draw.randint(1, 8)):
        at = draw.randrange(len(body))
        match draw.randrange(4):
            case 0:
                body[at] = draw.randrange(256)
            case 1:
                del body[at : at + draw.randint(1, 20)]
            case 2:
                body[at:at] = body[at : at + draw.randint(1, 20)]
            case _:
                body[at:at] = draw.choice([b"\x00", b"\xff\xfe", b'"', b"{", b"]", b"1e999", b"null", b"\\ud800"])
        body = body or bytearray(b" ")
    return bytes(body)


def malformed(draw: random.Random) -> Iterator[Case]:
    """Damaged bodies, to every path; cut off, so that none of them is answered by chance."""
    while True:
        yield Case(draw.choice(PATHS), damaged(draw)[:-1] + b",")


def huge(draw: random.Random) -> Iterator[Case]:
    """Bodies of 100 MiB, with and without a length."""
    for number in itertools.count():
        yield Case(draw.choice(PATHS), b"", HUGE_BYTES, declared=number % 2 == 0)


def deep(draw: random.Random) -> Iterator[Case]:
    """Lists and objects, a million in one another."""
    while True:
        opening = draw.choice([b"[", b'{"a":', b'[{"messages":'])
        yield Case(draw.choice(PATHS), b'{"messages": ' + opening * (MILLION // len(opening)))


def schemas(draw: random.Random) -> Iterator[Case]:
    """Schemas and grammars that take for ever to prepare, or never end."""
    patterns = {"allOf": [{"type": "string", "pattern": f".*{number}.*"} for number in range(30)]}
    powers = {"type": "string", "pattern": "((((a{0,999}){0,999}){0,999}){0,999})"}
    loop = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
    wide = {"enum": [f"{number:x}" * 20 for number in range(50_000)]}
    while True:
        schema = draw.choice([patterns, powers, loop, wide])
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        yield Case(PATHS[0], json.dumps({**HELLO, "max_tokens": 1, "response_format": form}).encode())


def templates(draw: random.Random) -> Iterator[Case]:
    """What a chat template has to loop over, and text that is one."""
    many = [{"role": "user", "content": "{% for a in range(10**9) %}{{ a }}{% endfor %}" * 20}] * 2049
    wide = {"kwargs": {str(number): [number] for number in range(100_000)}}
    names = {"messages": [], "tools": [1]}
    while True:
        body = draw.choice([{"messages": many}, {**HELLO, "chat_template_kwargs": wide, "n": 99},
                            {**HELLO, "chat_template_kwargs": names}])  # fmt: skip
        yield Case(PATHS[0], json.dumps(body).encode())


def prompts(draw: random.Random) -> Iterator[Case]:
    """A million tokens, as ids and as text."""
    bodies = [json.dumps({"prompt": prompt}).encode() for prompt in ([5] * MILLION, "hello " * MILLION)]
    while True:
        yield Case(PATHS[1], draw.choice(bodies))


def unicode(draw: random.Random) -> Iterator[Case]:
    """Bytes that are no UTF-8, and surrogates alone."""
    while True:
        bad = draw.choice([b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\\ud800", b"\xe2\x82"])
        at = draw.choice([b'{"messages": [{"role": "user", "content": "%s"}]}', b'{"prompt": "%s"}', b'{"%s": 1}'])
        yield Case(draw.choice(PATHS[:2]), at % (bad * draw.randint(1, 50_000)))


KINDS: dict[str, Callable[[random.Random], Iterator[Case]]] = {
    "malformed": malformed, "huge": huge, "deep": deep, "schemas": schemas, "templates": templates,
    "prompts": prompts, "unicode": unicode,
}  # fmt: skip


def send(connection: http.client.HTTPConnection, case: Case) -> str:
    """The status that a case got."""
    if not case.huge:
        connection.request("POST", case.path, case.body, JSON)
    else:
        connection.putrequest("POST", case.path)
        connection.putheader("Content-Type", JSON["content-type"])
        connection.putheader(*(("Content-Length", case.huge) if case.declared else ("Transfer-Encoding", "chunked")))
        connection.endheaders()
        with contextlib.suppress(OSError):  # it hangs up while we send
            for _ in range(case.huge // len(PIECE)):
                connection.send(PIECE if case.declared else b"%x\r\n%s\r\n" % (len(PIECE), PIECE))
    with contextlib.suppress(ConnectionError):
        answer = connection.getresponse()
        answer.read()
        return str(answer.status)
    return "hung up"


def assault(kind: str, place: str, *, seed: int, seconds: float, cases: int) -> Counter[str]:
    """Send cases of a kind one after another; how many got which status."""
    seen: Counter[str] = Counter()
    expiry = time.monotonic() + seconds
    host, _, port = place.rpartition(":")
    for case in itertools.islice(KINDS[kind](random.Random(seed)), cases):
        if time.monotonic() > expiry:
            break
        connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_SECONDS)
        try:
            seen[send(connection, case)] += 1
        except TimeoutError:
            seen["no answer"] += 1
        finally:
            connection.close()
    return seen


if __name__ == "__main__":
    named, where, *numbers = sys.argv[1:]
    told = assault(named, where, seed=int(numbers[0]), seconds=float(numbers[1]), cases=int(numbers[2]))
    print(json.dumps(told))
