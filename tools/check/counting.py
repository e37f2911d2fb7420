"""Knows how usage events become what a line is rated by: a quantity, amounts, groups, or several meters."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from itertools import chain

from tools.check.calendar import Span
from tools.check.rater import Capacity, Group, Matrix, Model, Percentage, Used
from tools.check.records import Records, Row


@dataclass(frozen=True, slots=True)
class Counted:
    """A usage event, and at which position it was ingested."""

    meter: str
    time: datetime
    source: str
    id: str
    value: Decimal
    dimensions: Mapping[str, str]
    position: int
    ingest_time: datetime


class Counting:
    """The usage events of every customer, in order of time, and how each meter makes a quantity of them."""

    def __init__(self, records: Records) -> None:
        ingests = {(row["seller_id"], row["id"]): row for row in records.rows("metering", "ingests")}
        customers: dict[tuple[str, str], str] = {
            (row["seller_id"], row["external_id"]): row["id"]
            for row in records.rows("subscriptions", "customers")
            if row["external_id"]
        }
        self._meters = {(row["seller_id"], row["code"]): row for row in records.rows("metering", "meters")}
        self._customers = {row["id"]: row["customer_id"] for row in records.rows("subscriptions", "subscriptions")}
        self._found: dict[tuple[str, str, str], list[Counted]] = defaultdict(list)
        for row in records.rows("metering", "usage_events"):
            ingest = ingests.get((row["seller_id"], row["ingest_id"]))
            named = (row["seller_id"], row["customer"])
            customer = customers[named] if named in customers else row["customer"]
            self._found[row["seller_id"], customer, row["meter"]].append(
                Counted(
                    row["meter"],
                    row["time"],
                    row["source"],
                    row["event_id"],
                    row["value"],
                    # Databases that are older than dimensions have no such column.
                    json.loads(row.get("dimensions") or "{}"),
                    # Without its ingest it was never considered; the invariant of positions names it.
                    ingest["position"] if ingest else 1 << 62,
                    ingest["create_time"] if ingest else row["time"],
                )
            )
        for events in self._found.values():
            events.sort(key=_order)

    def inside(self, line: Row, span: Span, model: Model | None = None) -> Sequence[Counted]:
        """Those in a span, whenever they were ingested: of the line's meter, and of others that the model looks at."""
        return list(chain.from_iterable(self._inside(line, meter, span) for meter in meters_of(line, model)))

    def considered(self, line: Row, span: Span, model: Model) -> Sequence[Counted]:
        """Those of them that were ingested when the line was made."""
        through = line["usage_through_position"]
        return [event for event in self.inside(line, span, model) if event.position <= through]

    def quantity(self, line: Row, events: Sequence[Counted], meter: str = "") -> Fraction:
        """Of the events of a meter, the line's own unless another is named, in order of time.

        Fails with KeyError when there is no such meter.
        """
        code = meter or line["meter"]
        events = [event for event in events if event.meter == code]
        row = self._meters[line["seller_id"], code]
        match row["aggregation"]:
            case "SUM":
                return sum((Fraction(event.value) for event in events), Fraction(0))
            case "COUNT":
                return Fraction(len(events))
            case "MAX":
                return max((Fraction(event.value) for event in events), default=Fraction(0))
            case "LATEST":
                return Fraction(events[-1].value) if events else Fraction(0)
            case "UNIQUE_COUNT":
                told = {event.dimensions.get(row["unique_dimension"], "") for event in events}
                return Fraction(len(told - {""}))
        raise ValueError(f"the aggregation {row['aggregation']}")

    def used(self, line: Row, events: Sequence[Counted], model: Model) -> Used:
        """What a model looks at, of events in order of time."""
        # Of nothing but a share, that of the sum is the sum of those of the transactions.
        if isinstance(model, Percentage) and model != Percentage(percent=model.percent):
            return Used(amounts=[Fraction(event.value) for event in events])
        if isinstance(model, Matrix):
            return Used(quantity=Fraction(0), groups=self._groups(line, events, model.dimensions))
        if isinstance(model, Capacity):
            return Used(meters={meter: self.quantity(line, events, meter) for meter in meters_of(line, model)})
        return Used(quantity=self.quantity(line, events))

    def _inside(self, line: Row, meter: str, span: Span) -> Sequence[Counted]:
        customer = self._customers.get(line["subscription_id"], "")
        events = self._found.get((line["seller_id"], customer, meter), ())
        first = bisect_left(events, span.start, key=_time)
        return events[first : bisect_left(events, span.end, key=_time)]

    def _groups(self, line: Row, events: Sequence[Counted], dimensions: Sequence[str]) -> list[Group]:
        found: dict[tuple[str, ...], list[Counted]] = defaultdict(list)
        for event in events:
            found[tuple(event.dimensions.get(name, "") for name in dimensions)].append(event)
        return [
            Group(dict(zip(dimensions, values, strict=True)), self.quantity(line, group))
            for values, group in found.items()
        ]


def meters_of(line: Row, model: Model | None) -> list[str]:
    """In order of their codes: the line's own, and those of a capacity."""
    sizes = model.sizes if isinstance(model, Capacity) else ()
    return sorted({line["meter"], *(meter for size in sizes for meter in size.limits)})


def _order(event: Counted) -> tuple[datetime, str, str]:
    return event.time, event.source, event.id


def _time(event: Counted) -> datetime:
    return event.time
