"""What every driver does: read one request a line from standard input, work, answer with one line of JSON.

    {"work": "decode", "streams": 8, "tokens": 64}   ->   {"tokens_per_second": 412.5}
    {"work": "prefill", "prompt": 700}               ->   {"tokens_per_second": 1630.0}

The first line a driver says is who it is: {"system": ..., "version": ...}. What a library prints goes to standard
error. Standard library only: drivers run in the environments of the programs they drive.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

Works = Mapping[str, Callable[..., Mapping[str, Any]]]


def answers() -> Callable[[Mapping[str, Any]], None]:
    """A function that says one line; from now on everything else that is printed goes to standard error."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer: Mapping[str, Any]) -> None:
        channel.write(json.dumps(answer) + "\n")
        channel.flush()

    return say


def serve(say: Callable[[Mapping[str, Any]], None], identity: Mapping[str, Any], works: Works) -> None:
    """Say who we are, then answer requests until standard input ends. `works` take the request's other keys."""
    say(identity)
    for line in sys.stdin:
        request = json.loads(line)
        say(works[request.pop("work")](**request))
