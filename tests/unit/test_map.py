"""The memory map: every edit is a new version, and it is called who lives, does not leave and has least to do."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from toy_processor import MANIFEST

from twofold.errors import ConfigurationError, Refused
from twofold.memory.map import Entry, MemoryMap, State
from twofold.units import Seconds

NOW, LATER = Seconds(1.0), Seconds(2.0)
BOTH = frozenset({0, 1})


def idle(url: str) -> tuple[int, int]:
    return (0, 0)


def joined(*urls: str, held: frozenset[int] = BOTH) -> MemoryMap:
    found = MemoryMap().listed([Entry(url) for url in urls], NOW)
    for url in urls:
        found = found.joined(url, MANIFEST, held, False, NOW)
    return found


def test_who_has_not_joined_is_not_called() -> None:
    listed = MemoryMap().listed([Entry("a"), Entry("b")], NOW)
    assert listed.choose(0, idle) is None
    with pytest.raises(ConfigurationError):
        listed.check()
    one = listed.joined("b", MANIFEST, BOTH, False, NOW)
    one.check()
    assert one.choose(0, idle) == "b"
    assert one.choose(0, idle, {"b"}) is None


def test_those_up_come_before_those_draining_before_those_suspected_and_the_lost_never() -> None:
    three = joined("a", "b", "c")
    assert three.choose(0, idle) == "a"
    drained = three.listed([Entry("a", drain=True), Entry("b"), Entry("c")], NOW)
    assert drained.choose(0, idle) == "b"
    less = drained.suspected("b", "slow", NOW).suspected("c", "slow", NOW)
    assert less.choose(0, idle) == "a"
    assert less.choose(0, idle, {"a"}) == "b"
    assert less.lost("a", "gone", NOW).choose(0, idle) == "b"
    gone = less.lost("a", "gone", NOW).lost("b", "gone", NOW).lost("c", "gone", NOW)
    assert gone.choose(0, idle) is None
    assert gone.joined("c", MANIFEST, BOTH, False, LATER).choose(0, idle) == "c"


def test_fewest_calls_in_flight_come_first_then_the_fastest_then_the_first_listed() -> None:
    three = joined("a", "b", "c")
    burdens = {"a": (1, 0), "b": (0, 2), "c": (0, 1)}
    assert three.choose(0, burdens.__getitem__) == "c"
    assert three.choose(0, burdens.__getitem__, {"c"}) == "b"
    assert three.choose(0, lambda url: (2, 1)) == "a"


def test_a_processor_that_announces_its_end_is_called_only_if_nobody_else_is_there() -> None:
    two = joined("a", "b").answered("a", True, NOW)
    assert two.choose(0, idle) == "b"
    assert two.choose(0, idle, {"b"}) == "a"
    assert two.answered("a", False, NOW).choose(0, idle) == "a"


def test_only_the_segments_that_are_held_and_listed_are_called() -> None:
    entries = [Entry("a", only=frozenset({1})), Entry("b")]
    found = MemoryMap().listed(entries, NOW).joined("a", MANIFEST, BOTH, False, NOW)
    assert (found.choose(0, idle), found.choose(1, idle)) == (None, "a")
    assert found.missing == (0,)
    with pytest.raises(ConfigurationError, match="segments 0 of toy"):
        found.check()
    whole = found.joined("b", MANIFEST, frozenset({0}), False, NOW)
    assert (whole.choose(0, idle), whole.choose(1, idle)) == ("b", "a")
    whole.check()


def test_what_is_missing_is_named_with_what_is_wrong_there() -> None:
    half = joined("a", held=frozenset({1})).listed([Entry("a"), Entry("b")], NOW).lost("b", "nobody answers", NOW)
    with pytest.raises(ConfigurationError, match=r"segments 0 of toy \(b: nobody answers\)"):
        half.check()


def test_another_model_and_another_arithmetic_are_refused() -> None:
    two = joined("a").listed([Entry("a"), Entry("b")], NOW)
    other = msgspec.structs.replace(MANIFEST, digest="f" * 64)
    with pytest.raises(Refused, match="b holds model ffffffffffff, this map is of 0123456789ab"):
        two.joined("b", other, BOTH, False, NOW)
    other = msgspec.structs.replace(MANIFEST, numerics=MANIFEST.numerics + 1)
    with pytest.raises(Refused, match="numerics"):
        two.joined("b", other, BOTH, False, NOW)
    assert two.joined("b", MANIFEST, BOTH, False, NOW).choose(0, idle, {"a"}) == "b"


def test_an_edit_is_a_new_version_and_leaves_the_old_one_as_it_was() -> None:
    one = joined("a")
    two = one.suspected("a", "slow", LATER)
    assert two.version == one.version + 1
    assert (one["a"].state, two["a"].state) == (State.UP, State.SUSPECT)
    assert (one["a"].since, two["a"].since) == (NOW, LATER)
    assert two.suspected("a", "slower", LATER) is two
    assert one.answered("a", False, LATER) is one
    assert one.listed([Entry("a")], LATER) is one
    assert one.lost("stranger", "gone", LATER) is one


def test_a_spare_is_another_that_lives_and_was_not_tried() -> None:
    two = joined("a", "b")
    assert two.spare(0, "a")
    assert not two.spare(0, "a", {"b"})
    assert not two.suspected("b", "slow", NOW).spare(0, "a")
    assert two.answered("b", True, NOW).spare(0, "a")
    assert not joined("a").spare(0, "a")


URLS = st.sampled_from(["a", "b", "c", "d"])
HELD = st.frozensets(st.integers(0, 1))


class Edits(RuleBasedStateMachine):
    """Any edits in any order, beside a plain model of what they mean."""

    @initialize()
    def begin(self) -> None:
        self.map = MemoryMap()
        self.model: dict[str, tuple[bool | None, frozenset[int], bool, bool]] = {}  # up?, held, leaving, drain
        self.now = 0.0

    def edit(self, change: Callable[[MemoryMap, Seconds], MemoryMap]) -> None:
        before, self.now = self.map, self.now + 1
        self.map = change(before, Seconds(self.now))
        same = self.map.replicas == before.replicas
        assert self.map.version == before.version + (0 if same else 1)

    @rule(entries=st.dictionaries(URLS, st.booleans()))
    def listed(self, entries: dict[str, bool]) -> None:
        self.edit(lambda old, now: old.listed([Entry(url, drain=drain) for url, drain in entries.items()], now))
        unknown = (None, frozenset[int](), False)
        self.model = {url: (*self.model.get(url, unknown)[:3], drain) for url, drain in entries.items()}

    @precondition(lambda self: self.model)
    @rule(url=URLS, held=HELD, leaving=st.booleans())
    def joined(self, url: str, held: frozenset[int], leaving: bool) -> None:
        self.edit(lambda old, now: old.joined(url, MANIFEST, held, leaving, now))
        if url in self.model:
            self.model[url] = (True, held, leaving, self.model[url][3])

    @rule(url=URLS)
    def suspected(self, url: str) -> None:
        self.edit(lambda old, now: old.suspected(url, "slow", now))
        if url in self.model and self.model[url][0]:
            self.model[url] = (False, *self.model[url][1:])

    @rule(url=URLS, leaving=st.booleans())
    def answered(self, url: str, leaving: bool) -> None:
        if url in self.model and self.model[url][0] is not None:  # who is lost joins before it answers
            self.edit(lambda old, now: old.answered(url, leaving, now))
            self.model[url] = (True, self.model[url][1], leaving, self.model[url][3])

    @rule(url=URLS)
    def lost(self, url: str) -> None:
        self.edit(lambda old, now: old.lost(url, "gone", now))
        if url in self.model:
            self.model[url] = (None, *self.model[url][1:])

    @invariant()
    def who_is_called_is_the_best_of_those_who_can_be(self) -> None:
        for segment in (0, 1):
            called = [
                (2 if not up else 1 if leaving or drain else 0, place, url)
                for place, (url, (up, held, leaving, drain)) in enumerate(self.model.items())
                if up is not None and segment in held
            ]
            assert self.map.choose(segment, idle) == (min(called)[2] if called else None)
            assert (segment in self.map.missing) == (not called and self.map.manifest is not None)
        assert [replica.url for replica in self.map.replicas] == list(self.model)


TestEdits = Edits.TestCase


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4))
def test_whoever_is_chosen_has_no_more_to_do_than_the_others(burdens: list[tuple[int, int]]) -> None:
    urls = [str(number) for number in range(len(burdens))]
    chosen = joined(*urls).choose(0, lambda url: burdens[int(url)])
    assert chosen is not None
    assert burdens[int(chosen)] == min(burdens)
