"""Figures and their ceilings: `make bench T=name` measures both in one run and verifies what it measured."""
