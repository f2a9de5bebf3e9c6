"""Model files that must be refused, each made from a sound one by a change that its name tells."""

import random
import struct
from collections.abc import Callable
from typing import NamedTuple

U32, U64 = struct.Struct("<I"), struct.Struct("<Q")
MATRIX, NEIGHBOUR = b"blk.0.attn_q.weight", b"blk.0.attn_k.weight"
KEY = b"general.name"


class Damage(NamedTuple):
    """A change of a sound file, and what the refusal must say."""

    change: Callable[[bytes], bytes]
    says: str


def _patched(sound: bytes, at: int, new: bytes) -> bytes:
    return sound[:at] + new + sound[at + len(new) :]


def _entry(sound: bytes, tensor: bytes) -> int:
    """Where a two-dimensional tensor's dimension count lies in the directory; shape, type and offset follow it."""
    return sound.index(U64.pack(len(tensor)) + tensor) + U64.size + len(tensor)


def _tensor(sound: bytes, tensor: bytes, *, shape: bytes = b"", kind: bytes = b"", offset: bytes = b"") -> bytes:
    at = _entry(sound, tensor) + U32.size
    for field, width in ((shape, 2 * U64.size), (kind, U32.size), (offset, U64.size)):
        sound = _patched(sound, at, field)
        at += width
    return sound


def _value(sound: bytes, key: bytes, old: bytes, new: bytes) -> bytes:
    """With the bytes `old` that follow `key` replaced by as many others."""
    return _patched(sound, sound.index(old, sound.index(key) + len(key)), new)


def _over_another(sound: bytes) -> bytes:
    at = _entry(sound, NEIGHBOUR) + 2 * U32.size + 2 * U64.size
    return _tensor(sound, MATRIX, offset=sound[at : at + U64.size])


def _noise(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


DAMAGES = {
    "empty": Damage(lambda sound: b"", "empty"),
    "cut in the header": Damage(lambda sound: sound[:20], "ends"),
    "cut in the metadata": Damage(lambda sound: sound[:1000], ""),
    "cut in the directory": Damage(lambda sound: sound[: sound.index(MATRIX) + 8], ""),
    "cut in the weights": Damage(lambda sound: sound[:-1], "ends"),
    "wrong magic": Damage(lambda sound: b"GGML" + sound[4:], "not a GGUF file"),
    "random bytes": Damage(lambda sound: _noise(1 << 20), "not a GGUF file"),
    "random bytes behind the counts": Damage(lambda sound: sound[:24] + _noise(1 << 20), ""),
    "over-long string": Damage(lambda sound: _patched(sound, sound.index(KEY) - 8, U64.pack(1 << 62)), ""),
    "absurd dimension": Damage(lambda sound: _tensor(sound, MATRIX, shape=U64.pack(1 << 40) * 2), "shape"),
    "huge matrix": Damage(lambda sound: _tensor(sound, MATRIX, shape=U64.pack(1 << 24) * 2), "ends"),
    "overlapping tensors": Damage(_over_another, "overlap"),
    "absurd layer count": Damage(
        lambda sound: _value(sound, b"llama.block_count", U32.pack(2), U32.pack(1 << 31)), "block_count"
    ),
    "absurd context": Damage(
        lambda sound: _value(sound, b"llama.context_length", U32.pack(256), U32.pack(0xFFFFFFFF)), "context_length"
    ),
    "unknown architecture": Damage(lambda sound: _value(sound, b"general.architecture", b"llama", b"gpt-x"), "gpt-x"),
    "unknown quantisation": Damage(lambda sound: _tensor(sound, MATRIX, kind=U32.pack(35)), "TQ2_0"),
}


def scrambled(sound: bytes, seed: int, *, changes: int = 24) -> bytes:
    """With some bytes of the head, up to the tensors' directory, replaced at random."""
    chance = random.Random(seed)
    head = sound.index(MATRIX)
    changed = bytearray(sound)
    for _ in range(changes):
        changed[chance.randrange(head)] = chance.randrange(256)
    return bytes(changed)
