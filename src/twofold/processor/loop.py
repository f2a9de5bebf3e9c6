"""The loop that serves calls, natively as long as nothing else arrives (`native/serve.c`)."""

import ctypes
import functools
from collections.abc import Callable
from typing import Any

from twofold.errors import InternalError, TwofoldError
from twofold.link.base import Service
from twofold.link.desk import Arrival, Desk, Place
from twofold.link.port import SPIN_NS, Port, native_layout
from twofold.log import logger
from twofold.native import library
from twofold.processor.tally import Tally
from twofold.schedule.calls import CallQueue
from twofold.units import Nanoseconds
from twofold.wire.rows import Rows

_Work = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_uint32, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint64))


class _Server(ctypes.Structure):
    _fields_ = (
        ("desk", ctypes.c_void_p),
        ("port", ctypes.c_void_p),
        ("owner", ctypes.c_void_p),
        ("calls", ctypes.c_void_p),
        ("layout", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("native", ctypes.c_void_p),
        ("held", ctypes.c_void_p),
        ("work", ctypes.c_void_p),
        ("tally", ctypes.c_void_p),
        ("ports", ctypes.c_void_p),
        ("what", ctypes.c_void_p),
        ("called", ctypes.c_int64),
        ("vocabulary", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
    )


class Loop:
    """Takes calls that arrive at `desk` through `queue` to `service`, and counts them in `tally`."""

    def __init__(self, service: Service, desk: Desk, queue: CallQueue, tally: Tally) -> None:
        layout = service.layout
        self._desk, self._service, self._rows = desk, service, Rows(layout)
        self._native_layout = native_layout(layout)
        self._calls_at = (ctypes.c_void_p * desk.places)()  # ports, by place
        self._owner = (ctypes.c_int32 * desk.places)(*[-1] * desk.places)
        self._held = (ctypes.c_uint8 * len(layout.cuts))(*[s in service.held for s in range(len(layout.cuts))])
        self._ports = (ctypes.c_void_p * layout.rows)()
        self._what = (ctypes.c_int32 * layout.rows)()
        self._work: Any = _Work(self._worked)
        self._keep = (queue, tally)
        self._logger = logger("processor")
        self._raw = _Server(
            desk=desk.address,
            port=ctypes.addressof(self._calls_at),
            owner=ctypes.addressof(self._owner),
            calls=queue.address,
            layout=ctypes.addressof(self._native_layout),
            rows=self._rows.address,
            native=service.native_segments(),
            held=ctypes.addressof(self._held),
            work=ctypes.c_void_p.from_buffer(self._work).value,  # `cast` would keep it for ever
            tally=tally.address,
            ports=ctypes.addressof(self._ports),
            what=ctypes.addressof(self._what),
            vocabulary=service.manifest.vocabulary,
        )
        self.failure: TwofoldError | None = None  # why the last batch that FAILED did, if that is known
        self._reference = ctypes.byref(self._raw)
        self._function = _function()

    def greet(self, place: Place, calls: Port) -> None:
        """Calls of `place` arrive at this port."""
        self._calls_at[place.index] = calls.address

    def straight(self, place: Place, owner: int | None) -> None:
        """Calls that arrive at `place` go straight to the queue, as this owner's; None: `turn` tells of them."""
        self._owner[place.index] = -1 if owner is None else owner

    @property
    def called_ns(self) -> int:
        """When the last call came straight to the queue; monotonic."""
        return int(self._raw.called)

    def turn(self, until_ns: int) -> list[Arrival]:
        """Serve until then (monotonic), or until something else is to be seen to: what arrived.

        The calls of a batch that FAILED are to be tried each by itself, so that none fails for another.
        """
        self.failure = None
        count = self._function(self._reference, SPIN_NS, until_ns, self._desk.arrivals)
        return self._desk.arrived(count)

    def close(self) -> None:
        """No turn may follow; the native loop and this one then hold each other no longer."""
        self._raw.work = self._work = None

    def work(self, rows: Rows, segment: int, count: int) -> Nanoseconds:
        """The work of the service; whatever else goes wrong there is an InternalError."""
        try:
            return self._service.work(segment, rows, count)
        except TwofoldError:
            raise
        except Exception as error:
            self._logger.exception("segment %d of %d rows failed", segment, count)
            what = f"{type(error).__name__}: {error}"
            raise InternalError(f"the weight processor failed with {what}; please report this") from error

    def _worked(self, segment: int, count: int, worked: Any) -> int:
        """`work` for the native loop; 1 if it failed, with `failure`."""
        try:
            worked[0] = self.work(self._rows, segment, count)
        except TwofoldError as error:
            self.failure = error
            return 1
        return 0


@functools.cache
def _function() -> Callable[..., int]:
    function = library().tf_serve
    function.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    return function
