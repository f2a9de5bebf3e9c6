"""Whether a constraint can be prepared in bounded time and memory: tried out in a process that may be killed.

The library bounds its work a token. It does not bound what it makes of a grammar beforehand: twenty patterns that must
hold together take it minutes, in native code that nothing can interrupt. A process that reached its limits says that
the constraint is too costly; one that ended well did in a moment what is then done again here.
"""

import functools
import subprocess
import sys

from twofold.engine.constraint import Constraint
from twofold.errors import DeviceError, RequestError, one_line
from twofold.units import GIB, Seconds

CPU_LIMIT = 2  # seconds
MEMORY_LIMIT_BYTES = GIB
NICE = 10  # so that those who decode meanwhile keep nine tenths of the processors they share with it
PATIENCE = Seconds(30.0)  # on a machine that is busy with other work
REFUSED = 3

# The child knows nothing of Twofold, so that it starts fast. Standard input: the grammar.
_CHILD = f"""
import os, resource, sys
os.nice({NICE})
resource.setrlimit(resource.RLIMIT_CPU, ({CPU_LIMIT}, {CPU_LIMIT}))
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_LIMIT_BYTES}, {MEMORY_LIMIT_BYTES}))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
from llguidance import LLMatcher, LLParserLimits
wrong = LLMatcher.validate_grammar(sys.stdin.buffer.read().decode(), limits=LLParserLimits(verbose_errors=False))
sys.stdout.buffer.write(wrong.encode())
sys.exit({REFUSED} if wrong else 0)
"""


def vet(constraint: Constraint, grammar: str) -> None:
    """Raise RequestError, naming the constraint's kind, if `grammar` is wrong or costs too much; a verdict is kept."""
    wrong = _verdict(grammar)
    if wrong:
        raise RequestError(f"{constraint.kind} is refused: {wrong}")


@functools.lru_cache(maxsize=256)
def _verdict(grammar: str) -> str:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD], input=grammar.encode(), capture_output=True, check=False, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(
            f"a constraint could not be tried out in {PATIENCE:.0f} s; the machine is overloaded"
        ) from None
    except OSError as error:
        raise DeviceError(f"no process could be started to try out a constraint: {error.strerror}") from error
    if done.returncode == 0:
        return ""
    if done.returncode == REFUSED:
        return one_line(done.stdout.decode(errors="replace"))[:300]
    return (
        f"preparing it takes more than {CPU_LIMIT} s of work or {MEMORY_LIMIT_BYTES // GIB} GiB of memory; "
        "make it simpler (fewer patterns that must hold together)"
    )
