"""Requests as many clients make them, who sends them, and what became of them."""
