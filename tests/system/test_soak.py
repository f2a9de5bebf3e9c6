"""The soak in short: what `bench/soak.py` does for half an hour with a real model, with a tiny one for seconds."""

from pathlib import Path

import soak

SECONDS, LOAD, CONTEXT = 15.0, 1.5, 8192


def test_a_server_with_more_to_do_than_it_can_keeps_every_promise(tiny: Path) -> None:
    result = soak.soak(tiny, context=CONTEXT, seconds=SECONDS, load=LOAD, seed=1)
    broken = {name: promise for name, promise in result["promises"].items() if not promise["kept"]}
    assert not broken, result
    told = result["outcomes"]
    assert min(told["answered"], told["refused"], told["left"]) > 0
    assert result["growth"] is not None
    assert result["return"]["requests_it_was_killed_with"].count("answered") < soak.LAST
