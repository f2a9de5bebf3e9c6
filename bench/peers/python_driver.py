"""`twofold.LLM` without HTTP, for bench/serving.py: the same requests in one event loop of the process that computes.

python bench/peers/python_driver.py MODEL CONTEXT SEQUENCES    serves requests (protocol.py)
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from protocol import answers, serve
from traffic.play import play
from traffic.work import Asked

from twofold import LLM, __version__


async def ask(llm: LLM, asked: Asked) -> list[float]:
    """Sent, first, last, tokens."""
    sent = time.monotonic()
    first = last = 0.0
    stream = await llm.astream(asked.prompt, max_tokens=asked.tokens, temperature=0.0, ignore_end=True)
    async for text in stream:
        if text:
            last = time.monotonic()
            first = first or last
    return [sent, first or time.monotonic(), last or time.monotonic(), asked.tokens]


def main() -> None:
    """Serve."""
    say = answers()
    with LLM(sys.argv[1], context=int(sys.argv[2]), max_num_seqs=int(sys.argv[3])) as llm:

        def load(requests: list[Any], most: int) -> dict[str, Any]:
            asked = [Asked(*request) for request in requests]
            return {"timings": asyncio.run(play(asked, lambda one: ask(llm, one), most))}

        serve(say, {"system": "twofold, Python", "version": __version__}, {"load": load})


if __name__ == "__main__":
    main()
