"""What `chat`, `run --keep` and `context` share: the folder of kept contexts, and going on with one."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from twofold.cli.run import check_length, prompt_tokens
from twofold.config import Settings
from twofold.engine import kept as engine_kept
from twofold.engine.assemble import Ready
from twofold.engine.engine import Engine, Session
from twofold.engine.generate import Generation
from twofold.engine.kept import Keeper, unseen
from twofold.errors import ContextError, RequestError
from twofold.model.chat import ChatTemplate, Message
from twofold.store.context_file import Turn
from twofold.store.contexts import contexts_of


@contextlib.contextmanager
def kept(engine: Engine, settings: Settings, name: str) -> Iterator[Keeper]:
    """A conversation that goes on where the context `name` ends, or begins it; ContextError if that is plain text."""
    with engine_kept.kept(engine, contexts_of(settings), name, time.time) as keeper:
        if keeper.turns is None:
            raise ContextError(f"the context '{name}' is plain text, no conversation; go on with it by run --raw")
        yield keeper


def messages(keeper: Keeper) -> list[Message]:
    """What was said so far."""
    return msgspec.convert(msgspec.to_builtins(keeper.turns or ()), list[Message])


def keep(keeper: Keeper, said: Sequence[Message]) -> None:
    """Keep the conversation as it is now. Errors as `Keeper.keep`."""
    keeper.turns = msgspec.convert(msgspec.to_builtins(said), list[Turn])
    keeper.keep()


Answer = Callable[[Session, list[int]], Generation]  # gives and shows the answer to tokens


def go_on(
    ready: Ready, settings: Settings, name: str, text: str, *, system: str | None, raw: bool, answer: Answer
) -> None:
    """One more turn of the context `name`, or with `raw` more of its text; kept once the answer is there."""
    if raw or ready.tokenizer.data.chat_template is None:
        _text(ready, settings, name, text, system, answer)
    else:
        _turn(ready, settings, name, text, system, answer)


def _turn(ready: Ready, settings: Settings, name: str, text: str, system: str | None, answer: Answer) -> None:
    check_length(ready, text)
    with kept(ready.engine, settings, name) as keeper:
        said = messages(keeper)
        if system is not None and said:
            raise RequestError(f"the conversation in '{name}' has begun already; leave out --system, or fork another")
        said += [Message("system", system)] if system is not None else []
        said.append(Message("user", text))
        ids = ready.tokenizer.encode(ChatTemplate.of(ready.tokenizer.data).render(said), add_bos=False)
        generation = answer(keeper.session, unseen(ready.engine, keeper.session, ids))
        keep(keeper, [*said, Message("assistant", generation.text)])


def _text(ready: Ready, settings: Settings, name: str, text: str, system: str | None, answer: Answer) -> None:
    with engine_kept.kept(ready.engine, contexts_of(settings), name, time.time) as keeper:
        if keeper.turns is not None and not keeper.new:
            raise ContextError(f"the context '{name}' is a conversation, no plain text; leave out --raw")
        if keeper.new:
            ids = prompt_tokens(ready, text, system=system, raw=True)
        else:
            check_length(ready, text)
            ids = keeper.pending + ready.tokenizer.encode(text, add_bos=False)
        generation = answer(keeper.session, ids)
        keeper.turns = None
        keeper.pending = [] if generation.finish_reason == "stop" else generation.token_ids[-1:]
        keeper.keep()
