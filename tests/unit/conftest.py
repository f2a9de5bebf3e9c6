"""A toy weight processor at an address of each kind that tests meet with raw sockets."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served
from toy_processor import ToyService, serving

from twofold.processor.weight import WeightProcessor


@pytest.fixture(params=["shm", "tcp"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"shm://{tmp_path}/{secrets.token_hex(4)}" if request.param == "shm" else "tcp://127.0.0.1:0"


@pytest.fixture
def processor(url: str) -> Iterator[WeightProcessor]:
    with serving(url, ToyService()) as processor:
        yield processor


@pytest.fixture
def served(tiny_path: Path) -> Served:
    return Served(tiny_path)
