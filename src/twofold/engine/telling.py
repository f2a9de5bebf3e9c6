"""From chosen tokens to the text that can be told, and when there is no more of it."""

from collections.abc import Sequence

from twofold.engine.limits import Limits
from twofold.engine.request import Chosen, Piece
from twofold.model.marks import undecided
from twofold.model.tokenizer import TextStream, Tokenizer


class Telling:
    """The text of one answer of at most `most` tokens, piece by piece."""

    def __init__(self, limits: Limits, tokenizer: Tokenizer, most: int) -> None:
        self._most, self._least = most, limits.min_tokens
        self._ends = limits.ends(tokenizer.end_ids)
        self._stream, self._held = TextStream(tokenizer), HeldText(limits.stop)
        self._chosen: list[Chosen] = []
        self.tokens = 0

    def push(self, chosen: Chosen, *, complete: bool, interrupted: bool = False) -> Piece | None:
        """What is certain with this token; None if that is nothing.

        `complete`: no token may follow this one; `interrupted`: none is wanted, and all that is held back is told.
        """
        self._chosen.append(chosen)
        self.tokens += 1
        ended = chosen.token in self._ends
        text = "" if ended else self._stream.push(chosen.token)
        if self.tokens > self._least:
            text = self._held.push(text)
        complete = complete or ended or self._held.stopped
        if complete or interrupted or self.tokens == self._most:
            text += "" if self._held.stopped else self._held.finish(self._stream.finish())
            cut = "interrupted" if interrupted else "length"
            return self.end("stop" if complete or self._held.stopped else cut, text)
        return self._piece(text, None) if text else None

    def end(self, finish: str, text: str = "") -> Piece:
        """The last piece."""
        return self._piece(text, finish)

    def _piece(self, text: str, finish: str | None) -> Piece:
        chosen, self._chosen = tuple(self._chosen), []
        return Piece(text, chosen, finish)


class HeldText:
    """Text on its way out, held back while its end could be the start of a stop string."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = stop
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """What of the text so far can be shown; after a stop string, nothing more."""
        if not self._stop:
            return text
        self._held += text
        found = [at for at in (self._held.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.stopped = True
            return self._release(min(found))
        return self._release(len(self._held) - undecided(self._held, self._stop))

    def finish(self, text: str) -> str:
        """All that is left, once nothing more comes."""
        return self.push(text) + ("" if self.stopped else self._release(len(self._held)))

    def _release(self, count: int) -> str:
        out, self._held = self._held[:count], self._held[count:]
        return out
