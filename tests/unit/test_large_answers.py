"""An answer larger than what a socket takes arrives whole, whoever moves the bytes."""

import secrets
from pathlib import Path

import pytest
from toy_processor import ToyService, serving

from twofold import link
from twofold.units import MIB, Seconds
from twofold.wire.message import AskTokenizer, TokenizerReply

LARGE = bytes(48 * MIB)


class Wordy(ToyService):
    """A toy with a tokenizer that no socket takes at once."""

    def tokenizer(self) -> bytes:
        return LARGE


@pytest.mark.parametrize("scheme", ["tcp", "shm", "ws"])
def test_an_answer_that_a_socket_does_not_take_at_once_arrives_whole(scheme: str, tmp_path: Path) -> None:
    url = f"shm://{tmp_path}/{secrets.token_hex(4)}" if scheme == "shm" else f"{scheme}://127.0.0.1:0"
    with serving(url, Wordy()) as processor:
        connection = link.connect(processor.urls[0])
        assert connection.ask(AskTokenizer(), Seconds(60.0)) == TokenizerReply(LARGE)
        connection.close()
