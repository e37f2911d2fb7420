"""What the tests of the whole can be asked for."""

from __future__ import annotations

import pytest

SEEDS = 3


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=SEEDS, help=f"how many histories to simulate (default: {SEEDS})")
    parser.addoption("--first-seed", type=int, default=1, help="which of them to begin with")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes a `seed` is run for each."""
    if "seed" in metafunc.fixturenames:
        first, count = metafunc.config.getoption("--first-seed"), metafunc.config.getoption("--seeds")
        metafunc.parametrize("seed", range(first, first + count))
