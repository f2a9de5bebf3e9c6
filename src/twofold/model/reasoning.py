"""What a model thinks before it answers: `<think>reasoning</think>content`, taken apart as it comes.

Templates of reasoning models either leave it to the model to begin with `<think>` (Qwen 3) or end the prompt with it
(DeepSeek-R1, QwQ), so that the answer has only the end. Blanks around the marks belong to neither side. What is not
closed at the end of the text is reasoning; `<think>` anywhere but at the beginning is content like any other text.
"""

from enum import Enum, auto

import msgspec

from twofold.model.marks import undecided

OPEN, CLOSE = "<think>", "</think>"


def opened(prompt: str) -> bool:
    """Whether a prompt, as the template made it, ends inside the reasoning."""
    return prompt.rstrip().endswith(OPEN)


class Parted(msgspec.Struct, frozen=True):
    """Text that became certain."""

    reasoning: str = ""
    content: str = ""


class _State(Enum):
    BEGINNING = auto()  # blanks so far, and what may become OPEN
    THINKING = auto()
    CLOSED = auto()  # blanks after CLOSE
    ANSWERING = auto()


class ReasoningReader:
    """Takes one answer apart; the pieces joined do not depend on how the text was cut."""

    def __init__(self, *, opened: bool) -> None:
        """`opened`: the prompt ended inside the reasoning."""
        self._opened, self._state = opened, _State.BEGINNING
        self._held = ""

    def push(self, text: str) -> Parted:
        """What is certain with this text."""
        self._held += text
        if self._state is _State.BEGINNING:
            self._begin()
        reasoning = self._think() if self._state is _State.THINKING else ""
        if self._state is _State.CLOSED:
            self._held = self._held.lstrip()
            self._state = _State.ANSWERING if self._held else _State.CLOSED
        return Parted(reasoning, self._release(len(self._held)) if self._state is _State.ANSWERING else "")

    def finish(self) -> Parted:
        """What is left at the end of the text."""
        rest = self._release(len(self._held))
        if self._state is _State.THINKING or (self._opened and self._state is _State.BEGINNING):
            return Parted(reasoning=rest)
        return Parted(content=rest)

    def _begin(self) -> None:
        text = self._held.lstrip()
        if OPEN.startswith(text):
            self._state = _State.THINKING if text == OPEN else _State.BEGINNING
            self._held = "" if text == OPEN else self._held
        elif text.startswith(OPEN):
            self._state, self._held = _State.THINKING, text[len(OPEN) :]
        else:
            self._state = _State.THINKING if self._opened else _State.ANSWERING
        self._blank = True  # nothing of the reasoning was seen but blanks

    def _think(self) -> str:
        if self._blank:
            self._held = self._held.lstrip()
            self._blank = not self._held
        found = self._held.find(CLOSE)
        if found >= 0:
            reasoning = self._held[:found].rstrip()
            self._state, self._held = _State.CLOSED, self._held[found + len(CLOSE) :]
            return reasoning
        certain = self._held[: len(self._held) - undecided(self._held, (CLOSE,))]
        return self._release(len(certain.rstrip()))

    def _release(self, count: int) -> str:
        out, self._held = self._held[:count], self._held[count:]
        return out
