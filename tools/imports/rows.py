"""Knows what makes a row of a file a usage event that can be sent. What it says of itself is metering's to judge."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from common.period import EARLIEST, LATEST
from tools.imports.layout import DIMENSION, SOURCE, Layout, Unusable
from tools.imports.reading import Record

DECIMALS_MAX: Final = 12
DIGITS_MAX: Final = 26
"""Before the decimals."""
ONE: Final = (1, 0)

_MICROSECOND: Final = timedelta(microseconds=1)
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,60}(\.[0-9]{1,60})?([eE][+-]?[0-9]{1,2})?", re.ASCII)


class Malformed(Exception):
    """A row that cannot be sent."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    record: Record
    id: bytes
    source: str
    customer: str
    meter: str
    micros: int
    """Since 1970."""
    units: int
    decimals: int
    dimensions: tuple[tuple[str, str], ...]

    @property
    def value(self) -> Decimal:
        # All of its digits: arithmetic would round to 28 of them.
        return Decimal(f"{self.units}E-{self.decimals}")


def row_of(record: Record, layout: Layout) -> Row:
    """Raises Malformed."""
    if record.fault:
        raise Malformed("", record.fault)
    found = {"source": SOURCE, **layout.constants}
    columns: dict[str, str] = {}
    dimensions: list[tuple[str, str]] = []
    for column, text in record.cells.items():
        try:
            role = layout.role(column)
            text.encode()
        except Unusable as error:
            raise Malformed(column, str(error)) from None
        except UnicodeEncodeError:
            raise Malformed(column, "is not UTF-8") from None
        if role.startswith(DIMENSION):
            if text:
                dimensions.append((role.removeprefix(DIMENSION), text))
        elif role:
            if role in columns:
                raise Malformed(column, f"{role} is told by {columns[role]} already")
            found[role], columns[role] = text, column
    names = [name for name, _ in dimensions]
    if len(set(names)) < len(names):
        raise Malformed("", "a dimension is told twice")
    for name in ("source", "customer", "meter", "time"):
        if not found.get(name):
            raise Malformed(columns.get(name, name), "is empty" if name in columns else "is missing")
    units, decimals = _value(found["value"], columns.get("value", "value")) if "value" in found else ONE
    return Row(
        record=record,
        id=(found["id"] if "id" in columns else _made_up_id(record, layout)).encode(),
        source=found["source"],
        customer=found["customer"],
        meter=found["meter"],
        micros=_micros(found["time"], columns.get("time", "time"), layout.time_zone),
        units=units,
        decimals=decimals,
        dimensions=tuple(sorted(dimensions)),
    )


def _made_up_id(record: Record, layout: Layout) -> str:
    try:
        return layout.made_up_id(record.end.number, record.cells)
    except KeyError as error:
        raise Malformed(str(error.args[0]), "is missing, and the id is made of it") from None


def _value(text: str, column: str) -> tuple[int, int]:
    """As units of the last of so many decimals."""
    if not text:
        raise Malformed(column, "is empty")
    if not _NUMBER.fullmatch(text):
        raise Malformed(column, f"must be a number, such as 12.50, not {text[:60]!a}")
    sign, digits, exponent = Decimal(text).as_tuple()
    assert isinstance(exponent, int), "it is no infinity"
    units = int("".join(map(str, digits)))
    while exponent < 0 and units % 10 == 0 and units:
        units, exponent = units // 10, exponent + 1
    if not units:
        return 0, 0
    if exponent > 0:
        units, exponent = units * 10**exponent, 0
    if -exponent > DECIMALS_MAX or units >= 10 ** (DIGITS_MAX - exponent):
        raise Malformed(column, f"must have at most {DECIMALS_MAX} decimals and {DIGITS_MAX} digits before them")
    return (-units if sign else units), -exponent


def _micros(text: str, column: str, time_zone: ZoneInfo | None) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise Malformed(column, f"must be a time like 2012-01-31T09:30:00Z, not {text[:60]!a}") from None
    if time.tzinfo is None:
        time = _local(time, column, time_zone)
    try:
        found = time.astimezone(UTC)
    except OverflowError:
        found = EARLIEST
    if not EARLIEST < found < LATEST:
        raise Malformed(column, f"must lie in the years {EARLIEST.year} to {LATEST.year - 1}")
    return (found - EARLIEST) // _MICROSECOND


def _local(time: datetime, column: str, time_zone: ZoneInfo | None) -> datetime:
    if time_zone is None:
        raise Malformed(column, "does not tell its offset: say --time-zone")
    first, second = time.replace(tzinfo=time_zone), time.replace(tzinfo=time_zone, fold=1)
    if first.utcoffset() == second.utcoffset():
        return first
    # Clocks are being changed. What is not there comes back as another time of day.
    if first.astimezone(UTC).astimezone(time_zone).replace(tzinfo=None) != time:
        raise Malformed(column, f"there is no such time in {time_zone}: clocks were put forward")
    raise Malformed(column, f"is twice in {time_zone}, as clocks were put back: it must tell its offset")


def strings_of(rows: list[Row]) -> Mapping[str, int]:
    """What a batch refers to by its place."""
    found: dict[str, int] = {}
    for row in rows:
        for text in (row.source, row.customer, row.meter):
            found.setdefault(text, len(found))
    return found
