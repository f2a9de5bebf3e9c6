"""llama.cpp through llama-cpp-python, for bench/compare.py.

    LLAMA_PYTHON bench/peers/llama_cpp_driver.py MODEL.gguf THREADS           serves requests (protocol.py)
    LLAMA_PYTHON bench/peers/llama_cpp_driver.py MODEL.gguf THREADS --first   prints the first token and ends

All streams are sequences of one batch, each going on with its likeliest token.
"""

import argparse
import random
import time

import llama_cpp
import numpy as np
from protocol import answers, serve

BATCH = 2048
PROMPT, WARM = 12, 4  # tokens that a stream has seen, and decoded, before it is timed
LONGEST_SECONDS = 10.0  # of decoding: beside a busy neighbour a token may take seconds


class Model:
    """An open model; every work makes a context of its own, outside of what is timed."""

    def __init__(self, path: str, threads: int) -> None:
        llama_cpp.llama_backend_init()
        self.threads = threads
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(BATCH, 0, 32)
        self.context = None

    def open(self, streams: int, positions: int) -> None:
        """A context with room for `positions` a stream."""
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max = streams * positions, streams
        params.n_batch, params.n_ubatch = BATCH, 512
        params.n_threads = params.n_threads_batch = self.threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)

    def close(self) -> None:
        """Free the context."""
        llama_cpp.llama_free(self.context)

    def step(self, rows: list[tuple[int, int, int]], wanted: set[int]) -> None:
        """One batch of (token, stream, position); logits of the rows in `wanted`."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, stream, position) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, i in wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, stream
        if llama_cpp.llama_decode(self.context, batch):
            raise SystemExit("llama.cpp failed to decode a batch")

    def likeliest(self, row: int) -> int:
        """The likeliest token after `row` of the last batch."""
        logits = llama_cpp.llama_get_logits_ith(self.context, row)
        return int(np.ctypeslib.as_array(logits, (self.vocabulary,)).argmax())

    def decode(self, streams: int, tokens: int) -> dict[str, float]:
        """Tokens a second of all streams together."""
        self.open(streams, -(-(PROMPT + WARM + tokens) // 256) * 256)
        self.step([(100 + s + p, s, p) for s in range(streams) for p in range(PROMPT)], set())
        chosen, everyone = [100 + s for s in range(streams)], set(range(streams))
        start, done, seconds = time.perf_counter(), -WARM, 0.0
        while done < tokens and seconds < LONGEST_SECONDS:
            self.step([(chosen[s], s, PROMPT + WARM + done) for s in range(streams)], everyone)
            chosen = [self.likeliest(s) for s in range(streams)]
            done += 1
            if done == 0:
                start = time.perf_counter()
            seconds = time.perf_counter() - start
        self.close()
        return {"tokens_per_second": streams * max(done, 0) / seconds}

    def prefill(self, prompt: int) -> dict[str, float]:
        """Prompt tokens a second until the next token is known."""
        tokens = [random.randrange(self.vocabulary) for _ in range(prompt)]
        self.open(1, prompt + 256)
        start = time.perf_counter()
        self.step([(token, 0, place) for place, token in enumerate(tokens)], {prompt - 1})
        self.likeliest(prompt - 1)
        seconds = time.perf_counter() - start
        self.close()
        return {"tokens_per_second": prompt / seconds}


def first(path: str, threads: int) -> None:
    """The first token after a short prompt, as a program that uses the library would get it."""
    model = llama_cpp.Llama(path, n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False)
    model.eval(model.tokenize(b"Once upon a time"))
    print(model.detokenize([model.sample(temp=0.0)]), flush=True)


def main() -> None:
    """Serve, or say the first token."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("threads", type=int)
    parser.add_argument("--first", action="store_true")
    asked = parser.parse_args()
    if asked.first:
        first(asked.model, asked.threads)
        return
    say, model = answers(), Model(asked.model, asked.threads)
    identity = {"system": "llama.cpp", "version": llama_cpp.__version__}
    serve(say, identity, {"decode": model.decode, "prefill": model.prefill})


if __name__ == "__main__":
    main()
