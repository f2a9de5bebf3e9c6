"""The handshake: whether two processors may work together, and if not, why not.

    client ──Hello──▶ weight processor
    client ◀─Welcome── (or Failed, with the reason)

Both sides apply the same test to the same two messages.
"""

import msgspec

from twofold.errors import FrameError, one_line
from twofold.model.manifest import Manifest
from twofold.model.segment import EXPERT_IN, EXPERT_OUT, Mixture, Plane
from twofold.units import GIB, bytes_text
from twofold.wire.message import Hello, Welcome
from twofold.wire.rows import Layout

ROWS_LIMIT = 65536  # rows of one call
WIDTH_LIMIT = 1 << 24  # values of one row of a plane
LAYOUT_BYTES = 1 * GIB  # of the planes of one connection
DIGEST_DIGITS = 64


def refusal(hello: Hello, welcome: Welcome) -> str | None:
    """Why the client of `hello` and the weight processor of `welcome` cannot work together, or None."""
    programs = f"client runs {one_line(hello.program)}, weight processor runs {one_line(welcome.program)}"
    if hello.protocol != welcome.protocol:
        return (
            f"protocol versions differ: client {hello.protocol}, weight processor {welcome.protocol}; "
            f"install the same version on both sides ({programs})"
        )
    if hello.numerics != welcome.numerics:
        return (
            f"numerics versions differ: client {hello.numerics}, weight processor {welcome.numerics}; "
            f"install the same version on both sides ({programs})"
        )
    held = welcome.manifest.digest
    if hello.digest is not None and hello.digest != held:
        return (
            f"model digests differ: client wants {_short(hello.digest)}, "
            f"weight processor holds {_short(held)} ({one_line(welcome.manifest.name)}); "
            "give both sides the same model file"
        )
    return None


def layout_of(welcome: Welcome) -> Layout:
    """Where the planes of the link lie; FrameError if the manifest cannot be that of a model."""
    problem = _sizes_problem(welcome) or _manifest_problem(welcome)
    if problem:
        raise FrameError(f"the weight processor's manifest is not valid: {problem}")
    layout = Layout(welcome.manifest, rows=welcome.rows, head_rows=welcome.head_rows)
    if layout.size_bytes > LAYOUT_BYTES:
        raise FrameError(
            f"the weight processor's planes need {bytes_text(layout.size_bytes)} a connection; "
            f"the limit is {bytes_text(LAYOUT_BYTES)}"
        )
    return layout


def limited(welcome: Welcome, rows: int | None) -> Welcome:
    """`welcome` for a client whose calls may have no more than `rows` rows (None: as many as anybody's)."""
    if rows is None:
        return welcome
    return msgspec.structs.replace(welcome, rows=min(welcome.rows, rows), head_rows=min(welcome.head_rows, rows))


def _sizes_problem(welcome: Welcome) -> str | None:
    for name, rows in (("rows", welcome.rows), ("head_rows", welcome.head_rows)):
        if not 1 <= rows <= ROWS_LIMIT:
            return f"{name} is {rows}, not 1 to {ROWS_LIMIT}"
    held, segments = welcome.segments, welcome.manifest.segments
    if len(set(held)) != len(held) or not all(0 <= segment < segments for segment in held):
        return f"the segments held are not distinct numbers below {segments}"
    return None


def _manifest_problem(welcome: Welcome) -> str | None:
    manifest = welcome.manifest
    if len(manifest.digest) != DIGEST_DIGITS or not set(manifest.digest) <= set("0123456789abcdef"):
        return f"its digest is not {DIGEST_DIGITS} hexadecimal digits"
    counted = sum(mixture.count for mixture in manifest.mixtures)  # both ends of a step share theirs
    if counted > 2 * manifest.segments or not all(_fits(manifest, mixture) for mixture in manifest.mixtures):
        return "its mixtures of experts do not go with its segments"
    ends = [manifest.cuts[end] for end in manifest.ends]
    if not ends or any(cut.takes != ends[0].takes for cut in ends):
        return f"{manifest.segments} segments do not go with {len(manifest.layers)} layers"
    seen: dict[str, Plane] = {}
    for cut in manifest.cuts:
        for plane in (*cut.takes, *cut.gives):
            if not 1 <= plane.width <= WIDTH_LIMIT:
                return f"plane {one_line(plane.name)} is {plane.width} wide, not 1 to {WIDTH_LIMIT}"
            if seen.setdefault(plane.name, plane) != plane:
                return f"plane {one_line(plane.name)} differs from one cut to another"
    return None


def _fits(manifest: Manifest, mixture: Mixture) -> bool:
    """Whether the parts of a mixture are segments that take and give what parts do."""
    parts = (mixture.first, mixture.first + mixture.count - 1, mixture.front, mixture.back)
    if not 0 <= mixture.segment < mixture.first or not all(len(manifest.layers) < n < manifest.segments for n in parts):
        return False
    given = {plane.name: plane.dtype for plane in manifest.cuts[mixture.front].gives}
    taken = {plane.name: plane.dtype for plane in manifest.cuts[mixture.back].takes}
    experts = {manifest.cuts[expert] for expert in mixture.experts}
    return (
        mixture.count >= 1
        and (given.get(EXPERT_IN), given.get(mixture.ids), given.get(mixture.shares)) == ("f32", "i32", "f32")
        and taken.get(mixture.routed) == "f32"
        and len(experts) == 1
        and [plane.name for cut in experts for plane in (*cut.takes, *cut.gives)] == [EXPERT_IN, EXPERT_OUT]
    )


def _short(digest: str) -> str:
    return one_line(digest)[:16]
