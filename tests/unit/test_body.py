"""Bodies: whatever arrives is a body of the form, or a refusal that says why."""

import contextlib
import json
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import HELLO, Served

from twofold.server.body import BODY_BYTES, DEPTH, Fixed, parsed
from twofold.server.refusal import Refusal

FIXED = (Fixed("store", (False,), "nothing is stored"), Fixed("audio", (), "answers are text"))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


class Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: Annotated[int, msgspec.Meta(ge=1, le=9)]
    name: str = ""


def refusal(raw: bytes) -> Refusal:
    with pytest.raises(Refusal) as refused:
        parsed(raw, Form, FIXED)
    assert refused.value.status == 400
    assert "\n" not in str(refused.value)
    return refused.value


def test_a_body_of_the_form_is_read_and_null_is_what_was_not_given() -> None:
    assert parsed(b'{"size": 3, "name": null, "store": false, "audio": null}', Form, FIXED) == Form(3)


@pytest.mark.parametrize(
    ("raw", "param", "said"),
    [
        (b'{"size": 3, "colour": 1}', "colour", "no parameter 'colour'"),
        (b'{"size": 10}', "size", "<= 9"),
        (b'{"size": "3"}', "size", "Expected `int`"),
        (b'{"size": true}', "size", "Expected `int`"),
        (b"{}", None, "size"),
        (b'{"size": 3, "store": true}', "store", "nothing is stored; send false"),
        (b'{"size": 3, "store": 0}', "store", "nothing is stored"),
        (b'{"size": 3, "audio": {}}', "audio", "answers are text; leave it out"),
        (b"[]", None, "no object"),
        (b"", None, "not JSON"),
        (b'{"size": 3} {}', None, "not JSON"),
        (b'{"size": NaN}', None, "not JSON"),
        (b'{"size": 1e999}', None, "not JSON"),
        (b'{"name": "\xff"}', None, "not UTF-8"),
        (b'{"name": "\\ud800"}', None, "not JSON"),
        (b'{"name": ' + b"[" * 100_000, None, "deep"),
        (b'{"name": ' + b"[" * DEPTH + b"]" * DEPTH + b"}", None, "deep"),
        (b'{"name": ' + b'{"a":' * DEPTH + b"1" + b"}" * DEPTH + b"}", None, "deep"),
    ],
)
def test_what_is_wrong_with_a_body_is_said_with_its_parameter(raw: bytes, param: str | None, said: str) -> None:
    refused = refusal(raw)
    assert refused.param == param
    assert said in str(refused)


def test_flat_lists_may_be_long() -> None:
    with pytest.raises(Refusal, match="Expected `str`"):
        parsed(b'{"size": 3, "name": [' + b"[]," * 10 * DEPTH + b"[]]}", Form)


@given(st.binary(max_size=200) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_body_or_a_refusal(raw: bytes) -> None:
    with contextlib.suppress(Refusal):
        assert isinstance(parsed(raw, Form, FIXED), Form)


def test_a_body_of_more_than_16_mib_is_refused_whether_its_length_was_told_or_not(served: Served) -> None:
    large = b'{"messages": "' + b"a" * BODY_BYTES + b'"}'
    headers = {"content-type": "application/json"}

    async def pieces() -> Any:
        for start in range(0, len(large), 1 << 20):
            yield large[start : start + (1 << 20)]

    for content in (large, pieces()):
        refused = served.ask("POST", "/v1/chat/completions", content=content, headers=headers)
        assert refused.status_code == 413
        assert refused.json()["error"]["code"] == "body_too_large"
        assert refused.headers["connection"] == "close"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/json5"])
def test_a_body_that_does_not_say_it_is_json_is_refused(served: Served, kind: str) -> None:
    body = json.dumps({"messages": HELLO}).encode()
    refused = served.ask("POST", "/v1/chat/completions", content=body, headers={"content-type": kind})
    assert refused.status_code == 415
    assert served.serving.answers == []
