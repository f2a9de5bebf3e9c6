"""`step` and `together` of `step.py` in one native call (`native/walk.c`), if every segment is called through a port.

Same calls in the same order, so the same bits. When a call comes to anything but a plain answer, the lanes are handed
to the loops in Python as they stand, with the calls that are on their way.
"""

import ctypes
import functools
import time
from collections.abc import Sequence
from typing import Any

from twofold.engine.lane import Lane
from twofold.engine.step import Stand
from twofold.link.port import SLICE_NS, SPIN_NS, What, native_layout
from twofold.native import library
from twofold.wire.rows import Layout

_DONE = int(What.CALL)
LONG_NS = 200_000_000  # of one walk: the rest of a longer one is walked call by call, so that signals are seen


class _Lane(ctypes.Structure):
    _fields_ = (
        ("port", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("wanted", ctypes.c_void_p),
        ("count", ctypes.c_uint32),
        ("wanted_count", ctypes.c_uint32),
        ("stage", ctypes.c_uint32),
        ("begun", ctypes.c_uint32),
    )


class _Walk(ctypes.Structure):
    _fields_ = (
        ("layout", ctypes.c_void_p),
        ("lane", ctypes.c_void_p),
        ("segment_ns", ctypes.c_void_p),
        ("layer_ns", ctypes.c_void_p),
        ("context_ns", ctypes.c_uint64),
        ("worked_ns", ctypes.c_uint64),
        ("calls", ctypes.c_uint32),
        ("lanes", ctypes.c_uint32),
        ("layers", ctypes.c_uint32),
        ("end", ctypes.c_uint32),
        ("turn", ctypes.c_uint32),
    )


class Walk:
    """The way of one or several lanes through the layers."""

    def __init__(self, layout: Layout, most_lanes: int) -> None:
        self._layout = native_layout(layout)
        self._lanes = (_Lane * most_lanes)()
        self._each = list(self._lanes)
        self._wanted = [(ctypes.c_uint32 * layout.head_rows)() for _ in range(most_lanes)]
        self.segments_ns = (ctypes.c_uint64 * len(layout.cuts))()  # time that weight memory worked, by segment
        self.layers_ns = (ctypes.c_uint64 * len(layout.cuts))()  # time in context operations, by layer
        self._raw = _Walk(
            layout=ctypes.addressof(self._layout),
            lane=ctypes.addressof(self._lanes),
            segment_ns=ctypes.addressof(self.segments_ns),
            layer_ns=ctypes.addressof(self.layers_ns),
        )
        self._address = ctypes.addressof(self._raw)
        self._function = _function()
        self.context_ns = 0  # time in context operations

    def __call__(self, lanes: Sequence[Lane]) -> list[Stand] | None:
        """Pass the lanes' rows through the model as their tasks say; where each stands if not all are at their ends.

        All tasks have the same layers and end.
        """
        for lane, raw, wanted in zip(lanes, self._each, self._wanted, strict=False):
            if not _load(raw, wanted, lane):
                return [Stand()] * len(lanes)
        raw, (_, layers, end, _), weights = self._raw, lanes[0].task, lanes[0].weights
        raw.lanes, raw.layers, raw.end = len(lanes), layers, end
        try:
            start = time.perf_counter_ns()
            what = self._function(self._address, int(weights.deadline * 1e9), SPIN_NS, SLICE_NS, LONG_NS)
            took, context = time.perf_counter_ns() - start, raw.context_ns
            self.context_ns += context
            weights.spent.add(raw.calls, raw.worked_ns, took - context)
        except BaseException:
            self._hand_over(lanes, What.NOTHING)
            raise
        return None if what == _DONE else self._hand_over(lanes, what)

    def _hand_over(self, lanes: Sequence[Lane], what: int) -> list[Stand]:
        """What the lanes' callers have to finish; `what`: what the call of the lane whose turn it is has come to."""
        for number, (lane, raw) in enumerate(zip(lanes, self._each, strict=False)):
            if raw.begun:
                last = raw.stage >= lane.task.layers
                segment, count = (lane.task.end, raw.wanted_count) if last else (raw.stage, raw.count)
                lane.weights.adopt(segment, count, what if number == self._raw.turn else What.NOTHING)
        return [Stand(raw.stage, bool(raw.begun)) for _, raw in zip(lanes, self._each, strict=False)]


def _load(raw: _Lane, wanted: ctypes.Array[ctypes.c_uint32], lane: Lane) -> bool:
    """Whether all calls of the lane can be made natively; then `raw` has them, from the first on."""
    task = lane.task
    port = lane.weights.ports(task.layers, task.end if task.wanted else None)
    context = lane.placed.layers(task.rows)
    if port is None or context is None:
        return False
    count = len(task.wanted)
    wanted[:count] = list[Any](task.wanted)
    raw.port, raw.context, raw.rows, raw.wanted = port, context, lane.rows.address, ctypes.addressof(wanted)
    raw.count, raw.wanted_count, raw.stage, raw.begun = task.rows, count, 0, 0
    return True


@functools.cache
def _function() -> Any:
    function = library().tf_walk
    function.argtypes = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    return function
