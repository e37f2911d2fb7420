"""Counts what was used: every usage event exactly once."""
