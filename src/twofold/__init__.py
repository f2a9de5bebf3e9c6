"""Twofold: large language models on two memories that compute."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twofold.llm import LLM, Limits, Message, Output, Sampling, TextStream, Tool, ToolCall

__version__ = "0.1.0"
__all__ = ["LLM", "Limits", "Message", "Output", "Sampling", "TextStream", "Tool", "ToolCall", "__version__"]


def __getattr__(name: str) -> Any:
    """What is in `llm.py`, imported when it is first asked for: `import twofold` alone takes no time."""
    if name not in __all__:
        raise AttributeError(f"module 'twofold' has no attribute {name!r}")
    return getattr(importlib.import_module("twofold.llm"), name)
