"""Knows from the log which backfills count through which position; and the invariants of what was backfilled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date
from fractions import Fraction
from typing import Final

from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally

Sums = tuple[int, Fraction, Fraction, Fraction]


def reverted(records: Records) -> Mapping[tuple[str, int], int]:
    """By seller and number the position from which on nothing of it counts."""
    return {
        (row["seller_id"], row["number"]): row["revert_position"]
        for row in records.rows("metering", "usage_backfills")
        if row["revert_position"] is not None
    }


def revert_positions(records: Records) -> Iterator[tuple[str, int]]:
    """Each has one of its seller's positions, and no row in the log."""
    for (seller_id, _), position in reverted(records).items():
        yield seller_id, position


def counts_as_a_whole(records: Records, tally: Tally) -> None:
    """An open backfill has nothing in the log; every other one that ever counted has all of it, at positions that
    follow each other, in its leaf; and from its reverting on nothing of it counts.
    """
    inside: dict[int, list[Row]] = defaultdict(list)
    for row in records.rows("metering", "usage_events"):
        # Databases that are older than backfills have no such column.
        if row.get("backfill") is not None:
            inside[row["backfill"]].append(row)
    archived = {row["leaf"] for row in records.rows("metering", "usage_archives")}
    sums = _sums_told(records)
    standing = _amended_and_not_voided(records)
    for backfill in records.rows("metering", "usage_backfills"):
        name, leaf, state = backfill["id"], backfill["leaf"], backfill["state"]
        rows = inside.pop(backfill["number"], [])
        if leaf is None:
            counted = rows or (state == "CLOSED" and backfill["event_count"] > 0)
            tally.check(not counted and backfill["revert_position"] is None, f"{name} is {state} and nowhere")
            continue
        tally.check(state != "OPEN", f"{name} is open and counts")
        first, last = backfill["first_position"], backfill["last_position"]
        tally.check(last - first + 1 == backfill["event_count"], f"{name} has {backfill['event_count']} events")
        ended = (state == "REVERTED", backfill["revert_position"] is not None)
        tally.check(ended[0] == ended[1], f"{name} is {state} at {backfill['revert_position']}")
        if leaf in archived:
            continue
        own = {(row["seller_id"], row["leaf"]) for row in rows} == {(backfill["seller_id"], leaf)}
        positions = sorted(row["position"] for row in rows)
        tally.check(own and positions == [*range(first, last + 1)], f"{name} is in the log in part, or twice")
        due = _sums(rows) if state == "CLOSED" else {}
        tally.check(sums.get(backfill["number"], {}) == due, f"the days of {name} come to something else")
        if state == "REVERTED":
            again = [row["event_id"] for row in rows if _identity(row) in standing]
            tally.check(not again, f"{len(again)} events of {name} count as they were amended")
    tally.check(not inside, f"usage came with {len(inside)} backfills of which nobody knows")


def _amended_and_not_voided(records: Records) -> set[tuple[str, str, str]]:
    newest: dict[tuple[str, str, str], Row] = {}
    for row in records.rows("metering", "usage_corrections"):
        before = newest.get(_identity(row))
        if before is None or before["number"] < row["number"]:
            newest[_identity(row)] = row
    return {identity for identity, row in newest.items() if row["amended_position"] is not None}


def _identity(row: Row) -> tuple[str, str, str]:
    return row["seller_id"], row["source"], row["event_id"]


def _sums(rows: Sequence[Row]) -> Mapping[tuple[str, str, date], Sums]:
    """By meter, customer and day of UTC."""
    values: dict[tuple[str, str, date], list[Fraction]] = defaultdict(list)
    for row in rows:
        values[row["meter"], row["customer"], row["time"].astimezone(UTC).date()].append(Fraction(row["value"]))
    return {day: (len(each), sum(each, Fraction(0)), min(each), max(each)) for day, each in values.items()}


def _sums_told(records: Records) -> Mapping[int, Mapping[tuple[str, str, date], Sums]]:
    rows = records.rows("metering", "usage_backfill_days")
    names = {row["stream"]: row for row in records.rows("metering", "usage_streams")} if rows else {}
    found: dict[int, dict[tuple[str, str, date], Sums]] = defaultdict(dict)
    for row in rows:
        name = names[row["stream"]]
        told = (row["event_count"], *(Fraction(row[each]) for each in ("value_sum", "value_min", "value_max")))
        found[row["backfill"]][name["meter"], name["customer"], row["day"]] = told
    return found


INVARIANTS: Final = (
    Invariant(name="a backfill counts as a whole, or not at all", needs=("metering",), verify=counts_as_a_whole),
)
