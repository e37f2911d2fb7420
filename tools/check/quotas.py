"""Invariants of quotas: nobody was given more than there was, and what was committed is used once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final

from tools.check import corrections
from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally
from tools.check.versions import Versions

SOURCE: Final = "saldo.quota"


def within_the_quota(records: Records, tally: Tally) -> None:
    """What was used and set aside when a reservation was acquired leaves room for it, counted from the log.

    Set aside was what others had acquired before and had neither given back, nor come to an end with, nor lost to time.
    """
    events: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    ends = corrections.ends(records)
    for row in corrections.events(records):
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
                aside = sum((Fraction(each["quantity"]) for each in reservations if _is_aside(each, row)), Fraction(0))
                used = min(_used(events, ends, meter, row) for meter in meters)
                needed = used + aside + Fraction(row["quantity"])
                tally.check(needed <= row["granted"], f"{row['id']} was acquired, {needed} of {row['granted']}")


def committed_once(records: Records, tally: Tally) -> None:
    """Each committed reservation has one usage event that says what it says; no other reservation has one."""
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
    for _, event_id in found:
        tally.check(False, f"{event_id} was used and never reserved")


def _is_aside(other: Row, row: Row) -> bool:
    """Surely: one that was being committed when its time came is not counted on."""
    acquired_before = other["number"] < row["number"]
    ended_before = other["end_number"] is not None and other["end_number"] < row["number"]
    return bool(acquired_before and not ended_before and other["expire_time"] > row["create_time"])


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
