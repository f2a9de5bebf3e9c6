"""R5 in time and in company: however a prompt is cut into steps and whoever shares a step, the bits are the same."""

from pathlib import Path

import numpy as np
from engines import all_logits, engine, native, some_tokens
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.engine.engine import Part
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


def test_prompts_that_end_go_on_and_streams_that_decode_share_a_step_and_equal_each_alone(smollm2_path: Path) -> None:
    with native(2) as backend, engine(smollm2_path, backend) as fast:
        tokens = some_tokens(400, fast.manifest.vocabulary)
        whole = {i: tokens[i : i + n] for i, n in enumerate((70, 1, 90, 33, 130))}
        seen = {0: 40, 1: 0, 2: 90 - 1, 3: 0, 4: 64}
        alone = {i: all_logits(fast, part)[-1] for i, part in whole.items()}
        sessions = {i: fast.open() for i in whole}
        for i, count in seen.items():
            if count:
                fast.feed(sessions[i], whole[i][:count])
        ending = (0, 1, 2)
        logits = fast.step([Part(sessions[i], whole[i][seen[i] :][:60], int(i in ending)) for i in whole])
        assert np.array_equal(np.stack(logits).view(np.uint32), [alone[i] for i in ending])
        rest = {i: whole[i][len(sessions[i].tokens) :] or tokens[:1] for i in (4, 3, 0)}
        last = np.stack(fast.step([Part(sessions[i], part) for i, part in rest.items()])).view(np.uint32)
        assert [fast.context.length(sessions[i].number) for i in rest] == [130, 34, 71]
        for logits, i in zip(last, rest, strict=True):
            assert np.array_equal(logits, all_logits(fast, sessions[i].tokens)[-1])
        for session in sessions.values():
            fast.close(session)


def test_a_session_that_begins_with_pages_of_another_gives_the_bits_of_one_that_computed_them(
    smollm2_path: Path,
) -> None:
    with native(2) as backend, engine(smollm2_path, backend) as fast:
        tokens = some_tokens(200, fast.manifest.vocabulary)
        expected = fed_in_parts(fast, tokens, [200])
        first, second = fast.open(), fast.open()
        fast.feed(first, tokens[:150])
        fast.context.pages.adopt(second.number, fast.context.pages[first.number].pages[:2])
        fast.feed(first, tokens[:20])  # the one goes elsewhere and ends, the other stays what it was
        fast.close(first)
        assert np.array_equal(fast.feed(second, tokens[128:]).view(np.uint32)[0], expected)
        fast.close(second)


def test_a_session_put_in_again_gives_the_bits_of_one_that_stayed(smollm2_path: Path) -> None:
    with native(2) as backend, engine(smollm2_path, backend) as fast:
        tokens = some_tokens(200, fast.manifest.vocabulary)
        expected = fed_in_parts(fast, tokens, [200])
        session = fast.open()
        fast.feed(session, tokens[:150])
        taken = fast.context.take_out(session.number)
        fast.close(session)
        other = fast.open()  # takes the pages that were just given back
        fast.feed(other, some_tokens(170, fast.manifest.vocabulary, seed=1))
        session.number = fast.context.put_in(taken, 150)
        assert np.array_equal(fast.feed(session, tokens[150:]).view(np.uint32)[0], expected)
        fast.close(session)
        fast.close(other)
