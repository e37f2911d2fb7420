"""Recovers what was not paid, by policy, until it is paid or given up."""
