"""Knows how many rows are written by one statement: column by column, as arrays. COPY does not go through row-level
security.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Integer, LargeBinary, Numeric, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

from common.db import Tx

Row = Mapping[str, object]


async def insert_rows(tx: Tx, table: Table, rows: Sequence[Row]) -> None:
    """Each has a value for every column."""
    if rows:
        await tx.driver.execute(_insert(table), *_columns(table, rows, tuple(table.c.keys())))


async def update_rows(tx: Tx, table: Table, rows: Sequence[Row], *, key: str) -> None:
    """Each has the seller, the key, and a value for every column that changes; all change the same ones."""
    if rows:
        names = tuple(rows[0])
        await tx.driver.execute(_update(table, names, key), *_columns(table, rows, names))


def _columns(table: Table, rows: Sequence[Row], names: Sequence[str]) -> list[list[object]]:
    columns: list[list[object]] = []
    for name, values in zip(names, zip(*map(itemgetter(*names), rows), strict=True), strict=True):
        write = _WRITERS.get(type(table.c[name].type))
        columns.append([None if value is None else write(value) for value in values] if write else list(values))
    return columns


@cache
def _insert(table: Table) -> str:
    names = tuple(table.c.keys())
    values = ", ".join(_value(table, name) for name in names)
    return f"INSERT INTO {table.name} ({', '.join(names)}) SELECT {values} FROM {_new(table, names)}"


@cache
def _update(table: Table, names: Sequence[str], key: str) -> str:
    changes = ", ".join(f"{name} = {_value(table, name)}" for name in names if name not in ("seller_id", key))
    return (
        f"UPDATE {table.name} t SET {changes} FROM {_new(table, names)}"
        f" WHERE t.seller_id = new.seller_id AND t.{key} = new.{key}"
    )


def _new(table: Table, names: Sequence[str]) -> str:
    arrays = ", ".join(f"${n}::{_TYPES[type(table.c[name].type)]}[]" for n, name in enumerate(names, start=1))
    return f"unnest({arrays}) AS new ({', '.join(names)})"


def _value(table: Table, name: str) -> str:
    cast = _CASTS.get(type(table.c[name].type), "")
    return f"new.{name}{cast}"


def _array(texts: Any) -> str:  # Any: a sequence of texts, as all values of its column are
    """As PostgreSQL writes one."""
    return "{" + ",".join('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts) + "}"


def _json(value: object) -> str:
    return _COMPACT.encode(value)


_COMPACT: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_TYPES: Final[Mapping[type, str]] = {
    Text: "text",
    BigInteger: "bigint",
    Integer: "integer",
    Boolean: "boolean",
    Numeric: "numeric",
    LargeBinary: "bytea",
    TIMESTAMP: "timestamptz",
    # Arrays of arrays would have to be of one length.
    ARRAY: "text",
    JSONB: "text",
}
_CASTS: Final[Mapping[type, str]] = {ARRAY: "::text[]", JSONB: "::jsonb"}
_WRITERS: Final[Mapping[type, Callable[[Any], object]]] = {ARRAY: _array, JSONB: _json}  # Any: of the column's type
