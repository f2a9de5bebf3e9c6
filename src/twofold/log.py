"""Logging: the standard library's, under one root name, silent unless the program that runs us listens."""

import logging

ROOT = "twofold"
logging.getLogger(ROOT).addHandler(logging.NullHandler())


def logger(area: str) -> logging.Logger:
    """The logger of one area, `twofold.<area>`."""
    return logging.getLogger(f"{ROOT}.{area}")
