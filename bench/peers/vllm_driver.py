"""vLLM on the processor, for bench/compare.py.

    VLLM_PYTHON bench/peers/vllm_driver.py HF_DIR THREADS    serves requests (protocol.py)

vLLM chooses its threads itself. Prompts are random ids and prefix caching is off; decoding is timed without the
first token.
"""

import os
import random
import sys
import time

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ["HF_HUB_OFFLINE"] = "1"

import vllm
from protocol import answers, serve

PROMPT, VOCABULARY = 12, 40_000  # ids below are ordinary tokens in every vocabulary we use

WARM = 4  # tokens that are not timed


class Model:
    """The engine with one checkpoint in bf16."""

    def __init__(self, path: str) -> None:
        self.engine = vllm.LLM(
            path, dtype="bfloat16", max_model_len=2048, max_num_seqs=32, enable_prefix_caching=False,
            disable_log_stats=True,
        )  # fmt: skip

    def decode(self, streams: int, tokens: int) -> dict[str, float]:
        """Tokens a second of all streams together."""
        self._seconds(streams, PROMPT, WARM)
        first, whole = (self._seconds(streams, PROMPT, count) for count in (1, tokens + 1))
        return {"tokens_per_second": streams * tokens / (whole - first)}

    def prefill(self, prompt: int) -> dict[str, float]:
        """Prompt tokens a second until the next token is known."""
        self._seconds(1, PROMPT, 1)
        return {"tokens_per_second": prompt / self._seconds(1, prompt, 1)}

    def _seconds(self, streams: int, prompt: int, tokens: int) -> float:
        ids = [[random.randrange(100, VOCABULARY) for _ in range(prompt)] for _ in range(streams)]
        sampling = vllm.SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False)
        start = time.perf_counter()
        self.engine.generate([{"prompt_token_ids": row} for row in ids], sampling, use_tqdm=False)
        return time.perf_counter() - start


def main() -> None:
    """Serve."""
    say = answers()
    model = Model(sys.argv[1])
    serve(say, {"system": "vLLM", "version": vllm.__version__}, {"decode": model.decode, "prefill": model.prefill})


if __name__ == "__main__":
    main()
