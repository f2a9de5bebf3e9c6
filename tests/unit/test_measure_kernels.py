"""Measuring kernels: what is multiplied is sane, and every figure is of the rows, bytes and limit it names."""

import numpy as np
import pytest
from engines import native

from twofold.engine import measure_kernels
from twofold.engine.measure import Figure, Limits
from twofold.engine.measure_kernels import Shape, attention, grouped_heads, linear, random_weights
from twofold.errors import RequestError
from twofold.kernels.blocks import decode
from twofold.model.format import FORMATS, Q4_0, Format

SHAPE = Shape(48, 256)


def limits(read: float, multiply: float) -> Limits:
    return Limits(
        Figure("read bandwidth", "bytes_per_second", read, []),
        Figure("int8 rate", "multiplications_per_second", multiply, []),
    )


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_random_weights_of_every_format_are_small_finite_and_not_all_alike(kind: Format) -> None:
    raw = random_weights(kind, SHAPE)
    assert len(raw) == kind.size_bytes(SHAPE.outputs * SHAPE.inputs)
    values = decode(kind, memoryview(raw), SHAPE.outputs, SHAPE.inputs).dequantised()
    assert 0 < np.abs(values).max() < 100
    assert values.std() > 1e-3


def test_a_product_is_measured_at_each_number_of_rows_against_the_limit_that_binds_it() -> None:
    with native() as backend:
        one, many = linear(backend, limits(1.0, 10.0), Q4_0, SHAPE, rounds=2, rows=(1, 32))
    assert [figure.what.rpartition(", ")[2] for figure in (one, many)] == ["1 row", "32 rows"]
    assert (one.limit, many.limit) == ("read bandwidth", "int8 rate")
    assert one.share_of_limit == pytest.approx(one.median * 18 / 32)  # 18 bytes hold 32 weights
    assert many.share_of_limit == pytest.approx(many.median / 10)


def test_a_sample_multiplies_by_another_copy_each_time() -> None:
    class Recorded:
        segments: list[int] = []  # noqa: RUF012

        def work(self, segment: int, rows: object, count: int) -> None:
            self.segments.append(segment)

    with native() as backend:
        product = measure_kernels.Product(backend, Q4_0, SHAPE, copies=3)
        product.memory.close()
        product.memory = Recorded()  # type: ignore[assignment]
        for _ in range(4):
            product.run(1)
    assert Recorded.segments == [1, 2, 3, 1]


def test_attention_is_measured_in_bytes_of_kv_cache_at_any_position_the_model_has() -> None:
    heads = grouped_heads(130, layers=2, heads=4, kv_heads=2)
    with native() as backend:
        figure = attention(heads, backend, limits(1e3, 1.0), context=130, rounds=2)
        with pytest.raises(RequestError, match="do not fit the model's context"):
            attention(heads, backend, limits(1e3, 1.0), context=131, rounds=1)
    assert min(figure.rounds) > 0
    assert (figure.unit, figure.limit) == ("bytes_per_second", "read bandwidth")
    assert figure.share_of_limit == pytest.approx(figure.median / 1e3)
