"""`twofold chat`: a conversation, kept in context memory from turn to turn."""

import contextlib
import readline  # noqa: F401  (gives input its line editing and history)
import signal
import sys
from collections.abc import Iterator

from rich.console import Console

from twofold.cli import keeping, options, show
from twofold.cli.run import PROMPT_BYTES, summary
from twofold.config import read_settings
from twofold.engine.assemble import Ready, open_engine
from twofold.engine.engine import Session
from twofold.engine.generate import Generation
from twofold.engine.kept import Keeper, unseen
from twofold.engine.limits import Limits
from twofold.engine.sampling import Sampling
from twofold.errors import ContextError, RequestError
from twofold.model.chat import ChatTemplate, Message
from twofold.store.catalogue import DEFAULT_MODEL

HELP = "Type a message and Enter; /reset forgets the conversation, /exit or Ctrl-D ends it, Ctrl-C stops an answer."


def chat(
    model: options.Model = DEFAULT_MODEL,
    split: options.Split = False,
    weights: options.Weights = None,
    map_file: options.Map = None,
    wait: options.Wait = None,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    top_k: options.TopK = 0,
    min_p: options.MinP = 0.0,
    seed: options.Seed = 0,
    repetition_penalty: options.RepetitionPenalty = 1.0,
    presence_penalty: options.PresencePenalty = 0.0,
    frequency_penalty: options.FrequencyPenalty = 0.0,
    max_tokens: options.MaxTokens = 512,
    stop: options.Stop = None,
    threads: options.Threads = None,
    context: options.Context = None,
    packed_cache: options.PackedCache = None,
    keep: options.Keep = None,
) -> None:
    """Talk with a model. What was said stays in context memory, so each turn reads only what is new."""
    settings = options.placed(
        read_settings(
            threads=threads, context=context, weights=weights, map=map_file, wait=wait, packed_cache=packed_cache
        ),
        split=split,
    )
    sampling = Sampling(temperature, top_k, top_p, min_p, seed, repetition_penalty, presence_penalty, frequency_penalty)
    limits = Limits(max_tokens, tuple(stop or ()))
    with (
        show.ShownProgress() as progress,
        open_engine(model, settings, split=split, progress=progress) as ready,
        keeping.kept(ready.engine, settings, keep) if keep else contextlib.nullcontext() as keeper,
    ):
        progress.finish()
        if ready.tokenizer.data.chat_template is None:
            raise RequestError("this model has no chat template, so it cannot hold a conversation; use twofold run")
        show.note(HELP)
        if keeper and keeper.turns:
            show.note(f"Going on with '{keeper.name}': {len(keeper.turns)} messages.")
        Conversation(ready, sampling, limits, keeper).hold()


class Conversation:
    """The messages so far and the session that has seen them; `keeper` keeps both after each answer."""

    def __init__(self, ready: Ready, sampling: Sampling, limits: Limits, keeper: Keeper | None = None) -> None:
        self.ready, self.sampling, self.limits = ready, sampling, limits
        self.template = ChatTemplate.of(ready.tokenizer.data)
        self.keeper = keeper
        self.messages: list[Message] = keeping.messages(keeper) if keeper else []
        self.session: Session = keeper.session if keeper else ready.engine.open()

    def hold(self) -> None:
        """Read, answer, repeat, until the input ends."""
        while (line := _ask()) is not None:
            if line in ("/exit", "/quit"):
                return
            if line == "/reset":
                self.messages.clear()
                self.ready.engine.rewind(self.session, 0)
                self._keep()
                show.note("Forgotten.")
            elif line.strip():
                self._turn(line)

    def _turn(self, text: str) -> None:
        """One answer; what fails or is stopped leaves the conversation as it was before, or as far as it came."""
        self.messages.append(Message("user", text))
        try:
            generation = self._generation()
            ids = self._new_tokens()
        except RequestError as error:
            self.messages.pop()
            show.note(f"twofold: {error}")
            return
        try:
            with interruptible(generation):
                for piece in generation.run(ids):
                    show.write(piece)
        except RequestError as error:
            self.messages.pop()
            show.note(f"twofold: {error}; /reset starts afresh")
            return
        show.write("\n")
        if generation.finish_reason == "interrupted":
            show.note("(stopped)")
        self.messages.append(Message("assistant", generation.text))
        show.note(summary(generation.timings))
        self._keep()

    def _keep(self) -> None:
        if self.keeper:
            try:
                keeping.keep(self.keeper, self.messages)
            except ContextError as error:
                show.note(f"twofold: {error}")

    def _generation(self) -> Generation:
        ready = self.ready
        return Generation(ready.engine, self.session, ready.tokenizer, self.sampling, self.limits, hashed=False)

    def _new_tokens(self) -> list[int]:
        """What of the conversation the session has not seen; what it saw and is no longer part of it is rewound."""
        ids = self.ready.tokenizer.encode(self.template.render(self.messages), add_bos=False)
        return unseen(self.ready.engine, self.session, ids)


@contextlib.contextmanager
def interruptible(generation: Generation) -> Iterator[None]:
    """Inside, Ctrl-C ends the answer after the token in hand, so that the session can go on; a second ends us."""
    before = signal.getsignal(signal.SIGINT)

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        generation.interrupt()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _ask() -> str | None:
    """A line from the user, None at the end of the input."""
    if sys.stdin is not None and sys.stdin.isatty():
        try:
            return Console().input("[bold]>[/bold] ")
        except EOFError:
            return None
    if sys.stdin is None:
        return None
    line = sys.stdin.buffer.readline(PROMPT_BYTES)
    try:
        return line.decode().rstrip("\n") if line else None
    except UnicodeDecodeError as error:
        raise RequestError(
            f"standard input is not UTF-8 text ({error.reason} at byte {error.start} of a line)"
        ) from error
