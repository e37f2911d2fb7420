"""Invariants of what is stored at all: no card number, no row of a seller that does not exist, no answer forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally

EVERY_SELLER: Final = "*"
CHOSEN_BY_SENDERS: Final = frozenset({"event_id"})
"""Columns of which any number may be content: the ids that senders give their usage events."""

# Digits that stand alone, in groups or not. What adjoins a letter or a decimal point is part of something else.
_DIGITS: Final = re.compile(r"(?<![\w.\-])\d(?:[ -]?\d){12,18}(?![\w\-]|\.\d)")
# Of nearly all that is stored it takes one look to tell that there is no such thing in it.
_LONG: Final = re.compile(r"\d[\d -]{12}")
# Ids of traces are hexadecimal, and may be all digits.
_TRACEPARENT: Final = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_ISSUED: Final = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|6(?:011|5\d\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}|35\d{14}"
)


def no_card_number(records: Records, tally: Tally) -> None:
    """No column holds what could be the number of a card: issued ranges, and a check digit that fits."""
    for database, tables in records.tables.items():
        for table, rows in tables.items():
            for row in rows:
                tally.checked += 1
                if not _has_long_number(row):
                    continue
                for column, value in row.items():
                    if column not in CHOSEN_BY_SENDERS and any(map(has_card_number, _texts(value))):
                        where = row.get("id") or row.get("seller_id") or ""
                        tally.offending += 1
                        tally.offenders.append(f"{database}.{table}.{column} of {where}")
    del tally.offenders[5:]


def sellers_exist(records: Records, tally: Tally) -> None:
    """Every row belongs to a seller that the catalog knows. Clocks are read by whoever has a token."""
    known = {row["seller_id"] for row in records.rows("catalog", "sellers")} | {EVERY_SELLER}
    for database, tables in records.tables.items():
        for table, rows in tables.items():
            if table == "clocks":
                continue
            for row in rows:
                if "seller_id" in row.keys():  # noqa: SIM118 # a record of asyncpg is no dict
                    tally.check(row["seller_id"] in known, f"{database}.{table}: {row['seller_id']}")


def answered_commands_on_record(records: Records, tally: Tally) -> None:
    """Every command that a client was answered is on record where it was carried out, with the same content."""
    on_record = {
        (service, row["seller_id"], row["request_id"]): row["digest"].hex()
        for service, tables in records.tables.items()
        for row in tables.get("requests", ())
    }
    for entry in records.entries:
        if not entry.request_id:
            continue
        service = entry.method.removeprefix("/").split(".")[1]
        if not records.has(service):
            continue
        digest = on_record.get((service, entry.seller_id, entry.request_id))
        tally.check(digest == entry.digest, f"{entry.method} {entry.request_id}")


def _has_long_number(row: Row) -> bool:
    return _LONG.search("\n".join(text for value in row.values() for text in _texts(value))) is not None


def has_card_number(text: str) -> bool:
    return any(_is_card_number(match[0]) for match in _DIGITS.finditer(_TRACEPARENT.sub("", text)))


def _is_card_number(written: str) -> bool:
    digits = re.sub(r"\D", "", written)
    if not _ISSUED.fullmatch(digits):
        return False
    doubled = (int(digit) * (1 + position % 2) for position, digit in enumerate(reversed(digits)))
    return sum(number - 9 * (number > 9) for number in doubled) % 10 == 0


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode("latin-1")
    elif isinstance(value, list):
        yield from (each for each in value if isinstance(each, str))


INVARIANTS: Final = (
    Invariant(name="every row belongs to a seller that exists", needs=("catalog",), verify=sellers_exist),
    Invariant(name="no card number is stored", needs=(), verify=no_card_number),
    Invariant(name="every answered command is on record", needs=(), verify=answered_commands_on_record),
)
