"""OpenVINO GenAI's ContinuousBatchingPipeline in process, for bench/serving.py: a minimal loop, no HTTP before it.

    OPENVINO_PYTHON bench/peers/openvino_serving.py MODEL_DIR THREADS SEQUENCES    serves requests (protocol.py)

The loop adds every request that is due and that there is room for, makes one step, and notes whose tokens came. The
prefix cache is on. Nothing is detokenised and nothing is sent, which is in its favour.
"""

import sys
import time
from collections import deque
from importlib.metadata import version
from typing import Any

import openvino
import openvino_genai
from openvino_driver import options
from protocol import answers, serve

CACHE_GB = 2
IDLE_SECONDS = 0.001


class Under:
    """A request under way."""

    def __init__(self, number: int, handle: Any, tokens: int) -> None:
        self.number, self.handle, self.left = number, handle, tokens
        self.timing = [time.monotonic(), 0.0, 0.0, tokens]

    def read(self) -> bool:
        """Note what came; whether it was the last."""
        while self.left and self.handle.can_read():
            outputs = self.handle.read().values()
            self.left -= sum(len(output.generated_ids) for output in outputs)
            self.timing[2] = time.monotonic()
            self.timing[1] = self.timing[1] or self.timing[2]
        return self.left <= 0


class Model:
    """The pipeline of one exported model."""

    def __init__(self, path: str, threads: int, sequences: int) -> None:
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size, scheduler.max_num_seqs, scheduler.enable_prefix_caching = CACHE_GB, sequences, True
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(
            path, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads}
        )
        self.numbers = 0

    def load(self, requests: list[Any], most: int) -> dict[str, Any]:
        """The timings of all, in their order."""
        waiting = deque(enumerate(requests))
        running: list[Under] = []
        timings: list[Any] = [None] * len(requests)
        start = time.monotonic()
        while waiting or running:
            while waiting and len(running) < most and start + waiting[0][1][0] <= time.monotonic():
                number, (_, prompt, tokens) = waiting.popleft()
                running.append(Under(number, self._add(prompt, tokens), tokens))
            if not running:
                time.sleep(IDLE_SECONDS)
                continue
            self.pipeline.step()
            for one in [one for one in running if one.read()]:
                running.remove(one)
                timings[one.number] = one.timing
        return {"timings": timings}

    def _add(self, prompt: list[int], tokens: int) -> Any:
        ids = openvino.Tensor(openvino.Type.i64, openvino.Shape([1, len(prompt)]))
        ids.data[:] = [prompt]
        self.numbers += 1
        return self.pipeline.add_request(self.numbers, ids, options(tokens))


def main() -> None:
    """Serve."""
    say = answers()
    model = Model(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    serve(say, {"system": "OpenVINO", "version": version("openvino-genai")}, {"load": model.load})


if __name__ == "__main__":
    main()
