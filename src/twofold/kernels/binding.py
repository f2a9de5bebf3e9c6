"""The native library's structs and functions as ctypes sees them: a mirror of native/twofold.h."""

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_void_p
from enum import IntEnum

from twofold.native import library


class Step(IntEnum):
    """Kinds of steps, as native/twofold.h numbers them."""

    EMBED = 0
    RMS_NORM = 1
    QUANTISE = 2
    LINEAR = 3
    SWIGLU = 4
    ADD = 5
    WIDEN = 6
    NARROW = 7
    TOP = 8
    GATHER = 9
    LOG_SUM_EXP = 10
    LAYER_NORM = 11
    BIAS = 12
    GEGLU = 13
    SCALE = 14
    ROUTE = 15
    SHARES = 16
    EXPERTS = 17
    CLAMPED_SWIGLU = 18


class MatrixStruct(ctypes.Structure):
    """`struct matrix`: a packed weight matrix."""

    _fields_ = (
        ("rows", c_int64),
        ("width", c_int64),
        ("data", c_void_p),
        ("format", c_int32),
        ("reserved", c_int32),
    )


class PackJob(ctypes.Structure):
    """`struct pack_job`: rows of a file that become panels."""

    _fields_ = (
        ("source", c_void_p),
        ("packed", c_void_p),
        ("rows", c_int64),
        ("width", c_int64),
        ("row_bytes", c_int64),
        ("format", c_int32),
        ("damaged", c_int32),
    )


class ValueStruct(ctypes.Structure):
    """`struct value`: a plane of the rows, or scratch."""

    _fields_ = (
        ("offset", c_int64),
        ("width", c_int64),
        ("scratch", c_void_p),
        ("scale", c_void_p),
        ("part_bytes", c_int64),
    )


class ChosenStruct(ctypes.Structure):
    """`struct chosen`: how experts are chosen and weighed."""

    _fields_ = (("sigmoid", c_int32), ("normalised", c_int32), ("groups", c_int32), ("kept", c_int32))


class MixtureStruct(ctypes.Structure):
    """`struct mixture`: the experts of a step."""

    _fields_ = (
        ("call", c_void_p),
        ("count", c_int64),
        ("steps", c_int64),
        ("into", ValueStruct),
        ("out", ValueStruct),
    )


class StepStruct(ctypes.Structure):
    """`struct step`: one step of a segment."""

    _fields_ = (
        ("kind", c_int32),
        ("waits", c_int32),
        ("a", c_void_p),
        ("b", c_void_p),
        ("c", c_void_p),
        ("out", c_void_p),
        ("weight", MatrixStruct),
        ("constant", c_float),
        ("slope", c_float),
        ("fine", c_int32),
        ("columns", c_int32),
        ("zero", c_int32),
        ("chosen", ChosenStruct),
        ("mixture", c_void_p),
    )


class SegmentCall(ctypes.Structure):
    """`struct segment_call`: one call of one segment."""

    _fields_ = (
        ("pool", c_void_p),
        ("level", c_void_p),
        ("step", c_void_p),
        ("steps", c_int64),
        ("rows", c_void_p),
        ("count", c_int64),
        ("total", c_int64),
        ("touched", c_int64),
    )


class AttentionStruct(ctypes.Structure):
    """`struct attention`: one layer's context parameters."""

    _fields_ = (
        ("heads", c_int64),
        ("kv_heads", c_int64),
        ("head_dim", c_int64),
        ("page_offset", c_int64),
        ("window", c_int64),
        ("sinks", c_void_p),
        ("scale", c_float),
        ("soft_cap", c_float),
        ("interleaved", c_int32),
        ("dimensions", c_int32),
    )


class RotaryStruct(ctypes.Structure):
    """`struct rotary`: frequencies of rotary pairs."""

    _fields_ = (
        ("frequency", c_void_p),
        ("pairs", c_int64),
        ("magnitude", c_float),
        ("interleaved", c_int32),
    )


class AttendCall(ctypes.Structure):
    """`struct attend_call`: the rows of one context call."""

    _fields_ = (
        ("count", c_int64),
        ("position", c_void_p),
        ("table", c_void_p),
        ("pool", c_void_p),
        ("page_bytes", c_int64),
        ("cosine", c_void_p),
        ("sine", c_void_p),
        ("q", c_void_p),
        ("k", c_void_p),
        ("v", c_void_p),
        ("attended", c_void_p),
        ("rotated", c_void_p),
    )


class ContextCall(ctypes.Structure):
    """`struct context_call`."""

    _fields_ = (
        ("pool", c_void_p),
        ("level", c_void_p),
        ("attention", c_void_p),
        ("rows", POINTER(AttendCall)),
        ("threads", c_int64),
        ("scratch", c_void_p),
        ("scratch_floats", c_int64),
    )


class ChoiceStruct(ctypes.Structure):
    """`struct choice`: how to choose a token from a row of logits."""

    _fields_ = (
        ("width", c_int64),
        ("top_k", c_int64),
        ("top_p", c_double),
        ("min_p", c_double),
        ("uniform", c_double),
        ("temperature", c_float),
        ("most", c_float),
    )


class Functions:
    """The functions of the library with their signatures set once."""

    def __init__(self) -> None:
        lib = library()
        self.level_name = _typed(lib.tf_level_name, c_char_p, c_int)
        self.level = _typed(lib.tf_level, c_void_p, c_char_p)
        self.pool_new = _typed(lib.tf_pool_new, c_void_p, c_int)
        self.pool_free = _typed(lib.tf_pool_free, None, c_void_p)
        self.alloc = _typed(lib.tf_alloc, c_void_p, c_int64)
        self.free = _typed(lib.tf_free, None, c_void_p, c_int64)
        self.packed_bytes = _typed(lib.tf_packed_bytes, c_int64, c_int32, c_int64, c_int64)
        self.pack = _typed(lib.tf_pack, c_int32, c_void_p, c_void_p, c_int64)
        self.chunk_sums = _typed(lib.tf_chunk_sums, c_int32, c_void_p, c_int32, c_int64, c_void_p, c_int64, c_void_p)
        self.segment = _typed(lib.tf_segment, None, c_void_p)
        self.context = _typed(lib.tf_context, None, c_void_p)
        self.context_scratch = _typed(lib.tf_context_scratch, c_int64, c_void_p, c_void_p, c_int64, c_int64)
        self.rotary = _typed(lib.tf_rotary, None, c_void_p, c_void_p, c_int64, c_void_p, c_void_p)
        self.read = _typed(lib.tf_read, None, c_void_p, c_void_p, c_void_p, c_int64)
        self.multiply = _typed(lib.tf_multiply, c_int64, c_void_p, c_void_p, c_int64)
        self.exponential = _typed(lib.tf_exponential, None, c_void_p, c_void_p, c_int64, c_void_p)
        self.log_partition = _typed(lib.tf_log_partition, c_double, c_void_p, c_void_p, c_int64, c_float, c_void_p)
        self.choose = _typed(lib.tf_choose, c_int64, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)
        self.mask = _typed(lib.tf_mask, None, c_void_p, c_void_p, c_int64, c_void_p, c_void_p)
        self.top = _typed(lib.tf_top, None, c_void_p, c_void_p, c_int64, c_int64, c_void_p)

    def levels(self) -> list[str]:
        """Names of the vector levels of this processor, best first."""
        names: list[str] = []
        while name := self.level_name(len(names)):
            names.append(name.decode())
        return names


def _typed(function: "ctypes._NamedFuncPointer", result: type | None, *arguments: type) -> "ctypes._NamedFuncPointer":
    function.restype, function.argtypes = result, arguments
    return function
