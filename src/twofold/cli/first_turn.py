"""A prompt as the first turn of a conversation. Apart from `run`, as raw text does without Jinja."""

from twofold.model.chat import ChatTemplate, Message
from twofold.model.tokenizer import TokenizerData


def first_turn(data: TokenizerData, text: str, system: str | None) -> str:
    """The text that the model's chat template makes of the prompt and the system message; errors as `ChatTemplate`."""
    messages = [Message("system", system)] if system is not None else []
    return ChatTemplate.of(data).render([*messages, Message("user", text)])
