"""What the tests of the whole can be asked for."""

from __future__ import annotations

import pytest

SEEDS = 1
CUSTOMERS = 4
KILLS = 3


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=SEEDS, help=f"how many histories to simulate (default: {SEEDS})")
    parser.addoption("--first-seed", type=int, default=1, help="which of them to begin with")
    parser.addoption("--customers", type=int, default=CUSTOMERS, help=f"of a simulated year (default: {CUSTOMERS})")
    parser.addoption("--kills", type=int, default=KILLS, help=f"of what takes in usage events (default: {KILLS})")


@pytest.fixture
def customers(request: pytest.FixtureRequest) -> int:
    """How many customers a simulated year has."""
    count: int = request.config.getoption("--customers")
    return count


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How often what takes in usage events is killed."""
    count: int = request.config.getoption("--kills")
    return count


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes a `seed` is run for each."""
    if "seed" in metafunc.fixturenames:
        first, count = metafunc.config.getoption("--first-seed"), metafunc.config.getoption("--seeds")
        metafunc.parametrize("seed", range(first, first + count))
