"""The sources are parsed once for all rules, and forgotten after the last of them."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.architecture.sources import tree


@pytest.fixture(scope="package", autouse=True)
def _parsed() -> Iterator[None]:
    """Millions of nodes: to look through them for garbage takes longer than the rules, and goes on after them."""
    gc.disable()
    yield
    tree.cache_clear()
    gc.enable()
