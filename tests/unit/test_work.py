"""Where an engine's time goes adds up."""

from pathlib import Path

from engines import all_logits, engine, some_tokens

from twofold.engine.work import Processor, at_work
from twofold.memory.map import Entry, Replica, State
from twofold.units import Seconds


def test_the_time_by_segment_and_by_layer_adds_up_to_all_of_it(tiny_path: Path) -> None:
    with engine(tiny_path) as plain:
        layers = len(plain.manifest.layers)
        assert plain.work().segments_ns == [0] * (layers + 1)
        all_logits(plain, some_tokens(40, plain.manifest.vocabulary), chunk=10)
        work = plain.work()
        assert work.calls == 4 * (layers + 1)
        assert (len(work.segments_ns), len(work.layers_ns)) == (layers + 1, layers)
        assert min(*work.segments_ns, *work.layers_ns) > 0
        assert (sum(work.segments_ns), sum(work.layers_ns)) == (work.weights_ns, work.context_ns)


def test_both_ends_of_a_step_count_as_its_end(tiny_path: Path) -> None:
    with engine(tiny_path) as plain:
        plain.feed(plain.open(), [1, 2, 3])
        before = plain.work()
        plain.weights.spent.segments_ns[len(plain.manifest.layers) + 1] += 5
        assert plain.work().segments_ns == [*before.segments_ns[:-1], before.segments_ns[-1] + 5]


def test_what_is_told_of_a_replica_is_not_its_address() -> None:
    replica = Replica(
        Entry("tcp://weights.example:7070"), State.SUSPECT, Seconds(1), frozenset({0, 1, 2, 7}), True, "x"
    )
    assert at_work(replica) == Processor("tcp", "suspect", True, "0-2,7")
