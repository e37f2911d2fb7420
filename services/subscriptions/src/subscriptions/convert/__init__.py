"""Knows how customers and subscriptions look on the wire, and what callers may ask for."""
