"""One context processor of its own: `owner.py URL`. Reads lines of "SECONDS", decodes so long, prints how many tokens.

Each run goes on with the likeliest tokens after the same short prompt. The tokens are counted in the second half of
the time, when all owners have begun.
"""

import json
import sys
import time

from twofold.config import Settings
from twofold.engine.assemble import open_engine
from twofold.engine.measure import some_tokens
from twofold.store.progress import silent

PROMPT = 32


def main() -> None:
    """Serve the lines on standard input."""
    settings = Settings(weights=sys.argv[1], threads=1)
    with open_engine(None, settings, split=False, progress=silent) as ready:
        engine = ready.engine
        print("ready", flush=True)
        for line in sys.stdin:
            seconds = float(line)
            session = engine.open()
            start, cpu, calls = time.monotonic(), time.process_time(), engine.weights.spent.calls
            tokens = [int(engine.feed(session, some_tokens(PROMPT, engine.manifest.vocabulary)).argmax())]
            at_half = None
            while (now := time.monotonic()) < start + seconds:
                if at_half is None and now >= start + seconds / 2:
                    at_half = (len(tokens), now)
                tokens.append(int(engine.feed(session, tokens[-1:]).argmax()))
                if len(tokens) % 1024 == 0:
                    engine.rewind(session, PROMPT)
            assert at_half
            rate = (len(tokens) - at_half[0]) / (now - at_half[1])
            engine.close(session)
            cpu_us = 1e6 * (time.process_time() - cpu) / (engine.weights.spent.calls - calls)
            print(json.dumps({"tokens_per_second": rate, "first": tokens[:64], "cpu_us_a_call": cpu_us}), flush=True)


if __name__ == "__main__":
    main()
