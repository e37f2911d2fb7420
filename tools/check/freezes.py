"""Invariants of frozen usage: each is what the events up to its position say, and what came too late for it is told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Final

from tools.check.counting import sha256_of
from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally

Events = Mapping[tuple[str, str, str], Sequence[Row]]
"""By seller, meter and customer as named."""


def frozen_usages_counted_anew(records: Records, tally: Tally) -> None:
    """Quantity, number and digest, from nothing but the log."""
    events = _events(records)
    meters = {(row["seller_id"], row["code"]): row for row in records.rows("metering", "meters")}
    for frozen in records.rows("metering", "usage_freezes"):
        with tally.checking(frozen["id"]):
            meter = meters[frozen["seller_id"], frozen["meter"]]
            through = frozen["through_position"]
            counted = [event for event in _inside(events, frozen, meter) if event["position"] <= through]
            if _lets_fewer_through(meter):
                tally.check(frozen["event_count"] <= len(counted), f"{frozen['id']} has more events than there are")
                continue
            proof = sha256_of((event["source"], event["event_id"], event["value"]) for event in counted)
            same = (frozen["event_count"], frozen["digest"]) == (len(counted), proof)
            tally.check(same, f"{frozen['id']} is of other events")
            due = _quantity(meter, counted)
            tally.check(due is None or due == Fraction(frozen["quantity"]), f"{frozen['id']}: counted anew {due}")


def late_usage_told(records: Records, tally: Tally) -> None:
    """As far as the log was looked through, nothing came too late for a frozen usage in silence."""
    events = _events(records)
    meters = {(row["seller_id"], row["code"]): row for row in records.rows("metering", "meters")}
    looks = {row["seller_id"]: row["position"] for row in records.rows("metering", "late_looks")}
    told = {(row["seller_id"], row["freeze_id"]): row for row in records.rows("metering", "late_usages")}
    frozen_usages = records.rows("metering", "usage_freezes")
    replaced = {frozen["replaces"] for frozen in frozen_usages}
    for frozen in frozen_usages:
        with tally.checking(frozen["id"]):
            looked = looks[frozen["seller_id"]]
            meter = meters[frozen["seller_id"], frozen["meter"]]
            if frozen["id"] in replaced or _lets_fewer_through(meter):
                continue
            row = told.get((frozen["seller_id"], frozen["id"]))
            announced, count = (row["announced_position"], row["announced_count"]) if row else (0, 0)
            late = [
                event["position"]
                for event in _inside(events, frozen, meter)
                if frozen["through_position"] < event["position"] <= max(looked, announced)
            ]
            before = sum(1 for position in late if position <= announced)
            tally.check(before == count, f"of {before} events late for {frozen['id']} {count} were told of")
            tally.check(before == len(late), f"{len(late) - before} events late for {frozen['id']} were not told of")


def _events(records: Records) -> Events:
    found: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in records.rows("metering", "usage_events"):
        found[row["seller_id"], row["meter"], row["customer"]].append(row)
    return found


def _inside(events: Events, frozen: Row, meter: Row) -> Iterator[Row]:
    """Those in the period, or before its end where a meter looks back; whenever they came."""
    for name in {frozen["customer_id"], frozen["external_id"], *frozen["names"]} - {""}:
        for event in events.get((frozen["seller_id"], frozen["meter"], name), ()):
            if event["time"] < frozen["end_time"] and (meter["carries_over"] or event["time"] >= frozen["start_time"]):
                yield event


def _lets_fewer_through(meter: Row) -> bool:
    """Which events such a meter counts is its own to say."""
    return meter["filter"] is not None or meter["value_expression"] != ""


def _quantity(meter: Row, events: Sequence[Row]) -> Fraction | None:
    """None where values alone do not tell."""
    values = [Fraction(event["value"]) for event in events]
    match meter["aggregation"]:
        case "SUM":
            return sum(values, Fraction(0))
        case "COUNT":
            return Fraction(len(values))
        case "MAX":
            return max(values, default=Fraction(0))
        case "MIN":
            return min(values, default=Fraction(0))
        case "LATEST":
            newest = max(events, key=lambda event: (event["time"], event["source"], event["event_id"]), default=None)
            return Fraction(newest["value"]) if newest else Fraction(0)
    return None


_METERING: Final = ("metering",)

INVARIANTS: Final = (
    Invariant(name="every frozen usage is counted anew", needs=_METERING, verify=frozen_usages_counted_anew),
    Invariant(name="what came too late for a frozen usage is told", needs=_METERING, verify=late_usage_told),
)
