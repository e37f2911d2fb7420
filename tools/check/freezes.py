"""Invariants of frozen usage: each is what the events up to its position say, and what came too late for it is told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Final

from tools.check import corrections
from tools.check.archived import Archived
from tools.check.counting import sha256_of
from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally

Events = Mapping[tuple[str, str, str], Sequence[Row]]
"""By seller, meter and customer as named."""


def frozen_usages_counted_anew(records: Records, tally: Tally) -> None:
    """Quantity, number and digest, from nothing but the log."""
    events, ends = _events(records), corrections.ends(records)
    archived = Archived(records)
    meters = {(row["seller_id"], row["code"]): row for row in records.rows("metering", "meters")}
    for frozen in records.rows("metering", "usage_freezes"):
        with tally.checking(frozen["id"]):
            meter = meters[frozen["seller_id"], frozen["meter"]]
            if _is_archived(archived, frozen):
                continue
            inside = list(_inside(events, frozen, meter))
            there = _there(inside, ends, frozen["through_position"])
            counted = [event for event in inside if event["position"] in there]
            if _lets_fewer_through(meter):
                tally.check(frozen["event_count"] <= len(counted), f"{frozen['id']} has more events than there are")
                continue
            proof = sha256_of(
                (event["source"], event["event_id"], event["value"], event.get("version")) for event in counted
            )
            same = (frozen["event_count"], frozen["digest"]) == (len(counted), proof)
            tally.check(same, f"{frozen['id']} is of other events")
            due = _quantity(meter, counted)
            tally.check(due is None or due == Fraction(frozen["quantity"]), f"{frozen['id']}: counted anew {due}")


def late_usage_told(records: Records, tally: Tally) -> None:
    """As far as the log was looked through, nothing came too late for a frozen usage in silence."""
    events, ends = _events(records), corrections.ends(records)
    archived = Archived(records)
    meters = {(row["seller_id"], row["code"]): row for row in records.rows("metering", "meters")}
    looks = {row["seller_id"]: row["position"] for row in records.rows("metering", "late_looks")}
    told = {(row["seller_id"], row["freeze_id"]): row for row in records.rows("metering", "late_usages")}
    frozen_usages = records.rows("metering", "usage_freezes")
    replaced = {frozen["replaces"] for frozen in frozen_usages}
    for frozen in frozen_usages:
        with tally.checking(frozen["id"]):
            looked = looks[frozen["seller_id"]]
            meter = meters[frozen["seller_id"], frozen["meter"]]
            if frozen["id"] in replaced or _lets_fewer_through(meter) or _is_archived(archived, frozen):
                continue
            row = told.get((frozen["seller_id"], frozen["id"]))
            inside = list(_inside(events, frozen, meter))
            then = _there(inside, ends, frozen["through_position"])
            announced = max(frozen["through_position"], row["announced_position"] if row else 0)
            told_of, known = _there(inside, ends, announced), _there(inside, ends, max(looked, announced))
            late, count = len(told_of - then), row["announced_count"] if row else 0
            tally.check(late == count, f"of {late} events late for {frozen['id']} {count} were told of")
            gone, count = len(then - told_of), row.get("announced_corrected_count", 0) if row else 0
            tally.check(gone == count, f"of {gone} events corrected since {frozen['id']} {count} were told of")
            silent = len(told_of ^ known)
            tally.check(not silent, f"{silent} events late for {frozen['id']}, or corrected, were not told of")


def _events(records: Records) -> Events:
    found: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in corrections.events(records):
        found[row["seller_id"], row["meter"], row["customer"]].append(row)
    return found


def _there(inside: Sequence[Row], ends: corrections.Ends, position: int) -> set[int]:
    """The positions of those that count through one."""
    return {
        event["position"]
        for event in inside
        if corrections.counts_at(
            position, start=event["position"], end=ends.get((event["seller_id"], event["position"]))
        )
    }


def _is_archived(archived: Archived, frozen: Row) -> bool:
    names = {frozen["customer_id"], frozen["external_id"], *frozen["names"]} - {""}
    return archived.has(frozen["seller_id"], frozen["meter"], names, frozen["counted_from"], frozen["end_time"])


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
