"""Knows what credit notes gave back of usage that was billed: what changes later does not give it back once more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from tools.check.records import Records, Row


class Credited:
    """By line."""

    def __init__(self, records: Records) -> None:
        times = {row["id"]: row["issue_time"] for row in records.rows("invoicing", "credit_notes")}
        self._parts: dict[str, list[tuple[datetime, int]]] = defaultdict(list)
        for row in records.rows("invoicing", "credit_note_lines"):
            if row["credit_note_id"] in times:
                self._parts[row["line_id"]].append((times[row["credit_note_id"]], row["amount_minor"]))

    def all(self, lines: Sequence[Row]) -> int:
        return sum(minor for line in lines for _, minor in self._parts.get(line["id"], ()))

    def before(self, lines: Sequence[Row], at: datetime) -> set[int]:
        """What may have been given back of them by then: in one moment of a sandbox it was before or after."""
        parts = [part for line in lines for part in self._parts.get(line["id"], ())]
        sooner = sum(minor for time, minor in parts if time < at)
        return {sooner, sum(minor for time, minor in parts if time <= at)}
