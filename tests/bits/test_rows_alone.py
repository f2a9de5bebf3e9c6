"""R1 as a property: a row's result depends on that row and the weights, never on its neighbours."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import native
from hypothesis import given, settings
from hypothesis import strategies as st
from one_operation import CASES, one_operation
from segment_runner import Runner
from tiny_gguf import TinyLlama, write_tiny_llama

from twofold.kernels.base import Backend
from twofold.kernels.reference import Reference
from twofold.model.checkpoint import Checkpoint
from twofold.wire.rows import Layout


@pytest.fixture(scope="module", params=["native", "reference"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    if request.param == "reference":
        yield Reference()
    else:
        with native(threads=2) as fast:
            yield fast


def check_rows_are_alone(runner: Runner, segment: int, examples: int) -> None:
    limit = min(30, runner.layout.limit(segment))

    @settings(max_examples=examples, deadline=None)
    @given(count=st.integers(1, limit), seed=st.integers(0, 1 << 30), data=st.data())
    def check(count: int, seed: int, data: st.DataObject) -> None:
        rows = runner.random_rows(segment, count, seed)
        together = runner.run(segment, rows)
        order = data.draw(st.permutations(range(count)))
        chosen = order[: data.draw(st.integers(1, count))]
        assert runner.run(segment, [rows[i] for i in chosen]) == [together[i] for i in chosen]
        one = data.draw(st.integers(0, count - 1))
        assert runner.run(segment, [rows[one]]) == [together[one]]
        strangers = runner.random_rows(segment, count, seed + 1)
        strangers[one] = rows[one]
        assert runner.run(segment, strangers)[one] == together[one]

    check()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_context_free_operation_treats_each_row_alone(case, backend: Backend) -> None:  # type: ignore[no-untyped-def]
    model, tensors = one_operation(case)
    layout = Layout(model.manifest)
    kernels = backend.weights(model, tensors, [case.segment], layout)
    check_rows_are_alone(Runner(model, kernels, layout), case.segment, examples=15)
    kernels.close()


@pytest.mark.parametrize("experts", [0, 5])
def test_every_segment_treats_each_row_alone(experts: int, backend: Backend, tmp_path: Path) -> None:
    with Checkpoint.open(write_tiny_llama(tmp_path / "m.gguf", TinyLlama(experts=experts))) as checkpoint:
        model, layout = checkpoint.model, Layout(checkpoint.model.manifest)
        kernels = backend.weights(model, checkpoint.tensor, range(len(model.segments)), layout)
    runner = Runner(model, kernels, layout)
    for segment in range(len(model.segments)):
        check_rows_are_alone(runner, segment, examples=15)
    kernels.close()


@pytest.mark.parametrize("segment", [0, 1, 17, 30])
def test_segments_of_smollm2_treat_each_row_alone(smollm2_path: Path, segment: int) -> None:
    with native(threads=2) as fast, Checkpoint.open(smollm2_path) as checkpoint:
        model, layout = checkpoint.model, Layout(checkpoint.model.manifest)
        kernels = fast.weights(model, checkpoint.tensor, [segment], layout)
        check_rows_are_alone(Runner(model, kernels, layout), segment, examples=10)
        kernels.close()
