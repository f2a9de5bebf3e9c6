"""Deciding what runs next: pure, with time as an argument. Nothing here waits, sends or computes."""
