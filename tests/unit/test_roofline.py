"""The roofline: where points stand, and what the limits allow."""

import json
from pathlib import Path

from roofline import roofline, title

ROOT = Path(__file__).parents[2]

RESULT = {
    "systems": [
        {"system": "peer"},
        {"system": "twofold", "multiplications_per_token": 300, "read_bytes_per_token": 200},
    ],
    "works": {
        "decode 8": {
            "rounds": [{"twofold": 1.0, "peer": 4.0}, {"twofold": 3.0, "peer": 5.0}, {"twofold": 2.0, "peer": 6.0}],
            "beside": [{"read_bytes_per_second": 3000.0, "multiplications_per_second": 6000.0}] * 3,
        },
        "start": {"rounds": [{"twofold": 9.0}], "beside": []},
    },
}


def test_a_point_stands_at_its_multiplications_a_byte_and_its_median_rate() -> None:
    assert roofline(RESULT)["points"] == {"twofold": [("decode 8", 12.0, 2.0)], "peer": [("decode 8", 12.0, 5.0)]}


def test_the_limits_are_those_of_bytes_and_of_products() -> None:
    found = roofline(RESULT)
    one_row = 300 / 200  # multiplications a byte
    assert found["slope"] * one_row == 3000 / 200  # tokens a second that the reading of one row allows
    assert found["flat"] == 6000 / 300


def test_the_stored_picture_is_of_the_stored_comparison() -> None:
    stored = json.loads((ROOT / "bench/results/compare-smollm2.json").read_text())
    assert title(stored) in (ROOT / "docs/pictures/roofline.svg").read_text()
