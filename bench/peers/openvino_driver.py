"""OpenVINO GenAI on the processor, for bench/compare.py.

    OPENVINO_PYTHON bench/peers/openvino_driver.py MODEL_DIR THREADS    serves requests (protocol.py)

One stream and prompts go through LLMPipeline, several streams through ContinuousBatchingPipeline: each where it is
fastest. Prompts are random ids, so the prefix cache never helps; decoding is timed without the first token.
"""

import random
import sys
import time
from importlib.metadata import version

import openvino
import openvino_genai
from protocol import answers, serve

PROMPT, VOCABULARY = 12, 40_000  # ids below are ordinary tokens in every vocabulary we use
CACHE_GB = 2
WARM = 4  # tokens that are not timed


def options(tokens: int) -> openvino_genai.GenerationConfig:
    """Greedy, exactly `tokens` tokens."""
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens, config.do_sample, config.ignore_eos = tokens, False, True
    config.apply_chat_template = False
    return config


def ids(count: int) -> openvino.Tensor:
    """A prompt that was never seen before."""
    tensor = openvino.Tensor(openvino.Type.i64, openvino.Shape([1, count]))
    tensor.data[:] = [[random.randrange(100, VOCABULARY) for _ in range(count)]]
    return tensor


class Model:
    """Both pipelines of one exported model."""

    def __init__(self, path: str, threads: int) -> None:
        self.single = openvino_genai.LLMPipeline(path, "CPU", INFERENCE_NUM_THREADS=threads)
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size, scheduler.max_num_seqs, scheduler.enable_prefix_caching = CACHE_GB, 32, False
        self.batched = openvino_genai.ContinuousBatchingPipeline(
            path, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads}
        )

    def decode(self, streams: int, tokens: int) -> dict[str, float]:
        """Tokens a second of all streams together."""
        if streams == 1:
            self._alone(PROMPT, WARM)
            return {"tokens_per_second": 1000 / self._alone(PROMPT, tokens + 1).get_tpot().mean}
        self._together(streams, WARM)
        first, whole = (self._together(streams, count) for count in (1, tokens + 1))
        return {"tokens_per_second": streams * tokens / (whole - first)}

    def prefill(self, prompt: int) -> dict[str, float]:
        """Prompt tokens a second until the next token is known."""
        self._alone(PROMPT, 1)
        return {"tokens_per_second": 1000 * prompt / self._alone(prompt, 1).get_ttft().mean}

    def _alone(self, prompt: int, tokens: int) -> openvino_genai.PerfMetrics:
        mask = openvino.Tensor(openvino.Type.i64, openvino.Shape([1, prompt]))
        mask.data[:] = 1
        inputs = openvino_genai.TokenizedInputs(ids(prompt), mask)
        return self.single.generate(inputs, options(tokens)).perf_metrics

    def _together(self, streams: int, tokens: int) -> float:
        prompts = [ids(PROMPT) for _ in range(streams)]
        start = time.perf_counter()
        self.batched.generate(prompts, [options(tokens)] * streams)
        return time.perf_counter() - start


def main() -> None:
    """Serve."""
    say = answers()
    model = Model(sys.argv[1], int(sys.argv[2]))
    identity = {"system": "OpenVINO", "version": version("openvino-genai")}
    serve(say, identity, {"decode": model.decode, "prefill": model.prefill})


if __name__ == "__main__":
    main()
