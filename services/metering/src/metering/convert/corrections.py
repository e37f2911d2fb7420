"""Knows how corrections look on the wire, and how one is written to the log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import numpy as np

from common import wire
from common.errors import InvalidArgument
from common.ids import SellerId
from common.period import EARLIEST
from metering.convert.ingest import sent_from_proto
from metering.convert.sent import Clock
from metering.convert.usages import event_to_proto
from metering.domain.correction import Correction, EventHistory, EventVersion
from metering.domain.dimension import NO_DIMENSIONS
from metering.domain.usage_event import KEY_LENGTH_MAX, Identity, UsageEvent
from metering.log import Batch
from metering.log.batch import Ints
from metering.log.correction import Correction as Written
from saldo.metering.v1 import corrections_service_pb2 as pb
from saldo.metering.v1 import metering_service_pb2, usage_event_pb2

REASON_LENGTH_MAX: Final = 500

_MICROSECOND: Final = timedelta(microseconds=1)


def identity_from_proto(request: pb.VoidEventRequest | pb.GetEventRequest) -> Identity:
    return Identity(
        source=wire.text(request.source, field="source", max_length=KEY_LENGTH_MAX),
        id=wire.text(request.id, field="id", max_length=KEY_LENGTH_MAX),
    )


def reason_from_proto(request: pb.VoidEventRequest | pb.AmendEventRequest) -> str:
    return wire.text(request.reason, field="reason", max_length=REASON_LENGTH_MAX)


def event_from_proto(event: usage_event_pb2.UsageEvent, *, seller_id: SellerId, clock: Clock) -> UsageEvent:
    """Fails with what would be wrong with it if it were ingested.

    It may be one of a commit of quota: only what was stored is amended, so none can come to be.
    """
    request = metering_service_pb2.IngestEventsRequest(events=[event])
    sent = sent_from_proto(request, seller_id=seller_id, clock=clock, traceparent="", of_commits=True)
    for faulty in sent.faulty:
        fault = faulty.fault
        raise type(fault)(fault.message, field=f"event.{fault.field}")
    batch = sent.batch
    return UsageEvent(
        identity=Identity(source=event.source, id=event.id),
        customer=event.customer,
        meter=event.meter,
        time=EARLIEST + int(batch.times[0]) * _MICROSECOND,
        value=batch.wide.get(0, Decimal(int(batch.units[0])).scaleb(-int(batch.decimals[0]))),
        dimensions=json.loads(batch.dimension_sets[0]) if batch.dimension_sets else NO_DIMENSIONS,
    )


def correction_batch(
    written: Written,
    taken_away: UsageEvent,
    amended: UsageEvent | None,
    *,
    seller_id: SellerId,
    at: datetime,
    traceparent: str,
) -> Batch:
    """What takes an event away says the same as the event: so it is found where that one is counted."""
    events = [taken_away] if amended is None else [taken_away, amended]
    strings = [name for event in events for name in (event.customer, event.meter)]
    told = [json.dumps(dict(sorted(event.dimensions.items())), ensure_ascii=False) for event in events]
    return Batch(
        seller_id=seller_id,
        time=at,
        traceparent=traceparent,
        ids=[written.event_id.encode()] * len(events),
        strings=[*strings, written.source],
        sources=_ints(len(strings) for _ in events),
        customers=_ints(2 * n for n, _ in enumerate(events)),
        meters=_ints(2 * n + 1 for n, _ in enumerate(events)),
        times=_ints((event.time - EARLIEST) // _MICROSECOND for event in events),
        units=_ints(0 for _ in events),
        decimals=_ints(0 for _ in events),
        wide={n: event.value for n, event in enumerate(events)},
        dimension_sets=told,
        dimensions=_ints(n if event.dimensions else 0 for n, event in enumerate(events, start=1)),
        correction=written,
    )


def history_to_proto(history: EventHistory) -> pb.EventHistory:
    source, event_id = history.newest.event.identity
    return pb.EventHistory(
        source=source,
        id=event_id,
        versions=[_version_to_proto(version) for version in history.versions],
        corrections=[correction_to_proto(correction) for correction in history.corrections],
        is_voided=history.is_voided,
    )


def correction_to_proto(correction: Correction) -> pb.Correction:
    return pb.Correction(
        source=correction.identity.source,
        id=correction.identity.id,
        kind=pb.Correction.VOIDED if correction.amended_position is None else pb.Correction.AMENDED,
        corrects=correction.corrects,
        position=correction.position,
        amended_position=correction.amended_position or 0,
        reason=correction.reason,
        actor=correction.actor,
        create_time=wire.timestamp(correction.create_time),
    )


def _version_to_proto(version: EventVersion) -> pb.EventVersion:
    return pb.EventVersion(event=event_to_proto(version.event), position=version.position)


def _ints(values: Iterable[int]) -> Ints:
    return np.fromiter(values, dtype=np.int64)


def place_token(correction: Correction) -> str:
    """Where a list of corrections goes on."""
    return wire.encode_page_token(str(correction.position))


def position_after(page: wire.Page) -> int:
    if not page.after:
        return 0
    [told] = page.after
    if not _POSITION.fullmatch(told):
        raise InvalidArgument("must be a next_page_token of the same list, unchanged", field="page_token")
    return int(told)


_POSITION: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
