import itertools
from collections import Counter

from fabric.plan import LASTING, LOOPBACK, NETWORK, QUIET_SECONDS, REST_SECONDS, plan
from hypothesis import given
from hypothesis import strategies as st

SEEDS, LENGTHS = st.integers(0, 1 << 32), st.floats(5, 900)


@given(SEEDS, LENGTHS, st.sampled_from([LOOPBACK, NETWORK]))
def test_events_come_one_after_the_other_within_the_time(seed: int, seconds: float, kinds: tuple[str, ...]) -> None:
    events = plan(seed, seconds, 4, kinds)
    for event, following in itertools.pairwise(events):
        assert event.end + REST_SECONDS[0] - 0.002 <= following.at <= event.end + REST_SECONDS[1] + 0.002
    for event in events:
        assert QUIET_SECONDS <= event.at <= event.end <= seconds
        assert event.kind in kinds
        assert event.target in range(4)
        low, high = LASTING.get(event.kind, (0.0, 0.0))
        assert low <= event.seconds <= high


@given(SEEDS)
def test_a_seed_gives_the_same_events(seed: int) -> None:
    assert plan(seed, 100, 4, LOOPBACK) == plan(seed, 100, 4, LOOPBACK)
    assert plan(seed, 100, 4, LOOPBACK) != plan(seed + 1, 100, 4, LOOPBACK)


@given(SEEDS)
def test_no_kind_is_left_out_and_none_comes_much_oftener(seed: int) -> None:
    counts = Counter(event.kind for event in plan(seed, 600, 4, LOOPBACK))
    wanted = Counter(LOOPBACK)
    rounds = [counts[kind] / wanted[kind] for kind in wanted]
    assert max(rounds) - min(rounds) <= 1
    assert min(rounds) >= 10
