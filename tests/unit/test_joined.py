from pathlib import Path

import pytest

from twofold.errors import ConfigurationError
from twofold.link.base import parse
from twofold.link.joined import invitation_for, shown
from twofold.store.grant import Invitation, Token
from twofold.store.keys import join
from twofold.wire.token import link_text

INVITATION = Invitation("weights.example:7070", bytes(32), Token("00112233aabbccdd", bytes(range(32))))
LINK = link_text(INVITATION)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.mark.parametrize(
    "url", ["tls://weights.example:7070", "wss://Weights.Example:07070", "tcp://weights.example:7070"]
)
def test_what_was_joined_is_found_again_by_host_and_port(folder: Path, url: str) -> None:
    join(folder, INVITATION)
    assert invitation_for(parse(url), folder) == INVITATION


def test_a_join_link_needs_no_joining(folder: Path) -> None:
    assert invitation_for(parse(LINK), folder) == INVITATION
    assert not folder.exists()


@pytest.mark.parametrize("url", ["tls://weights.example:7071", "wss://other:7070"])
def test_an_encrypted_address_that_was_not_joined_says_how_to(folder: Path, url: str) -> None:
    join(folder, INVITATION)
    place = url.partition("://")[2]
    with pytest.raises(ConfigurationError, match=f"has not joined {place}.*--host {place}.*twofold join LINK"):
        invitation_for(parse(url), folder)


def test_a_plain_address_can_do_without(folder: Path) -> None:
    assert invitation_for(parse("tcp://127.0.0.1:7070"), folder) is None


def test_what_is_shown_of_a_join_link_is_its_address() -> None:
    assert shown(LINK) == "tls://weights.example:7070"
    assert shown("tcp://127.0.0.1:1") == "tcp://127.0.0.1:1"
