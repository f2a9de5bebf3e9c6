"""The loop of `step.py` in one native call (`native/walk.c`), where every segment is called through a port.

Same calls in the same order, so the same bits; what the call of a segment comes to that is no plain answer is left to
the lane's `Caller`, and then the walk goes on.
"""

import ctypes
import functools
import time
from typing import Any

from twofold.engine.caller import Caller
from twofold.engine.step import Context
from twofold.link.calling import SLICE_NS
from twofold.link.port import SPIN_NS, What, native_layout
from twofold.memory.context import ContextMemory
from twofold.native import library


class _Walk(ctypes.Structure):
    _fields_ = (
        ("port", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
        ("layout", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("worked_ns", ctypes.c_uint64),
        ("context_ns", ctypes.c_uint64),
        ("segment", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
    )


class Walk:
    """One lane's way through the layers."""

    def __init__(self, weights: Caller, context: ContextMemory, attend: Context) -> None:
        """`attend`: the context operation of a layer that is not done natively."""
        self._weights, self._context, self._attend = weights, context, attend
        self._layers = len(context.manifest.layers)
        self._layout = native_layout(weights.rows.layout)
        self._raw = _Walk(layout=ctypes.addressof(self._layout), rows=weights.rows.address)
        self._reference = ctypes.byref(self._raw)
        self._function = _function()
        self.context_ns = 0  # of the layers done natively

    def __call__(self, count: int) -> int:
        """Pass the first `count` rows through the layers; how many, as the rest may have to go call by call."""
        raw, nanoseconds = self._raw, int(self._weights.deadline * 1e9)
        raw.segment, raw.count = 0, count
        while raw.segment < self._layers:
            ports = self._weights.ports(self._layers)
            calls = self._context.native_layers(self._weights.rows, count)
            if ports is None or calls is None:
                break
            raw.port, raw.context = ports, calls
            raw.worked_ns = raw.context_ns = 0
            first, start = raw.segment, time.perf_counter_ns()
            what = self._function(self._reference, self._layers, nanoseconds, SPIN_NS, SLICE_NS)
            spent = time.perf_counter_ns() - start - raw.context_ns
            self._weights.account(raw.segment - first, raw.worked_ns, spent)
            self.context_ns += raw.context_ns
            if what != What.CALL:
                self._weights.resume(raw.segment, count, what)
                self._attend(raw.segment, count)
                raw.segment += 1
        return int(raw.segment)


@functools.cache
def _function() -> Any:
    function = library().tf_walk
    function.argtypes = (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int64, ctypes.c_int64)
    return function
