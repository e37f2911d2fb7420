"""Knows how usage events are written in PostgreSQL's binary COPY format, a batch at a time.

https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS: a row is the number of its fields, then
each field as its length and its bytes, all in network byte order. What has the same width in every row of a batch is
written by numpy; only dimensions and ids are put in one by one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from decimal import Decimal
from typing import Final

import asyncpg
import numpy as np

from metering.log.batch import KEY, Fixed, Ints, KeyArray, Part

COLUMNS: Final = ("seller_id", "position", "stream", "source", "time", "key", "value", "dimensions", "event_id")
CORRECTION_COLUMNS: Final = (*COLUMNS, "corrects", "version")
NULL: Final = b"\xff\xff\xff\xff"
_NO_LENGTH: Final = -1
"""The same as a number."""
DECIMALS_MAX: Final = 12

_POSTGRES_EPOCH_MICROS: Final = 946_684_800_000_000
_LENGTHS: Final = [n.to_bytes(4, "big") for n in range(1 << 10)]
_GROUPS: Final = 8
"""Of four decimal digits each: five before the point, in which 63 bits fit, and three after it."""
_NUMERIC_BYTES: Final = 8 + 2 * _GROUPS
NUMERIC: Final = np.dtype([("length", ">i4"), ("header", ">i2", (4,)), ("groups", ">i2", (_GROUPS,))])
"""A number that fits in 63 bits, with its length."""
_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"


async def copy(
    connection: asyncpg.Connection, table: str, parts: Sequence[bytes], *, columns: Sequence[str], schema: str | None
) -> None:
    await connection.copy_to_table(
        table, schema_name=schema, source=framed(parts), columns=list(columns), format="binary"
    )


async def framed(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Rows as the data of a COPY."""
    yield _HEADER
    for each in parts:
        yield each
    yield _TRAILER


def rows(part: Part, *, positions: Ints, streams: Ints, sources: Ints, keys: KeyArray) -> bytes:
    """The events of a part as rows of a COPY, those of a stream together: so they come to stand in one page, by which
    they are found for as long as they have no other index.
    """
    batch, order = part.batch, np.argsort(streams)
    ordered = part.places[order]
    lengths = set(map(len, batch.ids))
    is_alike = len(lengths) == 1 and not batch.wide and not batch.dimension_sets
    fixed = _fixed(
        Part(batch, ordered),
        positions=positions[order],
        streams=streams[order],
        sources=sources[order],
        keys=keys[order],
        id_length=lengths.pop() if is_alike else 0,
    )
    if is_alike:
        fixed["id"] = np.frombuffer(b"".join(batch.ids), dtype=fixed.dtype["id"])[ordered]
        return fixed.tobytes()
    places = ordered.tolist()
    ids = list(map(batch.ids.__getitem__, places))
    width = fixed.dtype.itemsize
    raw = fixed.tobytes()
    heads = [raw[n : n + width] for n in range(0, len(raw), width)]
    if batch.wide:
        for nth, n in enumerate(places):
            if n in batch.wide:
                field = numeric(batch.wide[n])
                heads[nth] = heads[nth][: -4 - _NUMERIC_BYTES] + _length(field) + field
    pieces: list[bytes] = [b""] * (4 * len(ids))
    pieces[0::4] = heads
    if batch.dimension_sets:
        texts = [b"\x01" + each.encode() for each in batch.dimension_sets]  # jsonb, version 1
        fields = [NULL, *(_length(each) + each for each in texts)]
        pieces[1::4] = [fields[n] for n in batch.dimensions[ordered].tolist()]
    else:
        pieces[1::4] = [NULL] * len(ids)
    pieces[2::4] = [_LENGTHS[len(each)] for each in ids]
    pieces[3::4] = ids
    return b"".join(pieces)


def correction_rows(part: Part, *, positions: Ints, streams: Ints, sources: Ints, keys: KeyArray) -> bytes:
    """The events of a correction as rows of a COPY, with what an ordinary row leaves out."""
    batch = part.batch
    assert batch.correction is not None
    marks = (
        _length(bytes(8)) + batch.correction.corrects.to_bytes(8, "big") + NULL,
        NULL + _length(bytes(4)) + batch.correction.number.to_bytes(4, "big"),
    )
    count = len(CORRECTION_COLUMNS).to_bytes(2, "big")
    pieces: list[bytes] = []
    for n, mark in zip(range(len(part)), marks, strict=False):
        chosen = slice(n, n + 1)
        row = rows(
            Part(batch, part.places[chosen]),
            positions=positions[chosen],
            streams=streams[chosen],
            sources=sources[chosen],
            keys=keys[chosen],
        )
        pieces.append(count + row[len(count) :] + mark)
    return b"".join(pieces)


def _fixed(part: Part, *, positions: Ints, streams: Ints, sources: Ints, keys: KeyArray, id_length: int) -> Fixed:
    """The rows as far as they are alike: all but their ids if `id_length` is that of each, and none has dimensions;
    else up to their values.
    """
    batch, places = part.batch, part.places
    rest = [("dimensions_length", ">i4"), ("id_length", ">i4"), ("id", f"V{id_length}")] if id_length else []
    seller = batch.seller_id.encode()
    record = np.empty(
        len(part),
        dtype=[
            ("fields", ">i2"),
            ("seller_length", ">i4"),
            ("seller", f"S{len(seller)}"),
            ("position_length", ">i4"),
            ("position", ">i8"),
            ("stream_length", ">i4"),
            ("stream", ">i8"),
            ("source_length", ">i4"),
            ("source", ">i4"),
            ("time_length", ">i4"),
            ("time", ">i8"),
            ("key_length", ">i4"),
            ("key", KEY),
            ("value", NUMERIC),
            *rest,
        ],
    )
    record["fields"] = len(COLUMNS)
    record["seller_length"] = len(seller)
    record["seller"] = seller
    record["position_length"] = record["stream_length"] = record["time_length"] = 8
    record["position"] = positions
    record["stream"] = streams
    record["source_length"] = 4
    record["source"] = sources
    record["time"] = batch.times[places] - _POSTGRES_EPOCH_MICROS
    record["key_length"] = 16
    record["key"] = keys
    numerics(record["value"], batch.units[places], batch.decimals[places])
    if id_length:
        record["dimensions_length"] = _NO_LENGTH
        record["id_length"] = id_length
    return record


def numerics(field: Fixed, units: Ints, decimals: Ints) -> None:
    """Write numbers to a field of records. As `numeric_recv` reads them: number of groups, weight of the first, sign,
    digits after the point, the groups.
    """
    negative = units < 0
    # The least of all has no opposite in 64 bits, but it has in unsigned ones.
    magnitude = np.where(negative, np.negative(units), units).astype(np.uint64)
    scale = _POWERS[decimals]
    whole = magnitude // scale
    fraction = (magnitude - whole * scale) * _POWERS[DECIMALS_MAX - decimals]
    field["length"] = _NUMERIC_BYTES
    header, value = field["header"], field["groups"]
    header[:, 0] = _GROUPS
    header[:, 1] = _GROUPS - 4
    header[:, 2] = np.where(negative, 0x4000, 0)
    header[:, 3] = decimals
    base = np.uint64(10_000)
    if not len(whole) or int(whole.max()) < 10_000:
        value[:, :4] = 0
        value[:, 4] = whole
    else:
        for group in range(4, -1, -1):
            value[:, group] = whole % base
            whole = whole // base
    if not fraction.any():
        value[:, 5:] = 0
    else:
        for group in range(7, 4, -1):
            value[:, group] = fraction % base
            fraction = fraction // base


def numeric(value: Decimal) -> bytes:
    """One number of any size."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int), "neither infinite nor not a number"
    scale = max(0, -exponent)
    coefficient = int("".join(map(str, digits))) * 10 ** max(0, exponent)
    padded = coefficient * 10 ** (-scale % 4)
    groups: list[int] = []
    while padded:
        padded, group = divmod(padded, 10_000)
        groups.insert(0, group)
    weight = len(groups) - -(-scale // 4) - 1
    header = (len(groups), weight, 0x4000 if sign else 0, scale)
    return b"".join(each.to_bytes(2, "big", signed=each < 0) for each in (*header, *groups))


def _length(field: bytes) -> bytes:
    return len(field).to_bytes(4, "big")


_POWERS: Final = np.array([10**n for n in range(DECIMALS_MAX + 1)], dtype=np.uint64)
