"""Thresholds, whatever comes: states are those of a recount from all events, and announced are the changes of these."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from common.testing import SANDBOX_START, Suite
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1.usage_threshold_pb2 import UsageThreshold
from saldo.metering.v1.usage_threshold_service_pb2_grpc import UsageThresholdServiceStub
from services.metering.tests.service.test_thresholds import (
    ANNA,
    BERT,
    HOUR,
    announced,
    create,
    day,
    event,
    hear,
    raised,
    send,
)
from tests.support.seeds import seeds

NAMES: Final = {ANNA: [ANNA, "anna"], BERT: [BERT, "bert", "bert-2"]}
STEPS: Final = 18
Key = tuple[str, str, datetime]
"""Threshold, customer, and when the period begins."""


@dataclass
class Recount:
    """What should be told of days in time zones, by nothing but sums of all that was sent."""

    thresholds: list[UsageThreshold]
    sent: list[tuple[str, datetime, Decimal]] = field(default_factory=list)
    states: dict[Key, int] = field(default_factory=lambda: defaultdict(int))
    ended: dict[Key, int] = field(default_factory=dict)
    told: dict[Key, list[int]] = field(default_factory=lambda: defaultdict(list))

    def midnights(self, now: datetime, threshold: UsageThreshold, *, days: range) -> list[datetime]:
        zone = ZoneInfo(threshold.calendar.time_zone)
        date = now.astimezone(zone).date()
        return [datetime.combine(date + timedelta(days=n), time.min, zone).astimezone(UTC) for n in days]

    def next_midnight(self, now: datetime) -> datetime:
        return min(self.midnights(now, threshold, days=range(1, 2))[0] for threshold in self.thresholds)

    def settle(self, now: datetime) -> None:
        for threshold in self.thresholds:
            first = self.midnights(now, threshold, days=range(-2, 3))
            for start, end, closes in zip(first, first[1:], first[2:], strict=False):
                for customer in NAMES:
                    if start <= now and end > SANDBOX_START and threshold.customer_id in ("", customer):
                        self._settle(threshold, customer, start, end, closes, now)

    def _settle(
        self, threshold: UsageThreshold, customer: str, start: datetime, end: datetime, closes: datetime, now: datetime
    ) -> None:
        key = (threshold.id, customer, start)
        total = sum((value for who, at, value in self.sent if who == customer and start <= at < end), Decimal(0))
        state = 0
        if threshold.HasField("warning_value") and total >= Decimal(threshold.warning_value.value):
            state = 1
        if total >= Decimal(threshold.value.value):
            state = 2
        if now >= end:
            before = self.ended.setdefault(key, self.states[key])
            state = state if state > before and now < closes else 0
        if state != self.states[key]:
            self.states[key] = state
            self.told[key].append(state)


@pytest.mark.parametrize("seed", seeds(0, further=[1, 2]))
async def test_what_is_told_is_what_a_recount_changes(
    suite: Suite, metering: Any, kwh: meter_pb2.Meter, seed: int
) -> None:
    """Whatever comes, of whomever, by whatever name, in whatever batches, early, late or taken back, as time goes."""
    chance = random.Random(seed)
    thresholds = suite.stub(UsageThresholdServiceStub, "metering")
    for customer, names in NAMES.items():
        await hear(suite, customer, *names[1:])
    recount = Recount(
        [
            await create(thresholds, "20", "10", calendar=day("Europe/Berlin")),
            await create(thresholds, "15", calendar=day("America/St_Johns"), customer_id=BERT),
        ]
    )
    now = SANDBOX_START
    for step in range(STEPS):
        if step % 3 == 2:
            target = now + chance.choice([5, 13, 26, 50]) * HOUR
            while now < target:
                now = min(target, recount.next_midnight(now))
                recount.settle(now)
            await suite.travel(now)
        batch = []
        for n in range(chance.randrange(1, 8)):
            customer = chance.choice(list(NAMES))
            at, value = now + chance.randrange(-60, 25) * HOUR, Decimal(chance.randrange(-6, 12))
            recount.sent.append((customer, at, value))
            batch.append(event(f"{step} {n}", str(value), customer=chance.choice(NAMES[customer]), at=at))
        await send(suite, metering, *batch)
        recount.settle(now)
        found = {_key(alert): alert.state - 1 for alert in await raised(thresholds)}
        assert found == {key: state for key, state in recount.states.items() if state}
    heard = defaultdict(list)
    for _, each in announced(suite):
        heard[_key(each.usage_alert)].append(each.usage_alert.state - 1)
    assert heard == recount.told
    assert sum(map(len, heard.values())) > 10


def _key(alert: Any) -> Key:  # Any: a generated message
    return alert.usage_threshold_id, alert.customer_id, alert.period.start_time.ToDatetime(UTC)
