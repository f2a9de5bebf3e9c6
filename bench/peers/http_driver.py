"""A server and its client, for bench/serving.py: both in this process group, so that both are frozen between turns.

    python bench/peers/http_driver.py NAME VERSION MODEL PORT COMMAND...    serves requests (protocol.py)

The server is ready once it answers. Its output is thrown away.
"""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from protocol import answers, serve
from traffic.client import Seen, Server, ask
from traffic.play import play
from traffic.work import FIRST_ID, Asked

READY_SECONDS, GLANCE_SECONDS = 600.0, 0.1


def wait(server: Server, process: "subprocess.Popen[bytes]") -> None:
    """Until it answers; SystemExit if it ends instead, or takes too long."""
    expiry = time.monotonic() + READY_SECONDS
    while time.monotonic() < expiry and process.poll() is None:
        if asyncio.run(ask(server, Asked(0.0, [FIRST_ID], 1))).status == 200:
            return
        time.sleep(GLANCE_SECONDS)
    sys.exit("the server did not begin to answer")


def timing(request: Asked, seen: Seen) -> list[float]:
    """Sent, first, last, tokens; SystemExit if it was not answered whole."""
    if seen.status != 200 or seen.finish != "length" or seen.error or seen.first is None or seen.last is None:
        sys.exit(f"a request was not answered whole: {seen}")
    return [seen.sent, seen.first, seen.last, request.tokens]


def main() -> None:
    """Start the server, then serve."""
    say = answers()
    name, version, model, port, *command = sys.argv[1:]
    server = Server("127.0.0.1", int(port), model)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def load(requests: list[Any], most: int) -> dict[str, Any]:
        asked = [Asked(*request) for request in requests]
        seen = asyncio.run(play(asked, lambda request: ask(server, request), most))
        return {"timings": [timing(*pair) for pair in zip(asked, seen, strict=True)]}

    try:
        wait(server, process)
        serve(say, {"system": name, "version": version}, {"load": load})
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
