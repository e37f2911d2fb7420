"""Invariants of quotas: nobody was given more than there was, and what was committed is used once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from fractions import Fraction
from typing import Final

from tools.check import corrections
from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally
from tools.check.versions import Versions

SOURCE: Final = "saldo.quota"
KEPT: Final = timedelta(days=35)
"""For so long after it ended a reservation is there."""


def within_the_quota(records: Records, tally: Tally) -> None:
    """What was used and set aside when a reservation was acquired leaves room for it, counted from the log.

    Set aside was what others had acquired before and had neither given back nor lost to time; what was committed in the
    end was set aside for as long as its usage event was not counted.
    """
    events: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    ends = corrections.ends(records)
    used: dict[tuple[str, str], int] = {}
    for row in corrections.events(records):
        if row["source"] == SOURCE and row.get("version") is None:
            used[row["seller_id"], row["event_id"]] = row["position"]
        events[row["seller_id"], row["meter"], row["customer"]].append(row)
    versions = Versions(records)
    together: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in records.rows("metering", "quota_reservations"):
        together[row["seller_id"], row["customer_id"], row["meter"]].append(row)
    for reservations in together.values():
        numbers = {row["number"] for row in reservations}
        for row in reservations:
            with tally.checking(row["id"]):
                tally.check(len(numbers) == len(reservations), f"the turn of {row['id']} was taken twice")
                if row["granted"] is None:
                    continue
                made = row["create_time"]
                known = versions.believed(row["seller_id"], row["meter"], row["period_start"], first=made, last=made)
                meters = [versions.of(row["seller_id"], row["meter"])[number] for number in known]
                aside = sum(
                    (
                        Fraction(each["quantity"])
                        for each in reservations
                        if _is_aside(each, row, used_at=used.get((each["seller_id"], each["id"])))
                    ),
                    Fraction(0),
                )
                counted = min(_used(events, ends, meter, row) for meter in meters)
                needed = counted + aside + Fraction(row["quantity"])
                tally.check(needed <= row["granted"], f"{row['id']} was acquired, {needed} of {row['granted']}")


def committed_once(records: Records, tally: Tally) -> None:
    """Each committed reservation has one usage event that says what it says; no other reservation has one, and nobody
    else sends any: who has none any more was committed before reservations are forgotten.
    """
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in corrections.events(records):
        # As it was stored then; what somebody corrected since is told by the corrections.
        if row["source"] == SOURCE and row.get("version") is None:
            found[row["seller_id"], row["event_id"]].append(row)
    for row in records.rows("metering", "quota_reservations"):
        events = found.pop((row["seller_id"], row["id"]), [])
        if row["state"] == "COMMITTING" and not events:
            continue
        due = []
        if row["committed_quantity"] is not None:
            due = [(row["customer_id"], row["meter"], row["commit_time"], row["committed_quantity"])]
        told = [(event["customer"], event["meter"], event["time"], event["value"]) for event in events]
        tally.check(told == due, f"{row['id']} is {row['state']} and has {len(events)} usage events")
    for (seller_id, event_id), events in found.items():
        forgotten = records.now("metering", seller_id) - KEPT
        is_forgotten = all(event["time"] <= forgotten for event in events)
        tally.check(is_forgotten and len(events) == 1, f"{event_id} was used and never reserved")


def _is_aside(other: Row, row: Row, *, used_at: int | None) -> bool:
    """Surely. `used_at` is the position of its usage event, if it was committed: until it was counted it was aside."""
    if other["number"] >= row["number"]:
        return False
    if used_at is not None:
        return used_at > int(row["through_position"])
    ended_before = other["end_number"] is not None and other["end_number"] < row["number"]
    return bool(not ended_before and other["expire_time"] > row["create_time"])


def _used(
    events: Mapping[tuple[str, str, str], Sequence[Row]], ends: corrections.Ends, meter: Row, row: Row
) -> Fraction:
    """By all that the customer was called then, as far as was counted then."""
    values = [
        Fraction(1) if meter["aggregation"] == "COUNT" else Fraction(event["value"])
        for name in {row["customer_id"], *row["names"]}
        for event in events.get((row["seller_id"], row["meter"], name), ())
        if corrections.counts_at(
            row["through_position"], start=event["position"], end=ends.get((row["seller_id"], event["position"]))
        )
        and event["time"] < row["period_end"]
        and (meter["carries_over"] or event["time"] >= row["period_start"])
    ]
    return sum(values, Fraction(0))


_METERING: Final = ("metering",)

INVARIANTS: Final = (
    Invariant(name="nobody acquires more quota than there is", needs=_METERING, verify=within_the_quota),
    Invariant(name="what is committed of a quota is used once", needs=_METERING, verify=committed_once),
)
