"""The choosing of one answer's tokens: what is asked of them, and what they depend on of those before."""

import importlib
from typing import Protocol

import numpy as np

from twofold.engine.constraint import Constraint
from twofold.engine.request import Chosen, Request
from twofold.engine.sampling import Sampling, likeliest_of, penalised, sample, uniform
from twofold.errors import RequestError
from twofold.kernels.arithmetic import F32, I64
from twofold.kernels.binding import ChoiceStruct
from twofold.kernels.choosing import U32, best
from twofold.model.tokenizer import Tokenizer

NEVER = np.float32(-np.inf)


class Matcher(Protocol):
    """Where an answer stands in its constraint."""

    finished: bool  # nothing more is allowed

    def prepare(self) -> None:
        """Make what `allowed` will tell, ahead of time."""

    def allowed(self) -> U32:
        """Which tokens may come next: bit t mod 32 of uint32[ceil(vocabulary / 32)] at t // 32, others are 0.

        RequestError if the constraint became too costly to tell.
        """

    def take(self, token: int) -> None:
        """The answer goes on with `token`, which was allowed."""


class Sampler:
    """Chooses the tokens of one answer, one after the other; docs/numerics.md, section 12, has the order of its steps.

    The random number of a token depends on the seed and the position alone, and no step depends on other answers, so
    load changes nothing. Made by whoever asks, as a constraint takes its time. Raises RequestError for tokens outside
    the vocabulary and for a constraint that cannot be had.
    """

    def __init__(self, request: Request, tokenizer: Tokenizer, vocabulary: int) -> None:
        self._sampling, self._limits, self._logprobs = request.sampling, request.limits, request.logprobs
        _check(request, vocabulary)
        self._ends = np.array(sorted(self._limits.ends(tokenizer.end_ids)), np.int64)
        self._seen = _Seen(request.prompt, vocabulary) if self._sampling.penalised else None
        self._biased = np.array([token for token, _ in self._sampling.logit_bias], np.int64)
        self._bias = np.array([bias for _, bias in self._sampling.logit_bias], np.float32)
        self._matcher = None if request.constraint is None else _matcher(request.constraint, tokenizer, vocabulary)
        self._left = np.empty(0 if self._matcher is None else vocabulary, np.float32)  # logits of what is allowed
        self._chosen = 0
        self._choice = _choice(self._sampling, vocabulary)

    @property
    def finished(self) -> bool:
        """Whether the constraint allows nothing more, so that the answer is complete."""
        return self._matcher is not None and self._matcher.finished

    @property
    def largest(self) -> int | None:
        """How many of the largest logits of the next token decide; None if all do."""
        young = self._chosen < self._limits.min_tokens
        if young or self._seen or self._matcher or len(self._biased) or self._logprobs is not None:
            return None
        return self._sampling.largest

    def prepare(self) -> None:
        """Find out what the constraint allows next; in any thread, between two calls of `choose`."""
        if self._matcher is not None:
            self._matcher.prepare()

    def choose(self, logits: F32, position: int) -> Chosen:
        """The token that will stand at `position`, from logits f32[vocabulary], which are left as they are.

        Raises ModelError for logits that are not numbers, RequestError if the constraint became too costly.
        """
        likeliest = likeliest_of(logits)
        adjusted = self._adjusted(logits)
        if adjusted is not logits:
            likeliest = likeliest_of(adjusted)
        token = likeliest if self._sampling.temperature == 0.0 else self._drawn(adjusted, likeliest, position)
        self._remember(token)
        return Chosen(token) if self._logprobs is None else _with_log_probabilities(logits, token, self._logprobs)

    def _adjusted(self, logits: F32) -> F32:
        """Logits after bias, penalties and what is not allowed: a copy, unless there is nothing of these."""
        young = self._chosen < self._limits.min_tokens and len(self._ends)
        adjusted = logits
        if young or self._seen or len(self._biased):
            adjusted = logits.copy()
            adjusted[self._biased] += self._bias
        if self._seen is not None:
            ids = self._seen.ids
            adjusted[ids] = penalised(adjusted[ids], self._seen.counts, self._sampling)
        if self._matcher is not None:
            adjusted = best().mask(np.ascontiguousarray(adjusted), self._matcher.allowed(), self._left)
        if young:
            ends = adjusted[self._ends]
            adjusted[self._ends] = NEVER
            if adjusted.max() == NEVER:  # the constraint allows the end alone
                adjusted[self._ends] = ends
        return adjusted

    def _drawn(self, logits: F32, likeliest: int, position: int) -> int:
        choice = self._choice
        choice.uniform = uniform(self._sampling.seed, position)
        choice.most = logits[likeliest]
        token = best().token(np.ascontiguousarray(logits), choice)
        return sample(logits, self._sampling, position) if token is None else token

    def _remember(self, token: int) -> None:
        self._chosen += 1
        if self._seen is not None:
            self._seen.add(token)
        if self._matcher is not None:
            self._matcher.take(token)


class _Seen:
    """The tokens of prompt and answer, each once, and how often each is in the answer."""

    def __init__(self, prompt: tuple[int, ...], vocabulary: int) -> None:
        self._place = {token: place for place, token in enumerate(dict.fromkeys(prompt))}
        self._ids = np.empty(vocabulary, np.int64)
        self._ids[: len(self._place)] = list(self._place)
        self._counts = np.zeros(vocabulary, np.int64)

    @property
    def ids(self) -> I64:
        """The tokens."""
        return self._ids[: len(self._place)]

    @property
    def counts(self) -> I64:
        """How often each is in the answer."""
        return self._counts[: len(self._place)]

    def add(self, token: int) -> None:
        """One more of the answer."""
        place = self._place.setdefault(token, len(self._place))
        self._ids[place] = token
        self._counts[place] += 1


def _check(request: Request, vocabulary: int) -> None:
    named = {"prompt": request.prompt, "stop-ids": request.limits.stop_ids}
    named["logit-bias"] = tuple(token for token, _ in request.sampling.logit_bias)
    for name, tokens in named.items():
        wrong = next((token for token in tokens if not 0 <= token < vocabulary), None)
        if wrong is not None:
            raise RequestError(f"{name} has the token {wrong}; the tokens of this model are 0 to {vocabulary - 1}")


def _choice(sampling: Sampling, vocabulary: int) -> ChoiceStruct:
    return ChoiceStruct(vocabulary, sampling.top_k, sampling.top_p, sampling.min_p, 0.0, sampling.temperature, 0.0)


def _matcher(constraint: Constraint, tokenizer: Tokenizer, vocabulary: int) -> Matcher:
    """The library of constraints is imported now, because it would cost every start its time."""
    guidance = importlib.import_module("twofold.engine.guidance")
    matcher: Matcher = guidance.matcher(constraint, tokenizer, vocabulary)
    return matcher


def _with_log_probabilities(logits: F32, token: int, count: int) -> Chosen:
    """`token` with its log-probability in the model's own distribution, and the `count` likeliest with theirs."""
    row = np.ascontiguousarray(logits)
    most = float(row.max())
    total = best().log_partition(row, most)
    top = best().top(row, min(count, len(row))) if count else []
    return Chosen(
        token, float(row[token]) - most - total, tuple((other, float(row[other]) - most - total) for other in top)
    )
