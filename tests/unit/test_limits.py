"""Limits: what makes no sense is refused by name; what ends an answer."""

import pytest

from twofold.engine.limits import Limits
from twofold.errors import RequestError


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"max_tokens": 0}, "max-tokens"),
        ({"max_tokens": -3}, "max-tokens"),
        ({"min_tokens": -1}, "min-tokens"),
        ({"max_tokens": 4, "min_tokens": 5}, "min-tokens"),
        ({"stop": ("",)}, "stop string"),
        ({"stop": ("\udc00",)}, "stop string"),
        ({"stop_ids": (3, -1)}, "stop-ids"),
    ],
)
def test_limits_that_make_no_sense_are_refused_by_name(wrong: dict[str, object], name: str) -> None:
    with pytest.raises(RequestError, match=name):
        Limits(**wrong)  # type: ignore[arg-type]


def test_stop_ids_end_an_answer_even_if_the_models_own_end_does_not() -> None:
    assert Limits(stop_ids=(7,)).ends({2}) == {2, 7}
    assert Limits(stop_ids=(7,), ignore_end=True).ends({2}) == {7}
