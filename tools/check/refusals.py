"""Knows what was refused of late usage: it is never billed, and taken off whatever is billed of the period later."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from tools.check.records import Records, Row
from tools.check.schedule import BilledKey


class Refusals:
    """By period, in their order."""

    def __init__(self, records: Records) -> None:
        self.by_key: dict[BilledKey, list[Row]] = defaultdict(list)
        for row in records.rows("invoicing", "late_usages"):
            if row["outcome"] == "REFUSED":
                self.by_key[key_of(row)].append(row)
        for rows in self.by_key.values():
            rows.sort(key=lambda row: row["number"])

    def all(self, key: BilledKey) -> int:
        """All that was ever refused of it."""
        return _sum(self.by_key.get(key, ()))

    def before(self, key: BilledKey, line: Row, invoice: Row) -> int:
        """What had been refused when a line of it was counted last."""
        final: datetime = invoice["finalize_time"]
        return _sum(
            row
            for row in self.by_key.get(key, ())
            # In one moment of a sandbox it may have been before or after: whoever counted further came later.
            if (row["create_time"], row["usage_through_position"]) <= (final, line["usage_through_position"] or 0)
        )


def key_of(record: Row) -> BilledKey:
    return BilledKey(record["item_id"], record["price_id"], record["period_start"], "OWED", record["change_id"])


def _sum(rows: Iterable[Row]) -> int:
    return sum(row["amount_minor"] for row in rows)
