"""Knows how usage events become what a line is rated by: a quantity, amounts, groups, or several meters."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final

from tools.check import aggregation, corrections
from tools.check.archived import Archived
from tools.check.calendar import Span
from tools.check.naming import Naming
from tools.check.payers import used_by
from tools.check.rater import Capacity, Group, Matrix, Model, Percentage, Used
from tools.check.records import Records, Row
from tools.check.versions import Versions, of_line

COUNTED_BEFORE: Final = timedelta(minutes=10)
"""How long before an invoice is written its usage may have been asked for."""


@dataclass(frozen=True, slots=True)
class Change:
    """That a usage event came, or was taken away again by a correction."""

    event: str
    position: int
    time: datetime


@dataclass(frozen=True, slots=True)
class Counted:
    """A usage event in one of its versions, when it came, and when it was taken away."""

    meter: str
    time: datetime
    source: str
    id: str
    value: Decimal
    dimensions: Mapping[str, str]
    counts: Fraction
    """Its value, unless the meter has an expression."""
    version: int | None
    added: Change
    taken_away: Change | None

    @property
    def changes(self) -> list[Change]:
        return [self.added] if self.taken_away is None else [self.added, self.taken_away]

    def counts_at(self, position: int) -> bool:
        end = self.taken_away.position if self.taken_away else None
        return corrections.counts_at(position, start=self.added.position, end=end)


class Counting:
    """The usage events of every customer, in order of time, and how each meter makes a quantity of them."""

    def __init__(self, records: Records) -> None:
        ingests = defaultdict(list)
        for row in sorted(records.rows("metering", "ingests"), key=lambda row: row["position"]):
            ingests[row["seller_id"]].append(row)
        self._versions = Versions(records)
        self._invoices = {row["id"]: row for row in records.rows("invoicing", "invoices")}
        self._naming = Naming(records)
        self._archived = Archived(records)
        self._found: dict[tuple[str, str, str, int], list[Counted]] = defaultdict(list)
        """By seller, by whatever name they call the customer, by meter and by version of it."""
        ends = corrections.ends(records)
        for row in corrections.events(records):
            of_seller = ingests[row["seller_id"]]
            end = ends.get((row["seller_id"], row["position"]))
            # Databases that are older than dimensions have no such column.
            dimensions = json.loads(row.get("dimensions") or "{}")
            for number, meter in self._versions.of(row["seller_id"], row["meter"]).items():
                counts = aggregation.counts_for(meter, Fraction(row["value"]), dimensions)
                if counts is None:
                    continue
                self._found[row["seller_id"], row["customer"], row["meter"], number].append(
                    Counted(
                        row["meter"],
                        row["time"],
                        row["source"],
                        row["event_id"],
                        row["value"],
                        dimensions,
                        counts,
                        row.get("version"),
                        _change(row, row["position"], of_seller),
                        _change(row, end, of_seller) if end else None,
                    )
                )
        for events in self._found.values():
            events.sort(key=_order)

    def is_archived(self, line: Row, span: Span, model: Model | None) -> bool:
        """Whether some of the events that the line is about are no longer in the log."""
        names = frozenset().union(*self._names(line))
        for meter in meters_of(line, model):
            counted = aggregation.counted_span(self._meter(line, meter), span)
            if self._archived.has(line["seller_id"], meter, names, counted.start, counted.end):
                return True
        return False

    def inside(self, line: Row, span: Span, model: Model | None = None) -> Sequence[Counted]:
        """Those in a span, whenever they came or went: of the line's meter, and of others that the model looks at.

        By the names that the customer had for all that was known when the line was made, and still has.
        """
        *_, names = self._names(line)
        lost = self._naming.lost(line["seller_id"], self._user(line))
        return self._inside(line, names - lost, span, model)

    def considered(self, line: Row, span: Span, model: Model) -> Sequence[Counted]:
        """Those of them that counted when the line was made, by what was known of the customer's names then.

        When a line was counted is not told to the second: if an alias came or went about that time, what the line
        proves says which it is, and by neither it proves nothing.
        """
        through = line["usage_through_position"]
        *before, last = self._names(line)
        for names in before:
            found = [event for event in self._inside(line, names, span, model) if event.counts_at(through)]
            if proof(line, found, model) == line["usage_digest"]:
                return found
        return [event for event in self._inside(line, last, span, model) if event.counts_at(through)]

    def quantity(self, line: Row, events: Sequence[Counted], meter: str = "") -> Fraction:
        """Of the events of a meter, the line's own unless another is named, in order of time.

        Fails with KeyError when there is no such meter.
        """
        code = meter or line["meter"]
        events = [event for event in events if event.meter == code]
        row = self._versions.of(line["seller_id"], code)[of_line(line, code)]
        return aggregation.quantity(row, events, Span(line["period_start"], line["period_end"]))

    def used(self, line: Row, events: Sequence[Counted], model: Model) -> Used:
        """What a model looks at, of events in order of time."""
        # Of nothing but a share, that of the sum is the sum of those of the transactions.
        if isinstance(model, Percentage) and model != Percentage(percent=model.percent):
            return Used(amounts=[event.counts for event in events])
        if isinstance(model, Matrix):
            return Used(quantity=Fraction(0), groups=self._groups(line, events, model.dimensions))
        if isinstance(model, Capacity):
            return Used(meters={meter: self.quantity(line, events, meter) for meter in meters_of(line, model)})
        return Used(quantity=self.quantity(line, events))

    def carries_over(self, line: Row) -> bool:
        """Whether the line's meter counts events in every period after them."""
        return bool(self._meter(line, line["meter"]).get("carries_over"))

    def _meter(self, line: Row, meter: str) -> Row:
        """As the version has it that the line was counted by; empty if there is none."""
        return self._versions.of(line["seller_id"], meter).get(of_line(line, meter), {})

    def _names(self, line: Row) -> list[frozenset[str]]:
        made = self._made(line)
        return self._naming.names(
            line["seller_id"],
            self._user(line),
            start=line["period_start"],
            known=Span(made.start - COUNTED_BEFORE, made.end),
        )

    def _user(self, line: Row) -> str:
        return used_by(line, self._invoices.get(line["invoice_id"], {}))

    def _made(self, line: Row) -> Span:
        """When it was counted. What was refused is on no invoice, and tells it itself."""
        if line["invoice_id"] is None:
            return Span(line["create_time"], line["create_time"])
        invoice = self._invoices[line["invoice_id"]]
        return Span(invoice["create_time"], max(invoice["create_time"], invoice["finalize_time"]))

    def _inside(self, line: Row, names: Iterable[str], span: Span, model: Model | None) -> Sequence[Counted]:
        """In order of meter, then of time."""
        found: list[Counted] = []
        for meter in meters_of(line, model):
            of_meter: list[Counted] = []
            counted = aggregation.counted_span(self._meter(line, meter), span)
            for name in names:
                events = self._found.get((line["seller_id"], name, meter, of_line(line, meter)), ())
                first = bisect_left(events, counted.start, key=_time)
                of_meter += events[first : bisect_left(events, counted.end, key=_time)]
            found += sorted(of_meter, key=_order)
        return found

    def _groups(self, line: Row, events: Sequence[Counted], dimensions: Sequence[str]) -> list[Group]:
        found: dict[tuple[str, ...], list[Counted]] = defaultdict(list)
        for event in events:
            found[tuple(event.dimensions.get(name, "") for name in dimensions)].append(event)
        return [
            Group(dict(zip(dimensions, values, strict=True)), self.quantity(line, group))
            for values, group in found.items()
        ]


def counting_of(records: Records) -> Counting:
    return records.once("counting", lambda: Counting(records))


def meters_of(line: Row, model: Model | None) -> list[str]:
    """In order of their codes: the line's own, and those of a capacity."""
    sizes = model.sizes if isinstance(model, Capacity) else ()
    return sorted({line["meter"], *(meter for size in sizes for meter in size.limits)})


def proof(line: Row, events: Sequence[Counted], model: Model | None) -> str:
    """The digest of the events of one meter; of several, SHA-256 over code and digest of each, in order of code."""
    found = {meter: digest(event for event in events if event.meter == meter) for meter in meters_of(line, model)}
    if len(found) == 1:
        return found[line["meter"]]
    return hashlib.sha256("\n".join(f"{meter}\x1f{each}" for meter, each in found.items()).encode()).hexdigest()


def digest(events: Iterable[Counted]) -> str:
    """SHA-256 over source, id and value of the events in order of source and id."""
    return sha256_of((event.source, event.id, event.value, event.version) for event in events)


def sha256_of(events: Iterable[tuple[str, str, Decimal, int | None]]) -> str:
    """Of source, id, value and, if it was amended, version of each, in order of source and id."""
    lines = (
        f"{source}\x1f{event_id}\x1f{_plain(value)}" + ("" if version is None else f"\x1f{version}")
        for source, event_id, value, version in sorted(events, key=lambda event: event[:2])
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _change(row: Row, position: int, ingests: Sequence[Row]) -> Change:
    nth = bisect_left(ingests, position, key=lambda ingest: ingest["position"])
    # What no ingest brought the invariant of positions names.
    time = ingests[nth]["create_time"] if nth < len(ingests) else row["time"]
    return Change(f"{row['source']} {row['event_id']}", position, time)


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _order(event: Counted) -> tuple[datetime, str, str]:
    return event.time, event.source, event.id


def _time(event: Counted) -> datetime:
    return event.time
