"""Knows a YAML document as values with a place, so that whatever is wrong can be shown where it is.

Values are read from the text as it was written and never through a float: `0.10` is a tenth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

import yaml
from google.type import decimal_pb2

from common import wire
from common.errors import InvalidArgument
from common.money import minor_units
from common.period import EARLIEST, LATEST, check_time_zone

BYTES_MAX: Final = 4_000_000
ITEMS_MAX: Final = 10_000
DEPTH_MAX: Final = 32
VALUES_MAX: Final = 1_000_000
"""With those that an alias repeats: a few lines of aliases of aliases could mean billions."""
FAULTS_MAX: Final = 1_000
"""Kept per document: whoever has more has one cause for them."""
ParsedT = TypeVar("ParsedT")

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_INSTANT: Final = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})")
_WHOLE: Final = re.compile(r"[+-]?\d{1,18}")
_CODE: Final = re.compile(r"[a-z0-9_-]{1,64}")
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """What is wrong, and where, as an editor or a compiler would say it. Lines and columns are counted from 1."""

    file: str
    line: int
    column: int
    reason: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class Malformed(Exception):
    """What was read is not what it should be; says all that was found."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = sorted(faults)[:FAULTS_MAX]
        super().__init__("\n".join(map(str, self.faults)))


class Faults:
    """Keeps what is wrong with one part of a document while the others are read."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    @contextmanager
    def kept(self) -> Iterator[None]:
        try:
            yield
        except Malformed as error:
            self.found += error.faults

    def check(self) -> None:
        if self.found:
            raise Malformed(self.found)


def parse(text: str, name: str) -> Value:
    """The one document in a text; `name` is what faults call it."""
    if len(text) > BYTES_MAX or len(text.encode()) > BYTES_MAX:
        raise Malformed([Fault(name, 1, 1, f"is larger than {BYTES_MAX} bytes")])
    try:
        return _Composer(text, name).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = f"not YAML: {error.problem or error.context}"
        raise Malformed([Fault(name, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1, reason)]) from None
    except yaml.reader.ReaderError as error:
        before = text.encode()[: error.position].decode(errors="ignore")
        line = before.count("\n") + 1
        column = len(before) - before.rfind("\n")
        raise Malformed([Fault(name, line, column, f"not YAML: {error.reason}")]) from None


class _Composer:
    """Makes values of the events of the fast parser, whose own composer would descend until the stack ends."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=yaml.CSafeLoader))  # Any: events have no common type
        self._anchored: dict[str, tuple[Value, int]] = {}
        self._count = 0

    def document(self) -> Value:
        self._next(yaml.StreamStartEvent)
        start = next(self._events)
        if isinstance(start, yaml.StreamEndEvent):
            raise Malformed([Fault(self._name, 1, 1, "is empty")])
        value = self._value(next(self._events), depth=0)
        self._next(yaml.DocumentEndEvent)
        following = next(self._events)
        if not isinstance(following, yaml.StreamEndEvent):
            raise self._fault(following, "not YAML: but found another document")
        return value

    def _value(self, event: Any, *, depth: int) -> Value:  # Any: as above
        if depth > DEPTH_MAX:
            raise self._fault(event, "is nested too deeply")
        before = self._count
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchored:
                raise self._fault(event, f"not YAML: found undefined alias {event.anchor!a}")
            value, count = self._anchored[event.anchor]
            self._counted(event, count)
            return value
        self._counted(event, 1)
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, yaml.ScalarEvent):
            plain = event.implicit[0]
            value = Value(self._name, line, column, None if plain and event.value in _NULLS else event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            items: list[Value] = []
            while not isinstance(inner := next(self._events), yaml.SequenceEndEvent):
                items.append(self._value(inner, depth=depth + 1))
            value = Value(self._name, line, column, items)
        else:
            pairs: list[tuple[Value, Value]] = []
            while not isinstance(inner := next(self._events), yaml.MappingEndEvent):
                key = self._value(inner, depth=depth + 1)
                pairs.append((key, self._value(next(self._events), depth=depth + 1)))
            value = Value(self._name, line, column, tuple(pairs))
        if event.anchor is not None:
            self._anchored[event.anchor] = value, self._count - before
        return value

    def _counted(self, event: Any, count: int) -> None:  # Any: as above
        self._count += count
        if self._count > VALUES_MAX:
            raise self._fault(event, f"has more than {VALUES_MAX} values")

    def _next(self, kind: type[object]) -> None:
        event = next(self._events)
        assert isinstance(event, kind)

    def _fault(self, event: Any, reason: str) -> Malformed:  # Any: as above
        mark = event.start_mark
        return Malformed([Fault(self._name, mark.line + 1, mark.column + 1, reason)])


class Value:
    """Something in a document, and where it is."""

    __slots__ = ("_content", "column", "file", "line")

    def __init__(
        self, file: str, line: int, column: int, content: str | list[Value] | tuple[tuple[Value, Value], ...] | None
    ) -> None:
        self.file = file
        self.line = line
        self.column = column
        self._content = content

    @property
    def is_list(self) -> bool:
        return isinstance(self._content, list)

    @property
    def is_mapping(self) -> bool:
        return isinstance(self._content, tuple)

    @property
    def written(self) -> str:
        """A scalar as it stands there; nothing for all else."""
        return self._content if isinstance(self._content, str) else ""

    def get(self, key: str) -> Value | None:
        """What stands under a key of a mapping, whatever else is there; None if nothing does."""
        pairs = self._content if isinstance(self._content, tuple) else ()
        return next((value for name, value in pairs if name.written == key and value._content is not None), None)

    def fault(self, reason: str) -> Malformed:
        return Malformed([Fault(self.file, self.line, self.column, reason)])

    def text(self, *, max_length: int = 200, multiline: bool = False, required: bool = True) -> str:
        written = self.scalar("text").strip()
        return self._checked(
            lambda: wire.text(written, field="", max_length=max_length, multiline=multiline, required=required)
        )

    def code(self) -> str:
        written = self.scalar("a code")
        if not _CODE.fullmatch(written):
            raise self.fault(f"must be 1 to 64 of a-z, 0-9, _ and -, not {_shown(written)}")
        return written

    def decimal(self, *, minimum: int | None = 0) -> Decimal:
        written = self.scalar("a decimal number")
        message = decimal_pb2.Decimal(value=written)
        return self._checked(lambda: wire.parse_decimal(message, field="", minimum=minimum), written)

    def whole(self, minimum: int, maximum: int) -> int:
        written = self.scalar("a whole number")
        if not _WHOLE.fullmatch(written) or not minimum <= int(written) <= maximum:
            raise self.fault(f"must be a whole number from {minimum} to {maximum}, not {_shown(written)}")
        return int(written)

    def boolean(self) -> bool:
        written = self.scalar("true or false")
        if written not in _BOOLEANS:
            raise self.fault(f"must be true or false, not {_shown(written)}")
        return _BOOLEANS[written]

    def choice(self, names: Collection[str]) -> str:
        written = self.scalar("one of " + ", ".join(names))
        if written not in names:
            raise self.fault(f"must be one of {', '.join(names)}, not {_shown(written)}")
        return written

    def reference(self, known: Collection[str], what: str) -> str:
        """The code of something that is declared elsewhere in the folder."""
        written = self.scalar(f"the code of a {what}")
        if written not in known:
            raise self.fault(f"there is no {what} {_shown(written)}")
        return written

    def currency(self) -> str:
        written = self.scalar("a currency")
        self._checked(lambda: minor_units(written), written)
        return written

    def time_zone(self) -> str:
        written = self.scalar("a time zone")
        return self._checked(lambda: check_time_zone(written), written)

    def moment(self, zone: str) -> datetime:
        """An instant as RFC 3339 has it, or a date: its midnight in the zone."""
        written = self.scalar("a date")
        found = parse_instant(written)
        if found is None and _DATE.fullmatch(written):
            try:
                midnight = datetime.combine(date.fromisoformat(written), datetime.min.time(), ZoneInfo(zone))
                found = midnight.astimezone(UTC)
            except (ValueError, OverflowError):
                raise self.fault(f"{written} is no date of the calendar") from None
        if found is None:
            raise self.fault(f"must be a date like 2012-01-31 or 2012-01-31T09:00:00Z, not {_shown(written)}")
        if not EARLIEST <= found < LATEST:
            raise self.fault(f"must lie in the years {EARLIEST.year} to {LATEST.year - 1}")
        return found

    @property
    def elements(self) -> list[Value]:
        """Those of a list, or the keys of a mapping; none of all else."""
        if isinstance(self._content, tuple):
            return [key for key, _ in self._content]
        return self._content if isinstance(self._content, list) else []

    def items(self) -> list[Value]:
        if not isinstance(self._content, list):
            raise self.fault(f"must be a list, not {self._kind()}")
        if len(self._content) > ITEMS_MAX:
            raise self.fault(f"must have at most {ITEMS_MAX} entries")
        return self._content

    def each(self, parse: Callable[[Value], ParsedT]) -> list[ParsedT]:
        """Every entry parsed; what is wrong with any of them, all at once."""
        return gathered(self.items(), parse)

    def fields(
        self, *, required: Iterable[str] = (), optional: Iterable[str] = (), others: bool = False
    ) -> dict[str, Value]:
        """The entries of a mapping by key: none missing, none twice, and none unknown unless there may be `others`."""
        known = [*required, *optional]
        faults: list[Fault] = []
        found: dict[str, Value] = {}
        for key, value in self._pairs():
            name = key.written
            if name not in known:
                if not others:
                    faults += key.fault(f"unknown key {_shown(name)}; known are {', '.join(known)}").faults
            elif name in found:
                faults += key.fault(f"{name} is there twice").faults
            elif value._content is not None or name in required:
                found[name] = value
        faults += [fault for name in required if name not in found for fault in self.fault(f"{name} is missing").faults]
        if faults:
            raise Malformed(faults)
        return found

    def entries(self) -> list[tuple[Value, Value]]:
        """The entries of a mapping whose keys are the writer's own; none is there twice."""
        pairs = list(self._pairs())
        check_unique([key for key, _ in pairs], [key.scalar("a code") for key, _ in pairs], "key")
        return pairs

    def _pairs(self) -> tuple[tuple[Value, Value], ...]:
        if not isinstance(self._content, tuple):
            raise self.fault(f"must be keys with values, not {self._kind()}")
        if len(self._content) > ITEMS_MAX:
            raise self.fault(f"must have at most {ITEMS_MAX} entries")
        return self._content

    def scalar(self, wanted: str) -> str:
        """What is written, whatever it is; `wanted` is what to write instead of nothing or of a list."""
        if self._content is None:
            raise self.fault(f"must be {wanted}, not empty")
        if not isinstance(self._content, str):
            raise self.fault(f"must be {wanted}, not {self._kind()}")
        return self._content

    def _kind(self) -> str:
        if isinstance(self._content, list):
            return "a list"
        if isinstance(self._content, tuple):
            return "keys with values"
        return "empty" if self._content is None else _shown(self._content)

    def _checked(self, parse: Callable[[], ParsedT], written: str = "") -> ParsedT:
        try:
            return parse()
        except InvalidArgument as error:
            raise self.fault(error.message + (f", not {_shown(written)}" if written else "")) from None


def gathered(values: Iterable[Value], parse: Callable[[Value], ParsedT]) -> list[ParsedT]:
    parsed: list[ParsedT] = []
    faults: list[Fault] = []
    for value in values:
        try:
            parsed.append(parse(value))
        except Malformed as error:
            faults += error.faults
    if faults:
        raise Malformed(faults)
    return parsed


def check_unique(values: Sequence[Value], names: Iterable[str], what: str) -> None:
    """Every name once; the second of two is at fault."""
    seen: set[str] = set()
    faults: list[Fault] = []
    for value, name in zip(values, names, strict=True):
        if name in seen:
            faults += value.fault(f"there are two of {what} {name}").faults
        seen.add(name)
    if faults:
        raise Malformed(faults)


def parse_instant(written: str) -> datetime | None:
    """RFC 3339, to the microsecond; None for anything else, also for a time without an offset."""
    if not _INSTANT.fullmatch(written):
        return None
    try:
        return datetime.fromisoformat(written).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _shown(written: str) -> str:
    return ascii(written if len(written) <= 40 else written[:37] + "...")
