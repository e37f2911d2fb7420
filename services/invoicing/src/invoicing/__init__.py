"""Turns subscriptions and usage into money owed."""
