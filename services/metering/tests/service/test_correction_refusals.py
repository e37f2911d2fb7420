"""A correction is made once, in its turn and by whoever may; what cannot be corrected is refused."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest

from common import wire
from common.caller import Role
from common.testing import SANDBOX_START, Suite, refused
from metering import corrections, turns
from metering.domain import correction
from metering.domain.usage_event import Identity, UsageEvent
from saldo.metering.v1 import corrections_service_pb2 as pb
from saldo.metering.v1 import metering_service_pb2 as metering_pb
from saldo.metering.v1 import usage_event_pb2
from saldo.metering.v1.corrections_service_pb2_grpc import CorrectionServiceStub
from saldo.metering.v1.usage_event_pb2 import EventResult
from services.metering.tests.service.test_corrections import (
    AMENDED,
    NOON,
    SOURCE,
    VOIDED,
    amend,
    event,
    fetch,
    figures,
    ingest,
    query,
    usage,
    void,
)


@pytest.mark.own_services
async def test_a_repeated_correction_is_made_once(suite: Suite, metering: Any, fixing: Any) -> None:
    """With and without a request_id; also when another amendment came between, or the answer got lost."""
    await ingest(metering, event("a", "1"), event("b", "1"))
    first = await amend(fixing, event("a", "2"), request_id="r1")
    assert await amend(fixing, event("a", "2"), request_id="r1") == first
    assert await amend(fixing, event("a", "2")) == first
    newest = await amend(fixing, event("a", "3"), request_id="r2")
    # As after a crash between the commit of the log and that of the answer.
    await fetch(suite, "DELETE FROM requests RETURNING request_id")
    assert await amend(fixing, event("a", "2"), request_id="r1") == newest
    voided = await void(fixing, "b", request_id="r3")
    await fetch(suite, "DELETE FROM requests RETURNING request_id")
    assert await void(fixing, "b", request_id="r3") == voided == await void(fixing, "b", reason="again")
    assert await figures(metering) == ("3", 1)
    assert await fetch(suite, "SELECT count(*) FROM usage_log") == [(2 + 2 + 2 + 1,)]


async def test_corrections_at_once_come_one_after_the_other(metering: Any, fixing: Any) -> None:
    """Each takes away what the one before it brought: never do two versions count."""
    await ingest(metering, event("a", "1"))
    await asyncio.gather(*(amend(fixing, event("a", f"{n}")) for n in range(2, 8)))
    history = await fixing.GetEvent(pb.GetEventRequest(source=SOURCE, id="a"))
    assert sorted(each.event.value.value for each in history.versions) == [f"{n}" for n in range(1, 8)]
    positions = [each.position for each in history.versions]
    assert [each.corrects for each in history.corrections] == positions[:-1]
    assert await figures(metering) == (history.versions[-1].event.value.value, 1)
    await asyncio.gather(*(void(fixing, "a") for _ in range(4)), return_exceptions=True)
    assert await figures(metering) == ("0", 0)


async def test_who_is_beaten_looks_again(metering: Any, fixing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two owners one after the other may have looked at the same history: only one of their corrections is stored."""
    await ingest(metering, event("a", "1"))
    looked = corrections.Corrections.history
    others: list[usage_event_pb2.UsageEvent] = [event("a", "5")]

    async def late(self: corrections.Corrections, tx: Any, identity: Any) -> Any:  # Any: as in the method itself
        found = await looked(self, tx, identity)
        if others:
            await self.amend(tx, said(others.pop()), reason="first", request_id="")
        return found

    monkeypatch.setattr(corrections.Corrections, "history", late)
    history = await void(fixing, "a")
    assert [each.kind for each in history.corrections] == [AMENDED, VOIDED]
    assert await figures(metering) == ("0", 0)


@pytest.mark.own_services
async def test_of_a_correction_that_is_beaten_nothing_is_stored(
    suite: Suite, metering: Any, fixing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version of an amendment that comes after a void would count though its event is voided."""
    await ingest(metering, event("a", "1"))
    looked = corrections.Corrections.history
    is_first = True

    async def late(self: corrections.Corrections, tx: Any, identity: Any) -> Any:  # Any: as in the method itself
        nonlocal is_first
        found = await looked(self, tx, identity)
        if is_first:
            is_first = False
            await self.void(tx, identity, reason="first", request_id="")
        return found

    monkeypatch.setattr(corrections.Corrections, "history", late)
    with refused("USAGE_EVENT_VOIDED"):
        await amend(fixing, event("a", "5"))
    assert await figures(metering) == ("0", 0)
    assert await fetch(suite, "SELECT corrects, version FROM usage_events ORDER BY position") == [
        (None, None),
        (1, None),
    ]
    assert (await usage(metering, query())).through_position == 2


def said(sent: usage_event_pb2.UsageEvent) -> UsageEvent:
    return UsageEvent(
        identity=Identity(source=sent.source, id=sent.id), customer=sent.customer, meter=sent.meter,
        time=NOON, value=wire.parse_decimal(sent.value, field="value"), dimensions={},
    )  # fmt: skip


async def test_a_voided_event_is_not_sent_again(metering: Any, fixing: Any) -> None:
    """A sender's retry of years later must not bring it back; neither by the identity of a correction."""
    await ingest(metering, event("a", "1"), event("b", "1"))
    await void(fixing, "a")
    await amend(fixing, event("b", "2"))
    again = await metering.IngestEvents(metering_pb.IngestEventsRequest(events=[event("a", "1"), event("b", "1")]))
    assert [each.outcome for each in again.results] == [EventResult.DUPLICATE, EventResult.DUPLICATE]
    assert await figures(metering) == ("2", 1)


async def test_what_cannot_be_corrected_is_refused(metering: Any, fixing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the reason that says what to do instead."""
    await ingest(metering, event("a", "1"), event("b", "1"))
    for call in (
        void(fixing, "nobody's"),
        amend(fixing, event("a", "1", source="another")),
        fixing.GetEvent(pb.GetEventRequest(source=SOURCE, id="nobody's")),
    ):
        with refused("USAGE_EVENT_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await call
    wrong = {
        "event.meter": event("a", "1", meter="No Meter"),
        "event.value": event("a", "1e40"),
        "event.id": event("", "1"),
        "event.customer": event("a", "1", customer=""),
    }
    for field, each in wrong.items():
        with refused("INVALID_ARGUMENT") as refusal:
            await amend(fixing, each)
        assert refusal.field == field
    with refused("EVENT_IN_FUTURE"):
        await amend(fixing, event("a", "1", time=wire.timestamp(SANDBOX_START + timedelta(days=2))))
    with refused("INVALID_ARGUMENT") as refusal:
        await void(fixing, "a", reason="")
    assert refusal.field == "reason"
    await void(fixing, "a")
    with refused("USAGE_EVENT_VOIDED", grpc.StatusCode.FAILED_PRECONDITION):
        await amend(fixing, event("a", "2"))
    monkeypatch.setattr(correction, "AMENDMENTS_MAX", 1)
    await amend(fixing, event("b", "2"))
    with refused("TOO_MANY_AMENDMENTS", grpc.StatusCode.FAILED_PRECONDITION):
        await amend(fixing, event("b", "3"))
    await void(fixing, "b")
    assert await figures(metering) == ("0", 0)


async def test_a_viewer_corrects_nothing(suite: Suite, metering: Any, fixing: Any) -> None:
    """And sees what was corrected."""
    await ingest(metering, event("a", "1"))
    viewer = suite.raw_stub(
        CorrectionServiceStub, "metering", token=suite.keys.token(role=Role.VIEWER, seller_id=suite.seller)
    )
    with refused("ROLE_NOT_ALLOWED"):
        await void(viewer, "a")
    assert (await viewer.GetEvent(pb.GetEventRequest(source=SOURCE, id="a"))).versions


async def test_too_many_corrections_at_once_are_refused(
    metering: Any, fixing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait in memory, and must not keep those waiting who only ask."""
    await ingest(metering, event("a", "1"))
    monkeypatch.setattr(turns, "WAITING_MAX", 0)
    with refused("INGEST_OVERLOADED", grpc.StatusCode.RESOURCE_EXHAUSTED):
        await void(fixing, "a")
    monkeypatch.undo()
    assert (await void(fixing, "a")).is_voided


async def test_corrections_are_listed_by_position(metering: Any, fixing: Any) -> None:
    """An auditor goes through all of them, with who did it, when and why."""
    await ingest(metering, event("a", "1"), event("b", "1"), event("c", "1"))
    await amend(fixing, event("b", "2"))
    await void(fixing, "a")
    await void(fixing, "b")
    found: list[pb.Correction] = []
    token = ""
    while True:
        page = await fixing.ListCorrections(pb.ListCorrectionsRequest(page_size=2, page_token=token))
        found += page.corrections
        token = page.next_page_token
        if not token:
            break
    assert [(each.id, each.kind, each.corrects, each.position) for each in found] == [
        ("b", AMENDED, 2, 4),
        ("a", VOIDED, 1, 6),
        ("b", VOIDED, 5, 7),
    ]
    assert {wire.parse_timestamp(each.create_time, field="create_time") for each in found} == {SANDBOX_START}
    with refused("INVALID_ARGUMENT") as refusal:
        await fixing.ListCorrections(pb.ListCorrectionsRequest(page_token=wire.encode_page_token("x")))
    assert refusal.field == "page_token"


async def test_usage_that_nobody_counts_is_corrected_too(metering: Any, fixing: Any) -> None:
    """That is what a misspelt meter wants: amended, it counts where it belongs, and is reported no more."""
    await ingest(metering, event("a", "3", meter="kwhh"), event("b", "5", meter="kwhh"))
    await amend(fixing, event("a", "3"))
    listed = (await metering.ListUnmatchedUsage(metering_pb.ListUnmatchedUsageRequest())).unmatched_usages
    assert [(each.meter, each.event_count, each.last_position) for each in listed] == [("kwhh", 1, 2)]
    await void(fixing, "b")
    assert not (await metering.ListUnmatchedUsage(metering_pb.ListUnmatchedUsageRequest())).unmatched_usages
    assert await figures(metering) == ("3", 1)
