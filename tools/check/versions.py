"""Knows the versions of meters, and by which of them a period is counted."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Final

from tools.check.aggregation import BEGINNING
from tools.check.records import Records, Row

DEFINING: Final = (
    "aggregation",
    "unique_dimension",
    "percentile",
    "carries_over",
    "bucket",
    "time_zone",
    "filter",
    "value_expression",
)


class Versions:
    def __init__(self, records: Records) -> None:
        self._found: dict[tuple[str, str], dict[int, Row]] = {}
        later: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in records.rows("metering", "meter_versions"):
            later[row["seller_id"], row["meter_id"]].append(row)
        for meter in records.rows("metering", "meters"):
            first = {**meter, "effective_time": BEGINNING, "create_time": BEGINNING}
            of_meter = later[meter["seller_id"], meter["id"]] if later else []
            self._found[meter["seller_id"], meter["code"]] = {1: first, **{row["version"]: row for row in of_meter}}

    def of(self, seller_id: str, code: str) -> Mapping[int, Row]:
        """By number; none if there is no such meter."""
        return self._found.get((seller_id, code), {})

    def in_effect(self, seller_id: str, code: str, at: datetime) -> Row:
        """The newest whose time has come. Fails with KeyError when there is no such meter."""
        found = self._found[seller_id, code]
        return found[max(number for number, row in found.items() if row["effective_time"] <= at)]

    def believed(self, seller_id: str, code: str, at: datetime, *, first: datetime, last: datetime) -> set[int]:
        """The numbers of those that were in effect at an instant by what was known between two moments. What was made
        in the moment itself may have been known or not.
        """
        found = {number: row for number, row in self.of(seller_id, code).items() if row["effective_time"] <= at}
        known_before = max((number for number, row in found.items() if row["create_time"] < first), default=1)
        return {number for number, row in found.items() if number >= known_before and row["create_time"] <= last}

    def last_change(self, seller_id: str, code: str, at: datetime) -> int:
        """The number of the newest that changed how a period that begins then is counted."""
        found = [row for _, row in sorted(self.of(seller_id, code).items()) if row["effective_time"] <= at]
        changed = 1
        for before, row in pairwise(found):
            if any(before[column] != row[column] for column in DEFINING):
                changed = row["version"]
        return changed


def of_line(line: Row, meter: str) -> int:
    """Which version of a meter a line says it was counted by."""
    told = line.get("usage_meter_versions")
    number: int = json.loads(told).get(meter, 1) if told else 1
    return number
