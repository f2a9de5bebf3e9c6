from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import native
from troubled import Troubled

from twofold.kernels.native import Native
from twofold.model.checkpoint import Checkpoint


@pytest.fixture
def backend() -> Iterator[Native]:
    with native() as made:
        yield made


@pytest.fixture
def weights(tiny_path: Path, backend: Native) -> Iterator[Troubled]:
    with Checkpoint.open(tiny_path) as checkpoint:
        memory = Troubled(checkpoint.model, checkpoint.tensor, backend)
    yield memory
    memory.close()
