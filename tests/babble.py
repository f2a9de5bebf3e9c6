"""Answers of a model that says anything at all: what is true of them is true because of their constraint."""

import numpy as np

from twofold.engine.constraint import Constraint
from twofold.engine.limits import Limits
from twofold.engine.request import Request
from twofold.engine.sampler import Sampler
from twofold.engine.sampling import Sampling
from twofold.model.tokenizer import Tokenizer


def babble(tokenizer: Tokenizer, constraint: Constraint, seed: int, limits: Limits | None = None) -> str:
    """What random logits say under a constraint, to its end."""
    random = np.random.default_rng(seed)
    limits = limits or Limits()
    sampler = Sampler(
        Request(prompt=(5,), sampling=Sampling(temperature=2, seed=seed), limits=limits, constraint=constraint),
        tokenizer,
        tokenizer.vocab_size,
    )
    answer: list[int] = []
    while not sampler.finished and not (answer and answer[-1] in tokenizer.end_ids):
        assert len(answer) < 1500
        sampler.prepare()
        logits = random.standard_normal(tokenizer.vocab_size).astype(np.float32) * 3
        answer.append(sampler.choose(logits, len(answer)).token)
    return tokenizer.decode(answer)
