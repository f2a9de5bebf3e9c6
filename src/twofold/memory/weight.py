"""Weight memory: address and rows in, rows out. It keeps nothing between two calls."""

import time
from collections.abc import Callable, Sequence

from twofold.errors import RequestError
from twofold.kernels.base import Backend, Capabilities, Progress
from twofold.model.checkpoint import Tensors
from twofold.model.manifest import Manifest, Model
from twofold.model.ranges import ranges_text
from twofold.units import Nanoseconds
from twofold.wire.rows import Layout, Rows


class WeightMemory:
    """The context-free half of a model, or some segments of it, on one backend."""

    def __init__(
        self,
        model: Model,
        tensors: Tensors,
        backend: Backend,
        *,
        tokenizer: Callable[[], bytes] = bytes,
        segments: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Load the weights of `segments` (default: all). `tokenizer` makes what context processors that ask get."""
        self.manifest: Manifest = model.manifest
        self.held = frozenset(range(model.manifest.segments) if segments is None else segments)
        self.layout = Layout(model.manifest)
        self._tokenizer = tokenizer
        self._backend = backend
        self._kernels = backend.weights(model, tensors, sorted(self.held), self.layout, progress)

    @property
    def size_bytes(self) -> int:
        """Bytes the weights occupy."""
        return self._kernels.size_bytes

    def capabilities(self) -> Capabilities:
        """What runs the operations."""
        return self._backend.capabilities()

    def tokenizer(self) -> bytes:
        """The tokenizer's data, for a context processor that has no model file."""
        return self._tokenizer()

    def work(self, segment: int, rows: Rows, count: int) -> Nanoseconds:
        """Run `segment` on the first `count` rows, in place; returns the time it took.

        Raises RequestError for an address not held here, too many rows, or a token id outside the vocabulary.
        """
        start = time.perf_counter_ns()
        if segment not in self.held:
            raise RequestError(f"segment {segment} is not held here; held: {ranges_text(self.held)}")
        if not 1 <= count <= self.layout.limit(segment):
            raise RequestError(
                f"{count} rows in a call of segment {segment}; 1 to {self.layout.limit(segment)} are allowed"
            )
        if segment == 0:
            ids = rows["ids"][:count]
            if int(ids.min()) < 0 or int(ids.max()) >= self.manifest.vocabulary:
                raise RequestError(f"a token id is outside the vocabulary of {self.manifest.vocabulary}")
        self._kernels.run(segment, rows, count)
        return Nanoseconds(time.perf_counter_ns() - start)

    def native_segments(self) -> int | None:
        """Where the native calls of the segments are, if there are any (`Service.native_segments`)."""
        return self._kernels.native_segments()

    def expert_rows(self) -> dict[int, tuple[int, ...]]:
        """Rows that went to each expert, by the segment that the mixture belongs to; 0 for experts held elsewhere."""
        counted: dict[int, tuple[int, ...]] = {}
        firsts: set[int] = set()
        for mixture in self.manifest.mixtures:  # both ends of a step share theirs
            if mixture.first not in firsts and self.held.intersection(mixture.experts):
                totals = (self._kernels.total(expert) if expert in self.held else 0 for expert in mixture.experts)
                counted[mixture.segment] = tuple(totals)
                firsts.add(mixture.first)
        return counted

    def forget(self) -> None:
        """Wipe what the kernels wrote beside the rows since this was last called."""
        self._kernels.forget()

    def close(self) -> None:
        """Give the memory back."""
        self._kernels.close()
