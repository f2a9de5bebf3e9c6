"""What an attacker may send, fed to the serving end of a link in this process: `make sanitize` looks at every byte."""

import pytest
from fabric.mutations import Mutations, call_frame
from strangers import control
from toy_processor import DIGEST, MANIFEST

from twofold.errors import FrameError
from twofold.link.port import Kind, Port, What, room
from twofold.wire.message import Hello
from twofold.wire.rows import Layout

CASES = 20_000
LAYOUT = Layout(MANIFEST)
CALL = call_frame(DIGEST, 0, 1, bytes(LAYOUT.payload_bytes(LAYOUT.cuts[0].takes, 1)))


def fed(data: bytes, *, greeted: bool) -> What:
    """What a port says of `data`, all of which arrives at once."""
    port = Port(Kind.FED, room(1 << 16), room(1 << 16), serves=True)
    if greeted:
        port.expect(LAYOUT)
    space = port.space()[: len(data)]
    space[:] = data[: len(space)]
    return What(port.fed(len(space)))


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_arrives_is_a_call_a_message_a_part_of_one_or_damage(seed: int) -> None:
    mutations = Mutations(seed, DIGEST, CALL)
    seen: set[What] = set()
    for _ in range(CASES):
        case = mutations.next()
        seen.add(fed(case.data, greeted=case.greeted))
    assert seen == {What.CALL, What.MESSAGE, What.NOTHING, What.DAMAGED}


def test_what_is_damaged_is_told_in_words() -> None:
    port = Port(Kind.FED, room(1 << 16), room(1 << 16), serves=True)
    data = bytearray(control(Hello()))
    data[-1] ^= 1
    port.space()[: len(data)] = data
    assert port.fed(len(data)) == What.DAMAGED
    error = port.error(What.DAMAGED, "a client")
    assert isinstance(error, FrameError)
    assert "its checksum is not that of its bytes" in str(error)
