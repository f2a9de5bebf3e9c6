"""Twofold: large language models on two memories that compute."""

__version__ = "0.1.0"
