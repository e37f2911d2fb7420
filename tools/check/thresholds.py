"""Invariants of usage thresholds: how usage stands to each is counted anew, and what was announced are the changes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final
from zoneinfo import ZoneInfo

from saldo.metering.v1 import events_pb2
from tools.check import aggregation, corrections
from tools.check.announcements import pruned
from tools.check.calendar import Rhythm, Span
from tools.check.naming import counts_from
from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally
from tools.check.versions import Versions

OK, WARNING, REACHED = "OK", "WARNING", "REACHED"
LEVELS: Final = (OK, WARNING, REACHED)
TOLD: Final[Mapping[str, tuple[Any, str]]] = {  # Any: one of three classes of messages
    "saldo.metering.v1.UsageThresholdRecovered": (events_pb2.UsageThresholdRecovered, OK),
    "saldo.metering.v1.UsageThresholdWarned": (events_pb2.UsageThresholdWarned, WARNING),
    "saldo.metering.v1.UsageThresholdReached": (events_pb2.UsageThresholdReached, REACHED),
}


@dataclass(frozen=True, slots=True)
class Used:
    """A usage event that a meter counts."""

    time: datetime
    source: str
    id: str
    dimensions: Mapping[str, str]
    counts: Fraction


class Recount:
    """The usage of customers, from nothing but the log and the names that metering has heard of."""

    def __init__(self, records: Records) -> None:
        self._versions = Versions(records)
        self.looked = {row["seller_id"]: row["position"] for row in records.rows("metering", "threshold_looks")}
        self._heard = {row["seller_id"] for row in records.rows("metering", "sellers_with_customers")}
        self._events: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
        self._ends = corrections.ends(records)
        for row in corrections.events(records):
            self._events[row["seller_id"], row["meter"], row["customer"]].append(row)
        self._names: dict[tuple[str, str], list[Row]] = defaultdict(list)
        self._bearers: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in records.rows("metering", "customer_names"):
            self._names[row["seller_id"], row["customer_id"]].append(row)
            self._bearers[row["seller_id"], row["name"]].append(row)

    def quantity(self, threshold: Row, customer_id: str, span: Span, *, through: int) -> Fraction:
        seller_id = threshold["seller_id"]
        meter = self._versions.in_effect(seller_id, threshold["meter"], span.start)
        counted = aggregation.counted_span(meter, span)
        names = {row["name"] for row in self._names[seller_id, customer_id] if counts_from(row, span.start)}
        found = [
            used
            for name in names | {customer_id}
            for event in self._events.get((seller_id, threshold["meter"], name), ())
            if counted.start <= event["time"] < counted.end
            and corrections.counts_at(
                through, start=event["position"], end=self._ends.get((seller_id, event["position"]))
            )
            for used in used_of(meter, event)
            if any(used_of({"filter": threshold["filter"]}, event))
        ]
        found.sort(key=order)
        return aggregation.quantity(meter, found, span)

    def customers(self, threshold: Row, span: Span) -> set[str]:
        """All who have used the meter at any time, as far as they are known."""
        seller_id = threshold["seller_id"]
        found: set[str] = set()
        for seller, meter, name in self._events:
            if (seller, meter) == (seller_id, threshold["meter"]):
                bearers = self._bearers[seller_id, name]
                found |= {row["customer_id"] for row in bearers if counts_from(row, span.start)}
                if seller_id not in self._heard and name.startswith("cus_"):
                    found.add(name)
        return found & {threshold["customer_id"]} if threshold["customer_id"] else found


def alerts_counted_anew(records: Records, tally: Tally) -> None:
    """Quantity and state, as far as the log was looked through; and whatever is at a value has a state."""
    recount = Recount(records)
    thresholds = {(row["seller_id"], row["id"]): row for row in records.rows("metering", "usage_thresholds")}
    known: dict[tuple[str, str, str, datetime], Row] = {}
    for alert in records.rows("metering", "usage_alerts"):
        threshold = thresholds[alert["seller_id"], alert["threshold_id"]]
        known[alert["seller_id"], alert["threshold_id"], alert["customer_id"], alert["start_time"]] = alert
        # What is marked is about to be counted, or when its period begins.
        if threshold["state"] != "ACTIVE" or alert["mark"] > alert["settled_mark"]:
            continue
        name = _name(alert)
        with tally.checking(name):
            span = Span(alert["start_time"], alert["end_time"])
            through = max(alert["through_position"], recount.looked[alert["seller_id"]])
            quantity = recount.quantity(threshold, alert["customer_id"], span, through=through)
            tally.check(quantity == Fraction(alert["quantity"]), f"{name}: counted anew {quantity}")
            level, ended = _level(threshold, Fraction(alert["quantity"])), alert["ended_state"]
            if ended is not None and LEVELS.index(level) <= LEVELS.index(ended):
                level = OK
            tally.check(alert["state"] == level, f"{name} is {alert['state']}, not {level}")
            now = records.now("metering", alert["seller_id"])
            tally.check((ended is not None) == (span.end <= now), f"{name} ends at {span.end.isoformat()}")
    for (seller_id, threshold_id), threshold in thresholds.items():
        now = records.now("metering", seller_id)
        swept = threshold["sweep_time"] is None or threshold["sweep_time"] > now
        if threshold["state"] != "ACTIVE" or not swept:
            continue
        with tally.checking(threshold_id):
            for span in _under_way(threshold, now):
                for customer_id in recount.customers(threshold, span):
                    if (seller_id, threshold_id, customer_id, span.start) in known:
                        continue
                    quantity = recount.quantity(threshold, customer_id, span, through=recount.looked[seller_id])
                    silent = f"{threshold_id} of {customer_id} at {quantity} in silence"
                    tally.check(_level(threshold, quantity) == OK, silent)


def changes_announced(records: Records, tally: Tally) -> None:
    """Of each threshold, customer and period: no state is told twice in a row, and the last is the stored one."""
    told: dict[tuple[str, str, str, datetime], list[str]] = defaultdict(list)
    for row in sorted(records.rows("metering", "outbox"), key=lambda row: row["position"]):
        if row["subject"] in TOLD:
            kind, state = TOLD[row["subject"]]
            alert = kind.FromString(row["payload"]).usage_alert
            start = alert.period.start_time.ToDatetime(UTC)
            told[row["seller_id"], alert.usage_threshold_id, alert.customer_id, start].append(state)
    stored = {
        (row["seller_id"], row["threshold_id"], row["customer_id"], row["start_time"]): row["state"]
        for row in records.rows("metering", "usage_alerts")
    }
    archived = {
        (row["seller_id"], row["id"]) for row in records.rows("metering", "usage_thresholds") if row["archive_time"]
    }
    unknown = pruned(records, "metering")
    for key in stored.keys() | told.keys():
        _, threshold_id, customer_id, start = key
        if key[:2] in unknown:
            continue
        name = f"{threshold_id} of {customer_id} from {start.isoformat()}"
        states = told[key]
        again = [state for before, state in pairwise(states) if before == state]
        tally.check(not again, f"{name} was told of twice: {', '.join(again)}")
        # Of what is archived nothing more is said, and of a period that is long over nothing is kept.
        if key[:2] not in archived:
            last, state = states[-1] if states else OK, stored.get(key, OK)
            tally.check(last == state, f"{name} is {state}, and was last told to be {last}")


def used_of(meter: Row, event: Row) -> Iterator[Used]:
    """What a usage event counts for; nothing if the meter does not count it."""
    dimensions = json.loads(event.get("dimensions") or "{}")
    counts = aggregation.counts_for(meter, Fraction(event["value"]), dimensions)
    if counts is not None:
        yield Used(event["time"], event["source"], event["event_id"], dimensions, counts)


def order(used: Used) -> tuple[datetime, str, str]:
    return used.time, used.source, used.id


def _level(threshold: Row, quantity: Fraction) -> str:
    if quantity >= Fraction(threshold["value"]):
        return REACHED
    warned = threshold["warning_value"]
    return WARNING if warned is not None and quantity >= Fraction(warned) else OK


def _under_way(threshold: Row, now: datetime) -> Iterable[Span]:
    """The period that is under way, if there is one, as far as the threshold is about it."""
    if threshold["unit"]:
        zone = threshold["time_zone"]
        anchor = now.astimezone(ZoneInfo(zone)).replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
        if threshold["unit"] == "WEEK":
            anchor = anchor.replace(tzinfo=None) - timedelta(days=anchor.weekday())
            anchor = anchor.replace(tzinfo=ZoneInfo(zone))
        span = Rhythm(anchor.astimezone(UTC), zone, threshold["unit"], 1).span_at(now)
    else:
        span = Span(threshold["start_time"], threshold["end_time"])
    return [span] if span.start <= now < span.end else []


def _name(alert: Row) -> str:
    return f"{alert['threshold_id']} of {alert['customer_id']} from {alert['start_time'].isoformat()}"


_METERING: Final = ("metering",)

INVARIANTS: Final = (
    Invariant(name="how usage stands to thresholds is counted anew", needs=_METERING, verify=alerts_counted_anew),
    Invariant(name="every change of how it stands is announced once", needs=_METERING, verify=changes_announced),
)
