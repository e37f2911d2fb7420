"""Knows what was billed before its period ended, and which periods are under way: begun, and billed later."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Final

from tools.check.agreement import agreement_of
from tools.check.records import Records, Row
from tools.check.schedule import Billable, billables

LONGEST: Final = timedelta(days=3 * 366)
"""How far ahead the end of a period is looked for. A longer one is not found to be under way."""

DAYS: Final = {"DAY": 1, "WEEK": 7, "MONTH": 31, "YEAR": 366, "ONCE": 1}


class Early:
    """What the records say of it. Who has no threshold and never had one is not looked at."""

    def __init__(self, records: Records) -> None:
        self._records = records
        rows = records.rows("invoicing", "early_lines")
        self.by_line = {row["line_id"]: row for row in rows}
        self.ids = frozenset(self.by_line)
        self._sellers = {row["seller_id"] for row in rows}
        self._sellers |= {row["seller_id"] for row in records.rows("invoicing", "spend_thresholds")}

    @property
    def under_way(self) -> Sequence[Billable]:
        """What is metered, has begun and is billed later, as things stand."""
        return self._records.once("under way", lambda: list(self._found()))

    def is_begun(self, lines: Sequence[Row]) -> bool:
        """Whether a part of this period was billed early, of which there is more to bill or was."""
        return any(line["id"] in self.ids for line in lines)

    def whole_of(self, lines: Sequence[Row]) -> Row:
        """The line that is to bill all of a period, of those that bill it in their order; the last one until then."""
        return next((line for line in lines if line["id"] not in self.ids), lines[-1])

    def waits(self, lines: Sequence[Row]) -> bool:
        """Whether more is not to be billed of a period yet: what was billed early of it is still a draft."""
        invoices = self._records.by("invoicing", "invoices", "id")
        return any(line["id"] in self.ids and invoices[line["invoice_id"]][0]["state"] == "DRAFT" for line in lines)

    def not_late(self, lines: Sequence[Row]) -> set[str]:
        """Those of the lines of one period, in their order, that are no corrections: early ones, and the rest."""
        found = {line["id"] for line in lines if line["id"] in self.ids}
        if found:
            found.add(self.whole_of(lines)["id"])
        return found

    def _found(self) -> Iterator[Billable]:
        changes = self._records.by("subscriptions", "subscription_changes", "subscription_id")
        for row in self._records.rows("subscriptions", "subscriptions"):
            if row["seller_id"] not in self._sellers:
                continue
            now = self._records.now("invoicing", row["seller_id"])
            log = changes.get(row["id"], ())
            reach = _reach([json.loads(row["opening"]), *(json.loads(each["actions"]) for each in log)])
            for billable in billables(agreement_of(row, log), through=now + reach):
                is_metered = billable.terms.price.meter and billable.kind == "OWED"
                if is_metered and billable.period.start <= now < billable.bill_time:
                    yield billable


def _reach(written: object) -> timedelta:
    """Within which all that has begun has ended: twice the longest interval that anything was ever agreed for."""
    return min(LONGEST, timedelta(days=2 * max(_intervals(written), default=1)))


def _intervals(written: object) -> Iterator[int]:
    """In days, of every price that is written somewhere in it."""
    parts: Iterable[object] = ()
    if isinstance(written, dict):
        if "interval_unit" in written:
            yield DAYS[written["interval_unit"]] * written["interval_count"]
        parts = written.values()
    elif isinstance(written, list):
        parts = written
    for part in parts:
        yield from _intervals(part)
