"""Knows a YAML file as values with a place, so that whatever is wrong can be shown where it is.

Values are read from the text as it was written and never through a float: `0.10` is a tenth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, TypeVar
from zoneinfo import ZoneInfo

import yaml
from google.type import decimal_pb2

from common import wire
from common.errors import InvalidArgument
from common.money import minor_units
from common.period import EARLIEST, LATEST, check_time_zone
from tools.demo.faults import Fault, Malformed

BYTES_MAX: Final = 4_000_000
ITEMS_MAX: Final = 10_000
ParsedT = TypeVar("ParsedT")

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_INSTANT: Final = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})")
_WHOLE: Final = re.compile(r"[+-]?\d{1,18}")
_CODE: Final = re.compile(r"[a-z0-9_-]{1,64}")
_NULL: Final = "tag:yaml.org,2002:null"
_BOOLEANS: Final = {"true": True, "false": False}


def read(folder: Path, name: str) -> Value:
    """The document in a file of the folder."""
    text = read_text(folder, name, bytes_max=BYTES_MAX)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = f"not YAML: {error.problem or error.context}"
        raise Malformed([Fault(name, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1, reason)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        raise Malformed([Fault(name, line, column, f"not YAML: {error.reason}")]) from None
    except RecursionError:
        raise Malformed([Fault(name, 1, 1, "is nested too deeply")]) from None
    if node is None:
        raise Malformed([Fault(name, 1, 1, "is empty")])
    return Value(name, node)


def read_text(folder: Path, name: str, *, bytes_max: int) -> str:
    """The text of a file in UTF-8, with or without a byte order mark."""
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise Malformed([Fault(name, 1, 1, "lies outside of the folder")])
        if path.stat().st_size > bytes_max:
            raise Malformed([Fault(name, 1, 1, f"is larger than {bytes_max} bytes")])
        content = path.read_bytes()
    except FileNotFoundError:
        raise Malformed([Fault(name, 1, 1, "there is no such file")]) from None
    except (OSError, ValueError) as error:
        raise Malformed([Fault(name, 1, 1, f"cannot be read: {error}")]) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - before.rfind(b"\n")
        raise Malformed([Fault(name, line, column, f"is not UTF-8: byte {content[error.start]:#04x}")]) from None


class Value:
    """Something in a document, and where it is."""

    def __init__(self, file: str, node: yaml.Node) -> None:
        self.file = file
        self._node = node

    def fault(self, reason: str) -> Malformed:
        mark = self._node.start_mark
        return Malformed([Fault(self.file, mark.line + 1, mark.column + 1, reason)])

    def text(self, *, max_length: int = 200, multiline: bool = False) -> str:
        written = self._scalar("text")
        return self._checked(lambda: wire.text(written.strip(), field="", max_length=max_length, multiline=multiline))

    def code(self) -> str:
        written = self._scalar("a code")
        if not _CODE.fullmatch(written):
            raise self.fault(f"must be 1 to 64 of a-z, 0-9, _ and -, not {_shown(written)}")
        return written

    def decimal(self, *, minimum: int | None = 0) -> Decimal:
        written = self._scalar("a decimal number")
        message = decimal_pb2.Decimal(value=written)
        return self._checked(lambda: wire.parse_decimal(message, field="", minimum=minimum), written)

    def whole(self, minimum: int, maximum: int) -> int:
        written = self._scalar("a whole number")
        if not _WHOLE.fullmatch(written) or not minimum <= int(written) <= maximum:
            raise self.fault(f"must be a whole number from {minimum} to {maximum}, not {_shown(written)}")
        return int(written)

    def boolean(self) -> bool:
        written = self._scalar("true or false")
        if written not in _BOOLEANS:
            raise self.fault(f"must be true or false, not {_shown(written)}")
        return _BOOLEANS[written]

    def choice(self, names: Collection[str]) -> str:
        written = self._scalar("one of " + ", ".join(names))
        if written not in names:
            raise self.fault(f"must be one of {', '.join(names)}, not {_shown(written)}")
        return written

    def reference(self, known: Collection[str], what: str) -> str:
        """The code of something that is declared elsewhere in the folder."""
        written = self._scalar(f"the code of a {what}")
        if written not in known:
            raise self.fault(f"there is no {what} {_shown(written)}")
        return written

    def currency(self) -> str:
        written = self._scalar("a currency")
        self._checked(lambda: minor_units(written), written)
        return written

    def time_zone(self) -> str:
        written = self._scalar("a time zone")
        return self._checked(lambda: check_time_zone(written), written)

    def moment(self, zone: str) -> datetime:
        """An instant as RFC 3339 has it, or a date: its midnight in the zone."""
        written = self._scalar("a date")
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

    def items(self) -> list[Value]:
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.fault(f"must be a list, not {self._kind()}")
        if len(self._node.value) > ITEMS_MAX:
            raise self.fault(f"must have at most {ITEMS_MAX} entries")
        return [Value(self.file, each) for each in self._node.value]

    def each(self, parse: Callable[[Value], ParsedT]) -> list[ParsedT]:
        """Every entry parsed; what is wrong with any of them, all at once."""
        return gathered(self.items(), parse)

    def fields(self, *, required: Iterable[str] = (), optional: Iterable[str] = ()) -> dict[str, Value]:
        """The entries of a mapping; a key that is missing, unknown or there twice is a fault."""
        if not isinstance(self._node, yaml.MappingNode):
            raise self.fault(f"must be keys with values, not {self._kind()}")
        known = [*required, *optional]
        faults: list[Fault] = []
        found: dict[str, Value] = {}
        for key_node, value_node in self._node.value:
            key = Value(self.file, key_node)
            name = key_node.value if isinstance(key_node, yaml.ScalarNode) else ""
            if name not in known:
                faults += key.fault(f"unknown key {_shown(str(name))}; known are {', '.join(known)}").faults
            elif name in found:
                faults += key.fault(f"{name} is there twice").faults
            elif not (isinstance(value_node, yaml.ScalarNode) and value_node.tag == _NULL and name not in required):
                found[name] = Value(self.file, value_node)
        faults += [fault for name in required if name not in found for fault in self.fault(f"{name} is missing").faults]
        if faults:
            raise Malformed(faults)
        return found

    def _scalar(self, wanted: str) -> str:
        if not isinstance(self._node, yaml.ScalarNode):
            raise self.fault(f"must be {wanted}, not {self._kind()}")
        if self._node.tag == _NULL:
            raise self.fault(f"must be {wanted}, not empty")
        return str(self._node.value)

    def _kind(self) -> str:
        if isinstance(self._node, yaml.SequenceNode):
            return "a list"
        if isinstance(self._node, yaml.MappingNode):
            return "keys with values"
        return "empty" if self._node.tag == _NULL else _shown(str(self._node.value))

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
