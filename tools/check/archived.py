"""Knows which usage events are in files, and no longer in the log: what they were nobody can count anew."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime

from tools.check.records import Records, Row
from tools.check.report import Tally


class Archived:
    def __init__(self, records: Records) -> None:
        rows = records.rows("metering", "usage_archives")
        names = {row["stream"]: row for row in records.rows("metering", "usage_streams")} if rows else {}
        self._streams: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
        self._leaves: dict[tuple[str, int], list[Row]] = defaultdict(list)
        self._backfilled: dict[tuple[str, int], set[int]] = defaultdict(set)
        self._elsewhere: dict[str, set[int]] = defaultdict(set)
        for row in records.rows("metering", "usage_backfills"):
            if row["leaf"] is not None:
                positions = range(row["first_position"], row["last_position"] + 1)
                self._backfilled[row["seller_id"], row["leaf"]].update(positions)
                self._elsewhere[row["seller_id"]].update(positions)
                self._elsewhere[row["seller_id"]].add(row["revert_position"] or row["last_position"])
        for row in rows:
            name = names[row["stream"]]
            self._streams[row["seller_id"], name["meter"], name["customer"]].append(row)
            self._leaves[row["seller_id"], row["leaf"]].append(row)

    def has(self, seller_id: str, meter: str, customers: Iterable[str], start: datetime, end: datetime) -> bool:
        """Whether some of the events between two moments may be archived."""
        return any(
            row["start_time"] < end and row["end_time"] >= start
            for customer in customers
            for row in self._streams.get((seller_id, meter, customer), ())
        )

    def positions(self, events: Iterable[Row], tally: Tally) -> dict[str, list[int]]:
        """Those of the archived events by seller: in a leaf the positions of a seller follow each other, but for those
        of backfills, which are in other leaves.
        """
        kept: dict[tuple[str, int], set[int]] = defaultdict(set)
        for event in events:
            kept[event["seller_id"], event["leaf"]].add(event["position"])
        found: dict[str, list[int]] = defaultdict(list)
        for (seller_id, leaf), rows in self._leaves.items():
            there = kept[seller_id, leaf]
            first = min([*there, *(row["first_position"] for row in rows)])
            last = max([*there, *(row["last_position"] for row in rows)])
            own = self._backfilled.get((seller_id, leaf))
            missing = (own or set(range(first, last + 1)) - self._elsewhere[seller_id]) - there
            count = sum(row["event_count"] for row in rows)
            tally.check(len(missing) == count, f"{seller_id} has {count} events archived of leaf {leaf}")
            found[seller_id] += missing
        return found


def leaves_are_whole(records: Records, tally: Tally) -> None:
    """What was in a leaf when it was full is there, or was archived: none is merely gone."""
    there = Counter(row["leaf"] for row in records.rows("metering", "usage_events"))
    for row in records.rows("metering", "usage_archives"):
        there[row["leaf"]] += row["event_count"]
    for leaf in records.rows("metering", "usage_leaves"):
        number, state, count = leaf["leaf"], leaf["state"], leaf["row_count"]
        if state in ("FULL", "SEALED", "ARCHIVED"):
            tally.check(there[number] == count, f"leaf {number} had {count} events and has {there[number]}")
        else:
            tally.check(state == "OPEN" or not there[number], f"leaf {number} has events and was never begun")
