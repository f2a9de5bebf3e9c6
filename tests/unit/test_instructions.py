"""The guard of instruction counts: it fails for more instructions, and counts the same work alike."""

import json

import instructions
import pytest
from engines import LEVELS, native

from twofold.engine.measure_kernels import Product, Shape
from twofold.errors import DeviceError
from twofold.model.format import Q4_0

STORED = {"a": 1.0, "b": 2.0}


def test_what_stays_within_the_tolerance_passes_and_so_does_what_shrinks() -> None:
    assert instructions.grown(STORED, {"a": 1.029, "b": 1.0}) == []


def test_a_count_that_grew_is_named_with_both_numbers() -> None:
    assert instructions.grown(STORED, {"a": 1.04, "b": 2.0}) == ["a grew from 1.0000 to 1.0400 a multiplication"]


def test_a_case_that_only_one_side_has_fails() -> None:
    lines = instructions.grown(STORED, {"a": 1.0, "c": 1.0})
    assert [line.split()[0] for line in lines] == ["b", "c"]


def test_every_case_that_is_counted_is_stored() -> None:
    stored = json.loads(instructions.STORED.read_text())["counts"]
    assert {name.split(",")[0] for name in stored} == set(instructions.LEVELS)
    assert all(0.05 < count < 50 for count in stored.values())


@pytest.mark.skipif("avx2" not in LEVELS, reason="this processor has no avx2")
def test_the_same_call_takes_the_same_number_of_instructions_and_more_rows_take_more() -> None:
    with native(level="avx2") as backend:
        product = Product(backend, Q4_0, Shape(16, 32), copies=1)
        try:
            counts = [
                instructions.counted(lambda rows=rows: product.run(rows), backend.functions, "segment")
                for rows in (1, 1, 3)
            ]
        except DeviceError as error:
            pytest.skip(str(error))
        finally:
            product.memory.close()
    assert 100 < counts[0] == counts[1] < 2500  # of our library alone; the way there through Python takes thousands
    assert counts[2] > 1.5 * counts[0]
