"""Knows from the log which usage events count through which position; and the invariants of what was corrected."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from tools.check import backfills
from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally

Ends = Mapping[tuple[str, int], int]
"""By seller and position of a usage event the position of what took it away."""


def events(records: Records) -> list[Row]:
    """The usage events in the log, in all their versions, without what takes them away."""
    return [row for row in records.rows("metering", "usage_events") if row.get("corrects") is None]


def ends(records: Records) -> Ends:
    """A correction takes one event away, and that its backfill was reverted all that came with it."""
    found: dict[tuple[str, int], int] = {}
    if reverted := backfills.reverted(records):
        for row in events(records):
            end = reverted.get((row["seller_id"], row["backfill"]))
            if end is not None:
                found[row["seller_id"], row["position"]] = end
    return found | _corrected(records)


def gave_its_id_back(records: Records) -> Callable[[Row], bool]:
    """Whether another usage event may be called as one is: it was reverted with its backfill, and never corrected."""
    reverted, corrected = backfills.reverted(records), _corrected(records)

    def is_free(row: Row) -> bool:
        seller_id = row["seller_id"]
        return (seller_id, row.get("backfill")) in reverted and (seller_id, row["position"]) not in corrected

    return is_free


def _corrected(records: Records) -> dict[tuple[str, int], int]:
    return {
        (row["seller_id"], row["corrects"]): row["position"]
        for row in records.rows("metering", "usage_events")
        # Databases that are older than corrections have no such column.
        if row.get("corrects") is not None
    }


def counts_at(position: int, *, start: int, end: int | None) -> bool:
    """Whether what was stored at one position, and taken away at another, counts through a third."""
    return start <= position and (end is None or end > position)


def corrections_take_away_what_there_was(records: Records, tally: Tally) -> None:
    """Each takes one version away, as it was stored; the one that it brings follows it; and it says who did it."""
    at = {(row["seller_id"], row["position"]): row for row in records.rows("metering", "usage_events")}
    kept = {(row["seller_id"], row["corrects"]): row for row in records.rows("metering", "usage_corrections")}
    found: set[tuple[str, int]] = set()
    for (seller_id, position), row in at.items():
        if row.get("corrects") is None:
            continue
        key = (seller_id, row["corrects"])
        name = f"the correction at {position} of {seller_id}"
        before, told, amended = at.get(key), kept.get(key), at.get((seller_id, position + 1))
        tally.check(key not in found, f"{name} takes away what was taken away before")
        found.add(key)
        taken = before is not None and before["corrects"] is None and row["corrects"] < position
        same = taken and before is not None and all(before[column] == row[column] for column in _SAME)
        tally.check(same, f"{name} takes away another event than there is")
        tally.check(told is not None and told["position"] == position, f"{name} was made by nobody")
        if told is not None and told["amended_position"] is not None:
            brings = amended is not None and told["amended_position"] == position + 1
            version = amended["version"] if brings and amended is not None else None
            tally.check(version == told["number"], f"{name} does not bring what it says")
    tally.check(found == kept.keys(), f"{len(kept.keys() - found)} corrections take nothing away")


def one_version_counts(records: Records, tally: Tally) -> None:
    """Of an event that was amended the versions follow each other: at no position do two of them count."""
    until, is_free = ends(records), gave_its_id_back(records)
    versions: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in events(records):
        if is_free(row):
            continue
        versions[row["seller_id"], row["source"], row["event_id"]].append(row)
    for (seller_id, source, event_id), rows in versions.items():
        rows.sort(key=lambda row: row["position"])
        tally.check([row.get("version") for row in rows] == _numbers(rows), f"{source} {event_id} has other versions")
        for row, following in pairwise(rows):
            end = until.get((seller_id, row["position"]))
            follows = end is not None and end + 1 == following["position"]
            tally.check(follows, f"{source} {event_id} counts at {row['position']} and at {following['position']}")


def _numbers(rows: Sequence[Row]) -> list[int | None]:
    return [None, *range(1, len(rows))]


_SAME: Final = ("source", "event_id", "customer", "meter", "time", "value", "dimensions")

INVARIANTS: Final = (
    Invariant(
        name="every correction takes away what there was",
        needs=("metering",),
        verify=corrections_take_away_what_there_was,
    ),
    Invariant(name="one version of a usage event counts at a time", needs=("metering",), verify=one_version_counts),
)
