"""API keys: who has one may ask, and nothing else does."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import HELLO, Served

from twofold.errors import ConfigurationError
from twofold.server.api_keys import Keys, key_file, keys_of

ALICE, BOB = "alice-has-this-key", "bob-has-another-key"
KEYS = {"alice": ALICE, "bob": BOB}


def test_lines_are_keys_with_names_and_a_single_word_is_the_key() -> None:
    assert keys_of(f"# comment\n\nalice {ALICE}\n {BOB}\n", "here") == {"alice": ALICE, "default": BOB}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no key"),
        ("# nothing", "holds no key"),
        ("short", "at least 16"),
        (f"a {ALICE} b", "3 words"),
        (f"a {ALICE}\na {BOB}", "line 2 of here has a second key named 'a'"),
        (f"a {ALICE}\nb {ALICE}", "given before"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_by_line_and_never_said(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        keys_of(text, "here")
    assert ALICE not in str(refused.value)


@given(st.text())
def test_any_text_is_keys_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        assert all(len(key) >= 16 for key in keys_of(text, "here").values())


def test_a_file_of_keys_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(ALICE)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        key_file(path)
    path.chmod(0o600)
    assert key_file(path) == ALICE
    with pytest.raises(ConfigurationError, match="cannot be read"):
        key_file(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("headers", "owner"),
    [
        ({"authorization": f"Bearer {ALICE}"}, "alice"),
        ({"authorization": f"bearer {BOB}"}, "bob"),
        ({"x-api-key": BOB}, "bob"),
        ({}, None),
        ({"authorization": f"Bearer {ALICE[:-1]}"}, None),
        ({"authorization": f"Bearer {ALICE}x"}, None),
        ({"authorization": f"Basic {ALICE}"}, None),
        ({"authorization": "Bearer \xff"}, None),
        ({"authorization": "Bearer ", "x-api-key": ""}, None),
    ],
)
def test_the_owner_of_a_request_is_the_name_of_its_key(headers: dict[str, str], owner: str | None) -> None:
    assert Keys(KEYS).owner(headers) == owner


def test_without_a_key_nothing_is_answered_but_whether_the_server_lives(tiny_path: Path) -> None:
    served = Served(tiny_path, keys=KEYS)
    assert served.get("/health").status_code == 200
    assert served.get("/readyz").status_code == 200
    for path in ("/version", "/metrics", "/v1/models", "/v1/memories", "/openapi.json", "/nothing"):
        refused = served.get(path)
        assert refused.status_code == 401, path
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.json()["error"]["code"] == "invalid_api_key"
    refused = served.post("/v1/messages", {}, headers={"x-api-key": "wrong"})
    assert refused.status_code == 401
    assert refused.json()["error"]["type"] == "authentication_error"
    assert served.serving.answers == []


def test_an_answer_takes_the_share_of_its_keys_name(tiny_path: Path) -> None:
    served = Served(tiny_path, keys=KEYS)
    body = {"messages": HELLO}
    assert served.post("/v1/chat/completions", body, headers={"authorization": f"Bearer {BOB}"}).status_code == 200
    assert served.serving.asked.owner == "bob"
    assert served.records[-1].line()["owner"] == "bob"
