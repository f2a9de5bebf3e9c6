"""One segment of a model run on rows that are given and compared as bytes."""

import numpy as np

from twofold.kernels.base import WeightKernels
from twofold.model.manifest import Model
from twofold.wire.rows import Layout, Rows


class Runner:
    """Runs one segment of a model on rows given as bytes."""

    def __init__(self, model: Model, kernels: WeightKernels, layout: Layout) -> None:
        self.model, self.kernels, self.layout = model, kernels, layout
        self.rows = Rows(layout)

    def random_rows(self, segment: int, count: int, seed: int) -> list[dict[str, np.ndarray]]:  # type: ignore[type-arg]
        """`count` rows, as plane → values: ordinary sizes, zeros, and a few large outliers."""
        rng = np.random.default_rng(seed)
        planes = self.model.segments[segment].cut.takes
        drawn = []
        for _ in range(count):
            row = {}
            for plane in planes:
                if plane.dtype == "i32":
                    row[plane.name] = rng.integers(0, self.model.manifest.vocabulary, 1).astype(np.int32)
                else:
                    values = rng.standard_normal(plane.width) * 10.0 ** rng.integers(-3, 2)
                    values[rng.random(plane.width) < 0.02] *= 100
                    values[rng.random(plane.width) < 0.1] = 0
                    row[plane.name] = values.astype(self.rows[plane.name].dtype)
            drawn.append(row)
        return drawn

    def run(self, segment: int, rows: list[dict[str, np.ndarray]]) -> list[bytes]:  # type: ignore[type-arg]
        """What the segment gives for each row, as bytes."""
        for i, row in enumerate(rows):
            for name, values in row.items():
                self.rows[name][i] = values
        self.kernels.run(segment, self.rows, len(rows))
        gives = self.model.segments[segment].cut.gives
        return [b"".join(self.rows[p.name][i].tobytes() for p in gives) for i in range(len(rows))]
