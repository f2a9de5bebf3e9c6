"""R5 in time and in company: however a prompt is cut into steps and whoever shares a step, the bits are the same."""

from pathlib import Path

import numpy as np
from engines import all_logits, engine, native, some_tokens
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.kernels.reference import Reference


def fed_in_parts(fast, tokens, sizes):  # type: ignore[no-untyped-def]
    """Logits of the last token when the prompt comes in steps of `sizes`, repeated."""
    session, at, turn = fast.open(), 0, 0
    logits = None
    while at < len(tokens):
        size = sizes[turn % len(sizes)]
        logits = fast.feed(session, tokens[at : at + size], chunk=size)
        at, turn = at + size, turn + 1
    fast.close(session)
    return logits[0].copy().view(np.uint32)


def test_any_chunking_of_the_prefill_equals_token_by_token(tiny_path: Path) -> None:
    with native(2) as backend, engine(tiny_path, backend) as fast:
        tokens = some_tokens(200, fast.manifest.vocabulary)
        expected = fed_in_parts(fast, tokens, [1])

        @settings(max_examples=40, deadline=None)
        @given(st.lists(st.integers(1, 200), min_size=1, max_size=6))
        def check(sizes: list[int]) -> None:
            assert np.array_equal(fed_in_parts(fast, tokens, sizes), expected)

        check()


def test_chunking_changes_no_bit_of_smollm2(smollm2_path: Path) -> None:
    with native(2) as backend, engine(smollm2_path, backend) as fast:
        tokens = some_tokens(300, fast.manifest.vocabulary)
        expected = fed_in_parts(fast, tokens, [1])
        for sizes in ([256], [64], [33], [7, 100, 1], [300]):
            assert np.array_equal(fed_in_parts(fast, tokens, sizes), expected), sizes


def test_the_reference_is_chunk_invariant_too(tiny_path: Path) -> None:
    with engine(tiny_path, Reference()) as slow:
        tokens = some_tokens(70, slow.manifest.vocabulary)
        assert np.array_equal(fed_in_parts(slow, tokens, [70]), fed_in_parts(slow, tokens, [9, 1, 30]))


def test_sessions_decoded_together_equal_each_alone(smollm2_path: Path) -> None:
    lengths = [5, 17, 1, 64, 33, 16, 15, 90, 2, 3, 63, 65, 31]
    with native(2) as backend, engine(smollm2_path, backend) as fast:
        tokens = some_tokens(400, fast.manifest.vocabulary)
        alone = [all_logits(fast, tokens[i : i + n + 3])[n:] for i, n in enumerate(lengths)]
        sessions = [fast.open() for _ in lengths]
        for i, n in enumerate(lengths):
            fast.feed(sessions[i], tokens[i : i + n])
        for k in range(3):
            together = np.stack(fast.decode(sessions, [tokens[i + n + k] for i, n in enumerate(lengths)])).view(
                np.uint32
            )
            for i in range(len(lengths)):
                assert np.array_equal(together[i], alone[i][k]), (i, k)
        for session in sessions:
            fast.close(session)


def test_a_session_that_was_rewound_equals_one_that_never_went_there(tiny_path: Path) -> None:
    with native(1) as backend, engine(tiny_path, backend) as fast:
        tokens = some_tokens(150, fast.manifest.vocabulary)
        expected = fed_in_parts(fast, tokens, [150])
        session = fast.open()
        fast.feed(session, tokens[:100] + tokens[:50])
        fast.rewind(session, 100)
        assert np.array_equal(fast.feed(session, tokens[100:])[0].view(np.uint32), expected)
        fast.close(session)


def test_two_sessions_that_alternate_do_not_touch_each_other(tiny_path: Path) -> None:
    with native(2) as backend, engine(tiny_path, backend) as fast:
        first = some_tokens(80, fast.manifest.vocabulary, 1)
        second = some_tokens(80, fast.manifest.vocabulary, 2)
        alone = all_logits(fast, first)[-1], all_logits(fast, second)[-1]
        a, b = fast.open(), fast.open()
        for i in range(80):
            one = fast.feed(a, [first[i]])[0].copy()
            other = fast.feed(b, [second[i]])[0].copy()
        assert np.array_equal(one.view(np.uint32), alone[0])
        assert np.array_equal(other.view(np.uint32), alone[1])
        fast.close(a)
        fast.close(b)
