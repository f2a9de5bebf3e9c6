"""From chosen tokens to the text that can be told, and when there is no more of it."""

from twofold.engine.generate import HeldText
from twofold.engine.limits import Limits
from twofold.engine.request import Chosen, Piece
from twofold.model.tokenizer import TextStream, Tokenizer


class Telling:
    """The text of one answer of at most `most` tokens, piece by piece."""

    def __init__(self, limits: Limits, tokenizer: Tokenizer, most: int) -> None:
        self._most, self._least = most, limits.min_tokens
        self._ends = limits.ends(tokenizer.end_ids)
        self._stream, self._held = TextStream(tokenizer), HeldText(limits.stop)
        self._chosen: list[Chosen] = []
        self.tokens = 0

    def push(self, chosen: Chosen, *, complete: bool) -> Piece | None:
        """What is certain with this token; None if that is nothing. `complete`: no token may follow this one."""
        self._chosen.append(chosen)
        self.tokens += 1
        ended = chosen.token in self._ends
        text = "" if ended else self._stream.push(chosen.token)
        if self.tokens > self._least:
            text = self._held.push(text)
        complete = complete or ended or self._held.stopped
        if complete or self.tokens == self._most:
            text += "" if self._held.stopped else self._held.finish(self._stream.finish())
            return self.end("stop" if complete or self._held.stopped else "length", text)
        return self._piece(text, None) if text else None

    def end(self, finish: str, text: str = "") -> Piece:
        """The last piece."""
        return self._piece(text, finish)

    def _piece(self, text: str, finish: str | None) -> Piece:
        chosen, self._chosen = tuple(self._chosen), []
        return Piece(text, chosen, finish)
