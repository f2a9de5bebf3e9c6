"""What is asked is checked where it is written down, and travels as it is."""

import msgspec
import pytest

from twofold.engine.constraint import Constraint
from twofold.engine.limits import Limits
from twofold.engine.request import Request
from twofold.engine.sampling import Sampling
from twofold.errors import RequestError


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"max_tokens": -3},
        {"stop": ("",)},
        {"stop": ("a\ud800",)},
        {"min_tokens": -1},
        {"min_tokens": 5, "max_tokens": 4},
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        Limits(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"prompt": ()}, {"logprobs": -1}, {"logprobs": 21}])
def test_a_request_that_no_answer_can_have_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        Request(**({"prompt": (1,)} | wrong))  # type: ignore[arg-type]


def test_a_request_comes_back_from_json_as_it_went() -> None:
    request = Request(
        prompt=(1, 2),
        sampling=Sampling(temperature=0.5),
        limits=Limits(max_tokens=3, stop=("x",), stop_ids=(4,)),
        constraint=Constraint("regex", "a+"),
        owner="key",
    )
    assert msgspec.json.decode(msgspec.json.encode(request), type=Request) == request
