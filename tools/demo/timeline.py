"""Knows how the story is played: from one due moment to the next, everything sent just before it would be too late.

Whatever interrupts it, it can be played again from the beginning: what has happened stays, and is found done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

from google.protobuf.timestamp_pb2 import Timestamp

from common.travel import advance, quiet
from saldo.operations.v1.operations_service_pb2 import SandboxClock
from tools.client import Client
from tools.demo import requests
from tools.demo.example import Example, Story
from tools.demo.loading import Loaded, attach_payment_methods
from tools.demo.sending import Outgoing, Sent

INSTANT: Final = timedelta(microseconds=1)
"""The smallest step of time: just before a moment."""
MOMENTS_MAX: Final = 100_000
QUIET_SECONDS: Final = 120.0

OnMoment = Callable[[datetime, Sent], None]


@dataclass(frozen=True, slots=True, order=True)
class Act:
    """Something that somebody does at a moment of the story."""

    time: datetime
    number: int
    run: Callable[[], Awaitable[object]]


async def play(client: Client, example: Example, loaded: Loaded, on_moment: OnMoment) -> Outgoing:
    """Travel to the end of the story; what is left unsent lies after it."""
    outgoing = Outgoing(example.rows)
    acts = _acts(client, example, loaded)
    end = end_of(example.story)
    told: Mapping[str, SandboxClock] | None = None
    for _ in range(MOMENTS_MAX):
        readings = await quiet(client.operations, seconds=QUIET_SECONDS, first=told)
        told = None
        times = [_time(reading.time) for reading in readings.values()]
        now = max(times)
        on_moment(min(now, end), outgoing.sent)
        if min(times) < now:  # a story that was interrupted has left some clocks behind
            await advance(client.operations, now)
            continue
        if acts and acts[0].time <= now:
            await acts.pop(0).run()
            continue
        dues = [_time(reading.next_due_time) for reading in readings.values() if reading.HasField("next_due_time")]
        upcoming = min([end, *dues, *(act.time for act in acts[:1])])
        before = max(upcoming, now + INSTANT)
        if outgoing.is_waiting(before=before):
            await advance(client.operations, before - INSTANT, known=readings)
            await outgoing.send(client, before=before)
            continue
        if now >= end:
            return outgoing
        told = await advance(client.operations, upcoming, known=readings)
    raise RuntimeError(f"more than {MOMENTS_MAX} moments in one story")


def end_of(story: Story) -> datetime:
    """The last month is over, and so are the days after it."""
    zone = ZoneInfo(story.time_zone)
    first = story.start.astimezone(zone)
    year, month = divmod(first.year * 12 + first.month - 1 + story.months, 12)
    for day in (first.day, 30, 29, 28):
        try:
            last = first.replace(year=year, month=month + 1, day=day, fold=0)
        except ValueError:  # no such day in that month
            continue
        return (last + timedelta(days=story.closing_days)).astimezone(UTC)
    raise AssertionError("every month has a 28th")


def _acts(client: Client, example: Example, loaded: Loaded) -> list[Act]:
    found: list[Act] = []
    for customer in example.customers:
        customer_id = loaded.customers[customer.id]
        for method in customer.payment_methods:
            if method.at is not None:
                attach = partial(attach_payment_methods, client, customer, customer_id, until=method.at)
                found.append(Act(method.at, len(found), attach))
        for number, subscription in enumerate(customer.subscriptions):
            if subscription.cancel is not None:
                cancellation = requests.cancel_subscription(
                    loaded.subscriptions[customer.id, number], subscription.cancel.timing
                )
                cancel = partial(client.subscriptions.CancelSubscription, cancellation)
                found.append(Act(subscription.cancel.at, len(found), cancel))
    return sorted(found)


def _time(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(UTC)
