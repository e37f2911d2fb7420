"""Knows how each usage event of a batch is answered: stored now, before, not, or for nobody yet."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np

from common.errors import InvalidArgument
from metering.convert.sent import Sent
from metering.domain.errors import UnknownCustomer, UnknownMeter
from metering.domain.usage_event import KEY_LENGTH_MAX
from metering.log import Stored
from metering.log.batch import Mask
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.usage_event_pb2 import EventResult

ANSWER_BYTES_MAX: Final = 4_000_000
"""Clients of gRPC take 4 MiB unless told otherwise."""


def answer(
    sent: Sent, stored: Stored, *, meters: Collection[str], strangers: Collection[str], exceptions_only: bool
) -> pb.IngestEventsResponse:
    """`meters` are those that the seller has, `strangers` what no customer is called."""
    response = pb.IngestEventsResponse()
    results: dict[int, EventResult] = {}
    batch, places = sent.batch, sent.places
    known = iter(stored.known)
    for each in sent.faulty:
        if each.identity is not None and next(known):
            results[each.place] = _result(each.place, each.sent_id, EventResult.DUPLICATE)
        else:
            results[each.place] = _result(each.place, each.sent_id, EventResult.REJECTED, each.fault)
    if stored.fresh is not None:
        for n in np.flatnonzero(~stored.fresh).tolist():
            results[places[n]] = _result(places[n], batch.ids[n].decode(), EventResult.DUPLICATE)
    missing = (
        (batch.meters, sent.meters - set(meters), _unknown_meter),
        (batch.customers, strangers, _unknown_customer),
    )
    for column, names, fault_of in missing:
        if not names:
            continue
        unmatched: Mask = np.isin(column, [n for n, each in enumerate(batch.strings) if each in names])
        for n in np.flatnonzero(unmatched).tolist():
            if places[n] not in results:
                fault = fault_of(batch.strings[column[n]])
                results[places[n]] = _result(places[n], batch.ids[n].decode(), EventResult.UNMATCHED, fault)
    counts = {EventResult.DUPLICATE: 0, EventResult.REJECTED: 0, EventResult.UNMATCHED: 0}
    for result in results.values():
        counts[result.outcome] += 1
    response.duplicate_count = counts[EventResult.DUPLICATE]
    response.rejected_count = counts[EventResult.REJECTED]
    response.unmatched_count = counts[EventResult.UNMATCHED]
    response.accepted_count = sent.size - len(results)
    if exceptions_only:
        response.results.extend(results[place] for place in sorted(results))
    elif not results:
        accepted = EventResult.ACCEPTED
        response.results.extend(
            [EventResult(id=each.decode(), outcome=accepted, index=n) for n, each in enumerate(batch.ids)]
        )
    else:
        ids = dict(zip(places, batch.ids, strict=True))
        response.results.extend(
            results.get(n) or _result(n, ids[n].decode(), EventResult.ACCEPTED) for n in range(sent.size)
        )
    _make_fit(response)
    return response


def _make_fit(response: pb.IngestEventsResponse) -> None:
    """A sender that cannot take the answer would send the same for ever."""
    if response.ByteSize() > ANSWER_BYTES_MAX:
        for each in response.results:
            each.id = ""
    if response.ByteSize() > ANSWER_BYTES_MAX:
        for each in response.results:
            each.message = ""


def _result(
    place: int, sent_id: str, outcome: EventResult.Outcome.ValueType, fault: InvalidArgument | None = None
) -> EventResult:
    result = EventResult(id=sent_id[:KEY_LENGTH_MAX], outcome=outcome, index=place)
    if fault is not None:
        result.reason, result.field, result.message = fault.reason, fault.field, fault.message
    return result


def _unknown_meter(code: str) -> InvalidArgument:
    return UnknownMeter(f"there is no meter {code}", field="meter")


def _unknown_customer(name: str) -> InvalidArgument:
    return UnknownCustomer(f"no customer is called {name}", field="customer")
