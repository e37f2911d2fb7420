"""Knows how files of usage are written: CSV, a header, one usage event in a line; every line that is wrong is named."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from google.type import decimal_pb2

from common import wire
from common.document import Fault, Malformed, parse_instant
from common.errors import InvalidArgument
from common.period import EARLIEST, LATEST
from tools.demo.document import read_text
from tools.demo.example import UsageFile, UsageRow

BYTES_MAX: Final = 200_000_000
REPEAT_MAX: Final = 100
DELIMITERS: Final = ",;\t"
OPTIONAL: Final = frozenset({"value", "id", "source", "send_time", "repeat"})
ID_LENGTH_MAX: Final = 128
ONE: Final = Decimal(1)
DIMENSION: Final = "dimensions."
"""What the header of a column begins with that tells a dimension; its name follows."""
DIMENSIONS_MAX: Final = 16

_DIMENSION: Final = re.compile(rf"{re.escape(DIMENSION)}[a-z0-9_-]{{1,64}}")
_QUOTED: Final = re.compile(r'"((?:[^"]|"")*)"')


@dataclass(frozen=True, slots=True)
class Cell:
    """The text of a field, and the column it begins in."""

    text: str
    column: int


def read_usage(
    folder: Path,
    rule: UsageFile,
    *,
    customers: Collection[str],
    meters: Collection[str],
    counted: Collection[str],
) -> tuple[list[UsageRow], list[Fault]]:
    """The sound rows, and what is wrong with the others. A file that cannot be read at all has no sound rows.

    `counted` are the meters that look at no values.
    """
    try:
        lines = _lines(read_text(folder, rule.file, bytes_max=BYTES_MAX))
        header = next(lines, None)
        if header is None:
            return [], [Fault(rule.file, 1, 1, "is empty: it must have a header")]
        delimiter = max(DELIMITERS, key=header[1].count)
        table = _Table(rule, _header(rule, header, delimiter), customers=customers, meters=meters, counted=counted)
    except Malformed as error:
        return [], error.faults
    rows: list[UsageRow] = []
    faults: list[Fault] = []
    for line, text in lines:
        try:
            rows.append(table.row(line, split(text, delimiter, rule.file, line)))
        except Malformed as error:
            faults += error.faults
    return rows, faults


def split(text: str, delimiter: str, file: str, line: int) -> list[Cell]:
    """The fields of one line. A field in quotes may hold the delimiter, and `""` for a quote."""
    if '"' not in text:
        cells: list[Cell] = []
        column = 1
        for part in text.split(delimiter):
            cells.append(Cell(part.strip(), column))
            column += len(part) + 1
        return cells
    cells = []
    start = 0
    while True:
        quoted = _QUOTED.match(text, start)
        if quoted is not None:
            end = quoted.end()
            value = quoted[1].replace('""', '"')
            if end < len(text) and text[end] != delimiter:
                raise Malformed([Fault(file, line, end + 1, "there is more after the closing quote")])
        else:
            if text.startswith('"', start):
                raise Malformed([Fault(file, line, start + 1, "the quote is not closed in this line")])
            end = text.find(delimiter, start)
            end = len(text) if end < 0 else end
            value = text[start:end].strip()
        cells.append(Cell(value, start + 1))
        if end >= len(text):
            return cells
        start = end + 1


class _Table:
    """A file whose header is known."""

    def __init__(
        self,
        rule: UsageFile,
        header: Mapping[str, int],
        *,
        customers: Collection[str],
        meters: Collection[str],
        counted: Collection[str],
    ) -> None:
        self._rule = rule
        self._width = header[""]
        self._customers = customers
        self._meters = meters
        self._counted = counted
        # The source of a rule is only what it is when no column says otherwise.
        self._fixed = {name: text for name, text in rule.fixed.items() if name != "source" or name not in header}
        self._index = {name: index for name, index in header.items() if name and name not in self._fixed}
        self._dimensions = [name for name in self._index if name.startswith(DIMENSION)]

    def row(self, line: int, cells: list[Cell]) -> UsageRow:
        if len(cells) != self._width:
            column = cells[min(len(cells), self._width) - 1].column
            raise self._malformed(line, column, f"must have {self._width} fields, as the header has, not {len(cells)}")
        fields = {name: cells[index] for name, index in self._index.items()}
        found = {name: Cell(text, 1) for name, text in self._fixed.items()} | fields
        customer = self._known(line, found["customer"], self._customers, "customer")
        meter = self._known(line, found["meter"], self._meters, "meter")
        time = self._instant(line, found["time"])
        late = found.get("send_time")
        send_time = self._instant(line, late) if late and late.text else time + self._rule.late_by
        if late and send_time < time:
            raise self._malformed(line, late.column, "must not be before the time at which it happens")
        return UsageRow(
            place=f"{self._rule.file}:{line}",
            source=self._text(line, found["source"]),
            id=self._text(line, found["id"]) if "id" in found else self._made_up_id(line, found, customer, meter),
            customer=customer,
            meter=meter,
            time=time,
            value=self._value(line, found.get("value"), meter),
            send_time=send_time,
            repeat=self._repeat(line, found.get("repeat")),
            # An empty cell does not name the dimension.
            dimensions={
                name.removeprefix(DIMENSION): self._text(line, found[name])
                for name in self._dimensions
                if found[name].text
            },
        )

    def _made_up_id(self, line: int, found: Mapping[str, Cell], customer: str, meter: str) -> str:
        """Without ids of its own, a reading is known by whose it is, of what, and when."""
        return self._text(line, Cell(f"{customer}/{meter}/{found['time'].text}", found["time"].column))

    def _known(self, line: int, cell: Cell, known: Collection[str], what: str) -> str:
        if cell.text not in known:
            raise self._malformed(line, cell.column, f"there is no {what} {cell.text[:60]!a}")
        return cell.text

    def _instant(self, line: int, cell: Cell) -> datetime:
        found = parse_instant(cell.text)
        if found is None:
            reason = f"must be an instant like 2012-01-31T09:30:00Z, with its offset, not {cell.text[:60]!a}"
            raise self._malformed(line, cell.column, reason)
        if not EARLIEST < found < LATEST:
            raise self._malformed(line, cell.column, f"must lie in the years {EARLIEST.year} to {LATEST.year - 1}")
        return found

    def _value(self, line: int, cell: Cell | None, meter: str) -> Decimal:
        if cell is None or (not cell.text and meter in self._counted):
            return ONE
        try:
            return wire.parse_decimal(decimal_pb2.Decimal(value=cell.text), field="value")
        except InvalidArgument as error:
            raise self._malformed(line, cell.column, f"{error.message}, not {cell.text[:60]!a}") from None
        except ValueError:  # what is no text at all cannot be put into a message
            raise self._malformed(line, cell.column, "must be a decimal number, such as 12.50") from None

    def _text(self, line: int, cell: Cell) -> str:
        try:
            return wire.text(cell.text, field="", max_length=ID_LENGTH_MAX)
        except InvalidArgument as error:
            raise self._malformed(line, cell.column, error.message) from None

    def _repeat(self, line: int, cell: Cell | None) -> int:
        if cell is None or not cell.text:
            return self._rule.repeat
        if not (
            cell.text.isascii() and cell.text.isdigit() and len(cell.text) < 4 and 1 <= int(cell.text) <= REPEAT_MAX
        ):
            raise self._malformed(line, cell.column, f"must be a whole number from 1 to {REPEAT_MAX}")
        return int(cell.text)

    def _malformed(self, line: int, column: int, reason: str) -> Malformed:
        return Malformed([Fault(self._rule.file, line, column, reason)])


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Numbered from 1; empty lines say nothing."""
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if line.strip():
            yield number, line


def _header(rule: UsageFile, header: tuple[int, str], delimiter: str) -> dict[str, int]:
    """Where each field is found; the empty name stands for how many columns there are."""
    line, text = header
    cells = split(text, delimiter, rule.file, line)
    places: dict[str, int] = {}
    for index, cell in enumerate(cells):
        if cell.text in places:
            raise Malformed([Fault(rule.file, line, cell.column, f"column {cell.text!a} is there twice")])
        places[cell.text] = index
    found = {"": len(cells)}
    faults = []
    dimensions = [cell for cell in cells if cell.text.startswith(DIMENSION)]
    for nth, cell in enumerate(dimensions, start=1):
        found[cell.text] = places[cell.text]
        if not _DIMENSION.fullmatch(cell.text):
            reason = f"{DIMENSION} must be followed by 1 to 64 of a-z, 0-9, _ and -"
            faults.append(Fault(rule.file, line, cell.column, reason))
        if nth == DIMENSIONS_MAX + 1:
            faults.append(Fault(rule.file, line, cell.column, f"there are more than {DIMENSIONS_MAX} dimensions"))
    for name, column in rule.columns.items():
        if column in places:
            found[name] = places[column]
        elif (name not in OPTIONAL and name not in rule.fixed) or column != name:
            faults.append(Fault(rule.file, line, 1, f"there is no column {column!a} for the {name}"))
    if faults:
        raise Malformed(faults)
    return found
