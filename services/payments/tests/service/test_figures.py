"""The figures that say whether payments is well."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest
from opentelemetry.metrics import NoOpMeter

import common.service
from common.testing import Suite

from .conftest import Collecting


class Seen:
    """A gauge, as whoever reads the metrics would find it."""

    figures: ClassVar[dict[str, int]] = {}

    def __init__(self, name: str) -> None:
        self._name = name

    def set(self, value: int) -> None:
        self.figures[self._name] = value


async def test_attempts_of_unknown_outcome_are_counted(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Money of which nobody knows whether it moved is the first thing an operator must see."""
    monkeypatch.setattr(NoOpMeter, "create_gauge", lambda _meter, name, **_: Seen(name))
    monkeypatch.setattr(Seen, "figures", {})
    monkeypatch.setattr(common.service, "MONITOR_SECONDS", 0.05)
    collecting = await Collecting(suite).start()
    await collecting.attach("sim:lost")
    await collecting.owe()
    for _ in range(100):
        if Seen.figures.get("saldo.attempts_unknown") == 1:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"one attempt is UNKNOWN, and the figures are {Seen.figures}")
