"""Invariants of frozen usage: each is what the events up to its position say, and what came too late for it is told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Final

from tools.check import aggregation, corrections
from tools.check.archived import Archived
from tools.check.calendar import Span
from tools.check.counting import sha256_of
from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally
from tools.check.thresholds import order, used_of
from tools.check.versions import Versions

Events = Mapping[tuple[str, str, str], Sequence[Row]]
"""By seller, meter and customer as named."""


def frozen_usages_counted_anew(records: Records, tally: Tally) -> None:
    """Quantity, number and digest, from nothing but the log, by the version of the meter that was in effect."""
    events, ends = _events(records), corrections.ends(records)
    archived, versions = Archived(records), Versions(records)
    for frozen in records.rows("metering", "usage_freezes"):
        with tally.checking(frozen["id"]):
            seller_id, code, number = frozen["seller_id"], frozen["meter"], frozen.get("meter_version", 1)
            made, start = frozen["create_time"], frozen["start_time"]
            known = versions.believed(seller_id, code, start, first=made, last=made)
            tally.check(number in known, f"{frozen['id']} is counted by version {number} of {code}")
            if _is_archived(archived, frozen):
                continue
            meter = versions.of(seller_id, code)[number]
            inside = list(_inside(events, frozen, meter))
            there = _there(inside, ends, frozen["through_position"])
            counted = [event for event in inside if event["position"] in there]
            proof = sha256_of(
                (event["source"], event["event_id"], event["value"], event.get("version")) for event in counted
            )
            same = (frozen["event_count"], frozen["digest"]) == (len(counted), proof)
            tally.check(same, f"{frozen['id']} is of other events")
            found = sorted((used for event in counted for used in used_of(meter, event)), key=order)
            due = aggregation.quantity(meter, found, Span(start, frozen["end_time"]))
            tally.check(due == Fraction(frozen["quantity"]), f"{frozen['id']}: counted anew {due}")


def late_usage_told(records: Records, tally: Tally) -> None:
    """As far as the log was looked through, nothing came too late for a frozen usage in silence; and no version of its
    meter took the place of the one that counted it.
    """
    events, ends = _events(records), corrections.ends(records)
    archived, versions = Archived(records), Versions(records)
    looks = {row["seller_id"]: row["position"] for row in records.rows("metering", "late_looks")}
    told = {(row["seller_id"], row["freeze_id"]): row for row in records.rows("metering", "late_usages")}
    frozen_usages = records.rows("metering", "usage_freezes")
    replaced = {frozen["replaces"] for frozen in frozen_usages}
    for frozen in frozen_usages:
        with tally.checking(frozen["id"]):
            if frozen["id"] in replaced:
                continue
            looked = looks[frozen["seller_id"]]
            number = frozen.get("meter_version", 1)
            row = told.get((frozen["seller_id"], frozen["id"]))
            changed = versions.last_change(frozen["seller_id"], frozen["meter"], frozen["start_time"])
            heard = row.get("announced_version", 0) if row else 0
            tally.check(changed <= max(number, heard), f"that version {changed} counts {frozen['id']} was not told")
            if _is_archived(archived, frozen):
                continue
            inside = list(_inside(events, frozen, versions.of(frozen["seller_id"], frozen["meter"])[number]))
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
    """Those that the meter counts in the period, whenever they came."""
    span = aggregation.counted_span(meter, Span(frozen["start_time"], frozen["end_time"]))
    for name in {frozen["customer_id"], frozen["external_id"], *frozen["names"]} - {""}:
        for event in events.get((frozen["seller_id"], frozen["meter"], name), ()):
            if span.start <= event["time"] < span.end and any(used_of(meter, event)):
                yield event


_METERING: Final = ("metering",)

INVARIANTS: Final = (
    Invariant(name="every frozen usage is counted anew", needs=_METERING, verify=frozen_usages_counted_anew),
    Invariant(name="what came too late for a frozen usage is told", needs=_METERING, verify=late_usage_told),
)
