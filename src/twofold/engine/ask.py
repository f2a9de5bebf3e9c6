"""One answer that a Python program asks for: prepared, begun, read, and kept if it is one of a kept conversation."""

import msgspec

from twofold.engine.answer import Answer
from twofold.engine.going import Going
from twofold.engine.request import Chosen, Piece, Request, Usage
from twofold.engine.seen import NOTHING
from twofold.engine.serving import Serving
from twofold.engine.spoken import Speech
from twofold.engine.whole import Whole
from twofold.model.tool_calls import ToolCall


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """A complete answer. `token_ids` has the token that ended it; `text` has neither that nor a stop string.

    Of an answer in a conversation, `text` has neither reasoning nor calls of tools.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str  # "stop", "length", "tool_calls", or "cancelled" if it was ended before
    usage: Usage
    logprobs: tuple[Chosen, ...] | None = None  # a token each, if they were asked for
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()


class Ask:
    """An answer, from `begin` to `finish`; who does not come that far calls `close`. One thread at a time."""

    def __init__(self, request: Request, speech: Speech | None = None, going: Going | None = None) -> None:
        """`speech` takes an answer in a conversation apart; `going`: where that is kept."""
        self._request, self._speech, self._going = request, speech, going
        self._answer: Answer | None = None
        self._whole = Whole(Usage())

    @property
    def answer(self) -> Answer:
        """The answer, once it was begun."""
        assert self._answer is not None
        return self._answer

    def begin(self, serving: Serving) -> None:
        """Begin the answer; errors as `Serving.submit`."""
        self._answer = serving.submit(self._request, NOTHING if self._going is None else self._going.taken())
        self._whole = Whole(self._answer.usage)

    def read(self, piece: Piece) -> str:
        """What came next; the text in it."""
        self._whole.add([piece])
        if self._speech is None:
            return piece.text
        return "".join(part for part in self._speech.push(piece) if isinstance(part, str))

    @property
    def output(self) -> Output:
        """The complete answer, once all of it was read."""
        whole, speech = self._whole, self._speech
        reply = None if speech is None else speech.reply()
        told = any(chosen.logprob is not None for chosen in whole.chosen)
        return Output(
            text=whole.text if reply is None else reply.content or "",
            token_ids=tuple(chosen.token for chosen in whole.chosen),
            finish_reason=whole.finish if speech is None else speech.finish(whole.finish),
            usage=whole.usage,
            logprobs=tuple(whole.chosen) if told else None,
            reasoning=(reply and reply.reasoning_content) or "",
            tool_calls=() if reply is None else reply.tool_calls,
        )

    @property
    def kept(self) -> bool:
        """Whether `finish` has anything to do, and so takes its time."""
        return self._going is not None

    def finish(self) -> None:
        """Keep the conversation if there is one and the answer is complete; errors as `Going.keep`."""
        try:
            if self._going and self._speech and self._answer and self._answer.left:
                self._going.keep(self._speech.reply(), self._answer.left)
        finally:
            self.close()

    def close(self) -> None:
        """End the answer, if it has not ended, and let others use its conversation; as often as one likes."""
        if self._answer is not None:
            self._answer.cancel()
        if self._going is not None:
            self._going.close()
