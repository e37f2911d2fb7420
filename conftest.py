"""Gives the whole test run one PostgreSQL and one NATS, without durability, gone when the run is over.

Their addresses are in SALDO_POSTGRES_URL and SALDO_NATS_URL; servers already named there are used instead.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Iterator, Mapping

import pytest
import uvloop
from hypothesis import settings

from tests.support.clickhouse import clickhouse
from tools.stack import Stack

# Tests start processes while gRPC has threads; its own preparations for that make the children crash now and then.
# Read when gRPC is imported, which the plugin does.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

pytest_plugins = ("common.testing",)

# A loaded machine is slow, not wrong: examples are bounded in number, not in time. They are the same ones each time, so
# that what fails does so for everybody, and for what was changed; whoever looks for something does so with --thorough.
settings.register_profile("saldo", deadline=None, max_examples=40, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=100)

STACK = pytest.StashKey[Stack]()
NEEDED = ("SALDO_POSTGRES_URL", "SALDO_NATS_URL")


def pytest_configure(config: pytest.Config) -> None:
    """Once per run, before any worker of xdist exists: workers inherit the addresses."""
    settings.load_profile("thorough" if config.getoption("--thorough") else "saldo")
    if hasattr(config, "workerinput") or all(os.environ.get(name) for name in NEEDED) or not _will_run(config):
        return
    stack = Stack.temporary()
    config.stash[STACK] = stack
    for name, url in stack.start().environment().items():
        os.environ.setdefault(name, url)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that services run on."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_collection_finish() -> None:
    """What has been collected stays: it need not be looked through for garbage again and again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    if stack := config.stash.get(STACK, None):
        del config.stash[STACK]
        stack.stop()


def _will_run(config: pytest.Config) -> bool:
    """Neither listing tests nor the pure ones of `make test-fast` need servers."""
    return not (config.option.collectonly or config.option.help or config.getoption("--pure"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pure", action="store_true", help="start no servers: for tests that need none")
    parser.addoption("--thorough", action="store_true", help="also the further cases of what others already show")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--thorough"):
        return
    further = [item for item in items if item.get_closest_marker("thorough")]
    items[:] = [item for item in items if item not in further]
    config.hook.pytest_deselected(items=further)


@pytest.fixture(scope="session")
def clickhouse_url() -> Iterator[str]:
    """One for each worker of xdist that has a test which needs it."""
    with clickhouse() as url:
        yield url
