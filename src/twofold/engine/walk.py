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


class _Lane(ctypes.Structure):
    _fields_ = (
        ("port", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("wanted", ctypes.c_void_p),
        ("worked_ns", ctypes.c_uint64),
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

    def __call__(self, lanes: Sequence[Lane]) -> list[Stand]:
        """Pass the lanes' rows through the model as their tasks say; where each stands, as not all may be at the end.

        All tasks have the same layers and end.
        """
        for number, lane in enumerate(lanes):
            if not self._load(number, lane):
                return [Stand()] * len(lanes)
        raw, task, spent = self._raw, lanes[0].task, lanes[0].weights.spent
        raw.lanes, raw.layers, raw.end, raw.context_ns = len(lanes), task.layers, task.end, 0
        try:
            start = time.perf_counter_ns()
            what = self._function(self._address, int(lanes[0].weights.deadline * 1e9), SPIN_NS, SLICE_NS)
            took = time.perf_counter_ns() - start
            self.context_ns += raw.context_ns
            mine = self._lanes[: len(lanes)]
            spent.add(sum([one.stage for one in mine]), sum([one.worked_ns for one in mine]), took - raw.context_ns)
        except BaseException:
            self._hand_over(lanes, What.NOTHING)
            raise
        return self._hand_over(lanes, what)

    def _load(self, number: int, lane: Lane) -> bool:
        """Whether all calls of the lane can be made natively."""
        task = lane.task
        port = lane.weights.ports((*range(task.layers), task.end) if task.wanted else range(task.layers))
        context = lane.placed.layers(task.rows)
        if port is None or context is None:
            return False
        count, wanted = len(task.wanted), self._wanted[number]
        wanted[:count] = list(task.wanted)
        self._lanes[number] = _Lane(port, context, lane.rows.address, ctypes.addressof(wanted), 0, task.rows, count)
        return True

    def _hand_over(self, lanes: Sequence[Lane], what: int) -> list[Stand]:
        """What the lanes' callers have to finish; `what`: what the call of the lane whose turn it is has come to."""
        for number, (lane, raw) in enumerate(zip(lanes, self._lanes, strict=False)):
            if raw.begun:
                last = raw.stage >= lane.task.layers
                segment, count = (lane.task.end, raw.wanted_count) if last else (raw.stage, raw.count)
                lane.weights.adopt(segment, count, what if number == self._raw.turn else What.NOTHING)
        return [Stand(raw.stage, bool(raw.begun)) for _, raw in zip(lanes, self._lanes, strict=False)]


@functools.cache
def _function() -> Any:
    function = library().tf_walk
    function.argtypes = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int64, ctypes.c_int64)
    return function
