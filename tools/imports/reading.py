"""Knows the files usage comes in: CSV, lines of JSON, Parquet; each read piece by piece, from any place on."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn, Protocol

from tools.imports.layout import DIMENSION, Layout, Unusable

LINE_BYTES_MAX: Final = 1_000_000
PIECE_ROWS: Final = 5_000
"""How many rows of Parquet are read at a time."""
DELIMITERS: Final = ",;\t"
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Place:
    """After so much of a file, up to this line and row."""

    offset: int = 0
    """In bytes; of Parquet in rows."""
    line: int = 0
    number: int = 0
    """Of the row: the first one is 1."""


@dataclass(frozen=True, slots=True)
class Record:
    """A row as it is written."""

    line: int
    """In which it begins; of Parquet the number of the row."""
    end: Place
    cells: Mapping[str, str]
    fault: str = ""
    """Why it could not be read."""


class Reader(Protocol):
    size: int
    """How far the places of the file go."""

    def records(self, after: Place) -> Iterator[Record]: ...


def reader_of(path: Path, layout: Layout) -> Reader:
    """By the ending of the file's name. Raises Unusable."""
    kinds: dict[str, type[_Csv | _JsonLines | _Parquet]] = {
        ".csv": _Csv,
        ".tsv": _Csv,
        ".jsonl": _JsonLines,
        ".ndjson": _JsonLines,
        ".parquet": _Parquet,
    }
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise Unusable(f"it must be one of {', '.join(kinds)}")
    try:
        return kind(path, layout)
    except OSError as error:
        raise Unusable(f"it cannot be read: {error.strerror or error}") from None


class _Lines:
    """The lines of a file, and how far it has been read."""

    def __init__(self, file: BinaryIO, after: Place) -> None:
        file.seek(after.offset)
        self._file = file
        self.offset = after.offset
        self.line = after.line
        self._is_cut = False

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(LINE_BYTES_MAX):
            is_first = not self.offset
            self.offset += len(line)
            self.line += 1
            if len(line) == LINE_BYTES_MAX and not line.endswith(b"\n"):
                self._is_cut = True
                while rest := self._file.readline(LINE_BYTES_MAX):
                    self.offset += len(rest)
                    if rest.endswith(b"\n"):
                        break
                line = b"\n"
            if is_first:
                line = line.removeprefix(BYTE_ORDER_MARK)
            # What is not UTF-8 is the fault of its row, which is found when the row is looked at.
            yield line.decode(errors="surrogateescape")

    def fault(self) -> str:
        """What is wrong with the lines since this was last asked."""
        was_cut, self._is_cut = self._is_cut, False
        return f"is longer than {LINE_BYTES_MAX} bytes" if was_cut else ""


class _Csv:
    def __init__(self, path: Path, layout: Layout) -> None:
        self._path = path
        self.size = path.stat().st_size
        with path.open("rb") as file:
            lines = _Lines(file, Place())
            first = next((line for line in lines if line.strip()), None)
            if first is None:
                raise Unusable("it is empty: it must have a header")
            self._delimiter = max(DELIMITERS, key=first.count)
            try:
                (header,) = csv.reader([first], delimiter=self._delimiter, strict=True)
            except (csv.Error, ValueError):
                raise Unusable("its header cannot be read") from None
            self._header = [name.strip() for name in header]
            self._start = Place(lines.offset, lines.line, 0)
        twice = [name for name in self._header if self._header.count(name) > 1]
        if twice:
            raise Unusable(f"column {twice[0]!a} is there twice")
        layout.check(self._header)

    def records(self, after: Place) -> Iterator[Record]:
        with self._path.open("rb") as file:
            place = after if after.offset else self._start
            lines = _Lines(file, place)
            # It takes no more lines than the row has, so that what has been read is always the end of a row.
            rows = csv.reader(lines, delimiter=self._delimiter, strict=True)
            number, width = place.number, len(self._header)
            while True:
                line, fault = lines.line + 1, ""
                cells: list[str] = []
                try:
                    cells = next(rows)
                except StopIteration:
                    return
                except csv.Error as error:
                    fault = f"is not CSV: {error}"
                fault = lines.fault() or fault
                if not cells and not fault:
                    continue
                number += 1
                if not fault and len(cells) != width:
                    fault = f"must have {width} fields, as the header has, not {len(cells)}"
                end = Place(lines.offset, lines.line, number)
                if fault:
                    yield Record(line, end, {}, fault)
                else:
                    yield Record(line, end, dict(zip(self._header, map(str.strip, cells), strict=True)))


class _JsonLines:
    def __init__(self, path: Path, layout: Layout) -> None:
        self._path = path
        self.size = path.stat().st_size
        with path.open("rb"):
            pass

    def records(self, after: Place) -> Iterator[Record]:
        with self._path.open("rb") as file:
            lines = _Lines(file, after)
            number = after.number
            for text in lines:
                fault, cells = lines.fault(), {}
                if not text.strip() and not fault:
                    continue
                number += 1
                if not fault:
                    try:
                        cells = _cells(text)
                    except (ValueError, RecursionError) as error:
                        fault = f"is not a usage event in JSON: {error}"
                yield Record(lines.line, Place(lines.offset, lines.line, number), cells, fault)


def _cells(text: str) -> dict[str, str]:
    found = json.loads(text, parse_float=Decimal, parse_constant=_no_number, parse_int=_digits, object_pairs_hook=_once)
    if not isinstance(found, dict):
        raise ValueError("it must be an object")
    cells: dict[str, str] = {}
    for name, value in found.items():
        if name == "dimensions" and isinstance(value, dict):
            cells.update({DIMENSION + each: _written(each, inner) for each, inner in value.items()})
        elif value is not None:
            cells[name] = _written(name, value)
    return cells


def _written(name: str, value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str() | Decimal():
            return str(value)
        case _:
            raise ValueError(f"{name[:60]!a} must be a text or a number")


def _digits(text: str) -> str:
    """As it is written: it may be longer than a number may be."""
    return text


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


class _Parquet:
    def __init__(self, path: Path, layout: Layout) -> None:
        try:
            # Not there unless somebody wants it.
            self._arrow: Any = importlib.import_module("pyarrow")  # Any: it has no types
            parquet: Any = importlib.import_module("pyarrow.parquet")  # Any: as above
        except ImportError:
            raise Unusable(
                "Parquet is read by pyarrow, which is not installed: .venv/bin/pip install pyarrow"
            ) from None
        try:
            self._file = parquet.ParquetFile(path)
        except self._arrow.ArrowInvalid as error:
            raise Unusable(f"it is not Parquet: {error}") from None
        self.size = self._file.metadata.num_rows
        layout.check(self._file.schema_arrow.names)
        self._names = [name for name in self._file.schema_arrow.names if layout.role(name) or name in layout.id_columns]
        for name in self._names:
            kind = self._file.schema_arrow.field(name).type
            if self._arrow.types.is_nested(kind):
                raise Unusable(f"column {name!a} is a {kind}: it must be of texts, numbers or times")

    def records(self, after: Place) -> Iterator[Record]:
        number = after.number
        groups, skipped = self._groups(number)
        for piece in self._pieces(groups):
            kept = piece.slice(min(number - skipped, piece.num_rows))
            skipped += piece.num_rows - kept.num_rows
            columns = [self._texts(kept.column(name)) for name in self._names]
            for values in zip(*columns, strict=True):
                number += 1
                skipped += 1
                cells = {name: value for name, value in zip(self._names, values, strict=True) if value is not None}
                yield Record(number, Place(number, number, number), cells)

    def _pieces(self, groups: list[int]) -> Iterator[Any]:  # Any: a batch of pyarrow
        try:
            yield from self._file.iter_batches(batch_size=PIECE_ROWS, row_groups=groups, columns=self._names)
        except (self._arrow.ArrowException, OSError) as error:
            raise Unusable(f"it cannot be read any further: {error}") from None

    def _groups(self, number: int) -> tuple[list[int], int]:
        """Those with rows after the one of this number, and how many rows those before them have."""
        metadata, before = self._file.metadata, 0
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            if before + rows > number:
                return list(range(group, metadata.num_row_groups)), before
            before += rows
        return [], before

    def _texts(self, column: Any) -> list[str | None]:  # Any: a column of pyarrow
        arrow = self._arrow
        if arrow.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if arrow.types.is_timestamp(column.type):
            zone = "UTC" if column.type.tz else None
            column = column.cast(arrow.timestamp("us", tz=zone), safe=False)
        elif arrow.types.is_binary(column.type) or arrow.types.is_large_binary(column.type):
            return [None if each is None else each.decode(errors="surrogateescape") for each in column.to_pylist()]
        texts: list[str | None] = column.cast(arrow.string()).to_pylist()
        return texts
