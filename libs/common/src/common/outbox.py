"""Knows how an event becomes a row beside the change it announces: names come from the message itself.

The message class is the declaration. By convention field 1 of an event is the resource as it is after the change, and
field 1 of a resource is its id: that id names the aggregate, whose events are numbered without a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg
from google.protobuf.message import Message

from common import ids, telemetry
from common.ids import SellerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """An event that waits for its transaction to commit."""

    id: str
    seller_id: SellerId
    subject: str
    aggregate_id: str
    time: datetime
    traceparent: str
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was answered to a `request_id`, which the door has entered in `requests` before."""

    seller_id: SellerId
    method: str
    request_id: str
    response: bytes


def emitted(event: Message, *, seller_id: SellerId, at: datetime, traceparent: str = "") -> Emitted:
    """It goes on with the trace that is given, or else with the span under way."""
    return Emitted(
        id=ids.mint("evt", at),
        seller_id=seller_id,
        subject=subject_of(type(event)),
        aggregate_id=aggregate_of(event),
        time=at,
        traceparent=traceparent or telemetry.traceparent(),
        payload=event.SerializeToString(),
    )


def subject_of(event: type[Message]) -> str:
    """`saldo.invoicing.v1.InvoiceFinalized`."""
    return event.DESCRIPTOR.full_name


def stream_of(event: type[Message]) -> str:
    """`INVOICING`, from the package `saldo.invoicing.v1`."""
    return stream_of_package(event.DESCRIPTOR.file.package)


def stream_of_package(package: str) -> str:
    return package.split(".")[-2].upper()


def aggregate_of(event: Message) -> str:
    """The id of the resource an event is about."""
    resource = event.DESCRIPTOR.fields[0]
    if resource.message_type is None or not event.HasField(resource.name):
        raise ValueError(f"{event.DESCRIPTOR.full_name} must carry its resource in field 1")
    identity = resource.message_type.fields[0].name
    aggregate_id: str = getattr(getattr(event, resource.name), identity)
    if not aggregate_id:
        raise ValueError(f"{event.DESCRIPTOR.full_name} carries a resource without an id")
    return aggregate_id


async def write(driver: asyncpg.Connection, events: Sequence[Emitted], *, answer: Answer | None = None) -> None:
    """Write all that a transaction leaves behind besides its effects, in one statement: events, and the answer.

    Events are numbered per aggregate. The upsert of the aggregate's counter is also a row lock until the commit: events
    of one aggregate get their positions in the order in which their transactions commit.
    """
    remembered = (answer.seller_id, answer.method, answer.request_id, answer.response) if answer is not None else ()
    if len(events) == 1:
        event = events[0]
        await driver.execute(
            _WRITE_ONE_AND_ANSWER if remembered else _WRITE_ONE,
            event.id,
            event.seller_id,
            event.subject,
            event.aggregate_id,
            event.time,
            event.traceparent,
            event.payload,
            *remembered,
        )
    elif events:
        # How many events each aggregate has here, and how many of them are behind each event.
        sizes: dict[tuple[str, str], int] = {}
        places = []
        for event in events:
            key = (event.seller_id, event.aggregate_id)
            sizes[key] = place = sizes.get(key, 0) + 1
            places.append(place)
        behind = [
            sizes[event.seller_id, event.aggregate_id] - place for event, place in zip(events, places, strict=True)
        ]
        # Locked in one order by everybody.
        aggregates = sorted(sizes)
        await driver.execute(
            _WRITE_AND_ANSWER if remembered else _WRITE,
            [event.id for event in events],
            [event.seller_id for event in events],
            [event.subject for event in events],
            [event.aggregate_id for event in events],
            [event.time for event in events],
            [event.traceparent for event in events],
            [event.payload for event in events],
            behind,
            [seller_id for seller_id, _ in aggregates],
            [aggregate_id for _, aggregate_id in aggregates],
            [sizes[aggregate] for aggregate in aggregates],
            *remembered,
        )
    elif remembered:
        await driver.execute(
            "UPDATE requests SET response = $4 WHERE seller_id = $1 AND method = $2 AND request_id = $3", *remembered
        )


_ANSWER: Final = """
answered AS (
    UPDATE requests SET response = ${response}
    WHERE seller_id = ${seller} AND method = ${method} AND request_id = ${request}
),
"""

_ONE: Final = """
WITH {answered} counted AS (
    INSERT INTO aggregate_sequences AS s (seller_id, aggregate_id, last) VALUES ($2::text, $4::text, 1)
    ON CONFLICT (seller_id, aggregate_id) DO UPDATE SET last = s.last + 1
    RETURNING last
), announced AS (
    INSERT INTO outbox (id, seller_id, subject, aggregate_id, sequence, time, traceparent, payload)
    SELECT $1::text, $2::text, $3::text, $4::text, last, $5::timestamptz, $6::text, $7::bytea FROM counted
    RETURNING position, seller_id
)
INSERT INTO outbox_waiting (position, seller_id) SELECT position, seller_id FROM announced
"""

_MANY: Final = """
WITH {answered} counted AS (
    INSERT INTO aggregate_sequences AS s (seller_id, aggregate_id, last)
    SELECT seller_id, aggregate_id, size
    FROM unnest($9::text[], $10::text[], $11::bigint[]) WITH ORDINALITY AS t (seller_id, aggregate_id, size, nth)
    ORDER BY nth
    ON CONFLICT (seller_id, aggregate_id) DO UPDATE SET last = s.last + excluded.last
    RETURNING seller_id, aggregate_id, last
), announced AS (
    INSERT INTO outbox (id, seller_id, subject, aggregate_id, sequence, time, traceparent, payload)
    SELECT e.id, e.seller_id, e.subject, e.aggregate_id, c.last - e.behind, e.time, e.traceparent, e.payload
    FROM unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::bytea[], $8::bigint[]
    ) WITH ORDINALITY AS e (id, seller_id, subject, aggregate_id, time, traceparent, payload, behind, nth)
    JOIN counted c USING (seller_id, aggregate_id)
    ORDER BY e.nth
    RETURNING position, seller_id
)
INSERT INTO outbox_waiting (position, seller_id) SELECT position, seller_id FROM announced
"""

_WRITE_ONE: Final = _ONE.format(answered="")
_WRITE_ONE_AND_ANSWER: Final = _ONE.format(answered=_ANSWER.format(seller=8, method=9, request=10, response=11))
_WRITE: Final = _MANY.format(answered="")
_WRITE_AND_ANSWER: Final = _MANY.format(answered=_ANSWER.format(seller=12, method=13, request=14, response=15))
