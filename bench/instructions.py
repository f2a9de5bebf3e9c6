"""How many instructions the hot kernels execute: a guard for speed that a noisy machine cannot blur.

    python bench/instructions.py            counts and stores bench/results/instructions.json
    python bench/instructions.py --check    exit 1 if a count grew by more than 3 % over the stored one

The kernel is called in a forked child that its parent lets run one instruction at a time (ptrace); what counts are
the instructions of our own library. That is the same number every time, needs no hardware counter, and works at every
vector level, also at those that no simulator knows. Fewer instructions are not always faster; many more never are.
"""

import argparse
import ctypes
import functools
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from twofold.engine.machine import processor
from twofold.engine.measure_kernels import Product, Shape, grouped_heads, remembered
from twofold.errors import DeviceError, TwofoldError
from twofold.kernels.binding import Functions
from twofold.kernels.native import Native
from twofold.model.format import FORMATS
from twofold.native import PATH

STORED = Path(__file__).resolve().parent / "results" / "instructions.json"
TOLERANCE = 0.03
# level: numbers of rows, the larger being what it multiplies side by side; few, as a step may take 50 µs
LEVELS = {"sse2": (1,), "avx2": (1, 4), "avx512vnni": (1, 12)}
SHAPE = Shape(32, 256)  # one unit of columns
POSITIONS = 128
TRACE_ME, PEEK_USER, SINGLE_STEP = 0, 3, 9  # <sys/ptrace.h>
INSTRUCTION_POINTER = 16 * 8  # of struct user, x86-64 <sys/user.h>
Counts = dict[str, float]


def main() -> int:
    """Count; store, or compare with what is stored."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the stored counts and store nothing")
    check = parser.parse_args().check
    try:
        counts = {name: count for level in LEVELS for name, count in cases(level)}
    except DeviceError as error:
        print(f"instructions: skipped: {error}")
        return 0
    if not check:
        record = {"unit": "instructions for a multiplication", "machine": processor(), "compiler": compiler()}
        STORED.write_text(json.dumps(record | {"counts": counts}, indent=1) + "\n")
        return 0
    stored = json.loads(STORED.read_text())
    worse = grown(stored["counts"], counts)
    for line in worse:
        print(f"instructions: {line}")
    print(f"instructions: {len(counts)} counts, {len(worse)} worse; {compiler()}, stored with {stored['compiler']}")
    return 1 if worse else 0


def grown(stored: Mapping[str, float], counts: Mapping[str, float]) -> list[str]:
    """A line for each count more than TOLERANCE above the stored one, and for each that is stored or counted alone."""
    lines = [f"{name} is stored and was not counted" for name in stored if name not in counts]
    for name, count in counts.items():
        if name not in stored:
            lines.append(f"{name} is not stored; run python bench/instructions.py")
        elif count > stored[name] * (1 + TOLERANCE):
            lines.append(f"{name} grew from {stored[name]:.4f} to {count:.4f} a multiplication")
    return lines


def cases(level: str) -> Iterator[tuple[str, float]]:
    """(name, instructions for a multiplication) of every hot kernel at one level; DeviceError if none can be had."""
    if platform.machine() != "x86_64":
        raise DeviceError(f"instructions are counted on x86_64, this is {platform.machine()}; use such a machine")
    if level not in Functions().levels():
        raise DeviceError(f"this processor has no {level}; use one that has")
    backend = Native(threads=1, level=level)  # no second thread, so that a child is whole
    for kind in FORMATS:
        product = Product(backend, kind, SHAPE, copies=1)
        for rows in LEVELS[level]:
            steps = counted(functools.partial(product.run, rows), backend.functions, "segment")
            yield (
                f"{level}, {kind.name}, {rows} row{'' if rows == 1 else 's'}",
                steps / (rows * product.multiplications),
            )
        product.memory.close()
    heads = grouped_heads(POSITIONS, layers=1, heads=2, kv_heads=1)
    memory, placed = remembered(heads, backend, POSITIONS)
    steps = counted(lambda: placed.attend(0, 1), backend.functions, "context")
    multiplications = 2 * POSITIONS * heads.layers[0].heads * heads.layers[0].head_dim
    yield f"{level}, attention, {POSITIONS} positions", steps / multiplications
    memory.shutdown()
    backend.close()


def counted(work: Callable[[], object], functions: Functions, called: str) -> int:
    """Instructions of the native library in the call of `functions.called` that `work` makes."""
    work()  # binds what is bound at first use
    call = getattr(functions, called)

    def stepped(*arguments: Any) -> NoReturn:
        os.kill(os.getpid(), signal.SIGSTOP)
        call(*arguments)
        os._exit(0)

    setattr(functions, called, stepped)
    try:
        return _steps(work)
    finally:
        setattr(functions, called, call)


def _steps(work: Callable[[], object]) -> int:
    """Instructions of our library in a child that stops itself, then works, then ends."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.restype, ptrace.argtypes = ctypes.c_long, (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    start, end = library_range()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # parent and child take turns: on one core, at once
    child = os.fork()
    if not child:
        if ptrace(TRACE_ME, 0, None, None) == 0:
            work()
        os._exit(1)
    steps, status = 0, os.waitpid(child, 0)[1]
    while os.WIFSTOPPED(status):
        steps += start <= ptrace(PEEK_USER, child, INSTRUCTION_POINTER, None) < end
        ptrace(SINGLE_STEP, child, None, None)
        status = os.waitpid(child, 0)[1]
    if os.waitstatus_to_exitcode(status):
        raise DeviceError("this system does not let a process trace its child (ptrace); allow it or count elsewhere")
    return steps


def library_range() -> tuple[int, int]:
    """Addresses between which the native library's code lies in this process."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    code = next(line for line in lines if line.endswith(str(PATH)) and " r-xp " in line)
    start, end = (int(number, 16) for number in code.split()[0].split("-"))
    return start, end


def compiler() -> str:
    """Name and version of the C compiler that builds here."""
    command = os.environ.get("CC", "cc")
    return subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TwofoldError as failure:
        sys.exit(f"instructions: {failure}")
