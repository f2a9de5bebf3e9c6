"""A sampler for tests of what it is given."""

import hashlib

import numpy as np

from twofold.engine.request import Chosen, Request
from twofold.engine.sampler import Sampler
from twofold.kernels.arithmetic import F32
from twofold.model.tokenizer import Tokenizer


class Recording(Sampler):
    """Remembers the logits it was given."""

    def __init__(self, request: Request, tokenizer: Tokenizer, vocabulary: int) -> None:
        super().__init__(request, tokenizer, vocabulary)
        self.hash = hashlib.sha256()

    def choose(self, logits: F32, position: int) -> Chosen:
        self.hash.update(np.ascontiguousarray(logits, "<f4").data)
        return super().choose(logits, position)
