"""How weights lie in a file: the formats we read, their blocks and their published ids.

A format stores a matrix row by row in blocks of `block` consecutive elements, `block_bytes` each.
Source of ids and block layouts: the GGUF specification (ggml type table).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """One storage format of weights."""

    name: str
    ggml_id: int
    block: int  # elements
    block_bytes: int
    zero_point: int = 0  # kept integers are this much above their values; of the K formats only where no offset does it

    def size_bytes(self, elements: int) -> int:
        """Bytes of `elements` elements; `elements` must be a multiple of `block`."""
        return elements // self.block * self.block_bytes


F32 = Format("F32", 0, 1, 4)
F16 = Format("F16", 1, 1, 2)
BF16 = Format("BF16", 30, 1, 2)
Q4_0 = Format("Q4_0", 2, 32, 18, zero_point=8)
Q4_1 = Format("Q4_1", 3, 32, 20)
Q5_0 = Format("Q5_0", 6, 32, 22, zero_point=16)
Q5_1 = Format("Q5_1", 7, 32, 24)
Q8_0 = Format("Q8_0", 8, 32, 34, zero_point=128)
Q4_K = Format("Q4_K", 12, 256, 144)
Q5_K = Format("Q5_K", 13, 256, 176)
Q6_K = Format("Q6_K", 14, 256, 210, zero_point=32)
MXFP4 = Format("MXFP4", 39, 32, 17, zero_point=12)

FORMATS: tuple[Format, ...] = (F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, MXFP4)
BY_GGML_ID: dict[int, Format] = {f.ggml_id: f for f in FORMATS}

# Names of published ids that we cannot read yet: only so that a refusal can name what it saw.
UNSUPPORTED_NAMES: dict[int, str] = {
    9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K",
    16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS",
    24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 40: "NVFP4",
}  # fmt: skip


def format_of(ggml_id: int) -> Format | None:
    """The format with this published id, or None if we do not read it."""
    return BY_GGML_ID.get(ggml_id)


def name_of(ggml_id: int) -> str:
    """The published name of an id, for messages."""
    known = BY_GGML_ID.get(ggml_id)
    return known.name if known else UNSUPPORTED_NAMES.get(ggml_id, f"type {ggml_id}")
