"""Knows what customers were called, in which of their periods, and when that was known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

from tools.check.calendar import Span
from tools.check.records import Records, Row
from tools.check.report import Tally


class Naming:
    """Every name that a customer has or had beside its id."""

    def __init__(self, records: Records) -> None:
        self._rows: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in records.rows("subscriptions", "customer_names"):
            self._rows[row["seller_id"], row["customer_id"]].append(row)
        # One that was given by a release without such a table has counted from the first.
        self._external_ids = {
            (row["seller_id"], row["id"]): row["external_id"]
            for row in records.rows("subscriptions", "customers")
            if row["external_id"]
        }

    def names(self, seller_id: str, customer_id: str, *, start: datetime, known: Span) -> list[frozenset[str]]:
        """All that usage may have called a customer in a period that begins at a time: by what was known in a span of
        time, in its order, each time that something else was.
        """
        rows = self._rows.get((seller_id, customer_id), ())
        always = {customer_id}
        external_id = self._external_ids.get((seller_id, customer_id))
        if external_id and all(row["key"] != external_id for row in rows):
            always.add(external_id)
        counting = [row for row in rows if counts_from(row, start)]
        changed = {time for row in counting for time in (row["add_time"], row["remove_time"]) if time is not None}
        moments = [known.start, *sorted(time for time in changed if known.start < time <= known.end)]
        found = (frozenset(always | {row["key"] for row in counting if _is_known(row, moment)}) for moment in moments)
        return list(dict.fromkeys(found))

    def lost(self, seller_id: str, customer_id: str) -> frozenset[str]:
        """What it was called and is not any more, for no period at all."""
        rows = self._rows.get((seller_id, customer_id), ())
        kept = {row["key"] for row in rows if row["remove_time"] is None}
        return frozenset(row["key"] for row in rows) - kept


def each_name_is_one_customers(records: Records, tally: Tally) -> None:
    """No period can begin at a moment at which two customers are called the same."""
    holdings: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in records.rows("subscriptions", "customer_names"):
        if row["remove_time"] is None:
            holdings[row["seller_id"], row["key"]].append(row)
    for (_, key), rows in holdings.items():
        for first, second in _in_turn(rows):
            ended = first["until_time"]
            began = second["since_time"]
            apart = ended is not None and began is not None and ended <= began
            tally.check(apart, f"{key} is {first['customer_id']} and {second['customer_id']} at once")
        tally.checked += 1


def counts_from(row: Row, start: datetime) -> bool:
    since, until = row["since_time"], row["until_time"]
    return (since is None or since <= start) and (until is None or start < until)


def _is_known(row: Row, moment: datetime) -> bool:
    return bool(row["add_time"] <= moment and (row["remove_time"] is None or moment < row["remove_time"]))


def _in_turn(rows: list[Row]) -> Iterator[tuple[Row, Row]]:
    """Neighbours in time; who has had a name from the first is the first."""
    ordered = sorted(rows, key=lambda row: (row["since_time"] is not None, row["since_time"] or row["add_time"]))
    return pairwise(ordered)
