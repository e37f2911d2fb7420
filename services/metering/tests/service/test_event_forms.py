"""Three forms, one meaning: the same usage events are read, stored and answered alike in each of them."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from common import ids
from common.errors import InvalidArgument
from common.ids import SellerId
from common.testing import SANDBOX_START, Suite
from metering.convert.ingest import sent_from_proto
from metering.convert.sent import Clock, Sent
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from services.metering.tests.service.test_bad_events import BAD, FORMS, GOOD, INT64_MAX, NOW, YEAR_1, YEAR_9999, Event

SELLER: Final = SellerId("sel_01h455vb4pex5vsknk084sn02q")

texts = st.one_of(
    st.sampled_from(["a", "b", "c-1", "", " a", "a ", "x" * 128, "x" * 129, "é" * 128, "é" * 129, "𝄞", "a\0", "\x7f"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)
moments = st.one_of(
    st.integers(NOW - 10**12, NOW + 10**10),
    st.sampled_from([0, 1, -1, -(2**63), INT64_MAX, YEAR_1, YEAR_9999, NOW + 86_400_000_000, NOW + 86_400_000_001]),
)
names = st.one_of(st.sampled_from(["region", "tier", "", "Not A Name", "a" * 64, "a" * 65]), texts)
dimensions = st.one_of(
    st.just({}),
    st.dictionaries(names, texts, max_size=3),
    st.integers(15, 18).map(lambda count: {f"d{n}": "x" for n in range(count)}),
).map(lambda each: tuple(sorted(each.items())))
sent_events = st.builds(
    Event,
    id=texts,
    source=texts,
    customer=texts,
    meter=st.one_of(st.sampled_from(["kwh", "gas"]), texts),
    micros=moments,
    units=st.one_of(st.integers(-100, 100), st.integers(-(2**63), INT64_MAX)),
    dimensions=dimensions,
)
batches = st.lists(st.one_of(st.builds(Event, id=texts), sent_events), min_size=1, max_size=8)


@settings(max_examples=300)
@given(batches, st.integers(0, 12))
def test_every_form_is_read_alike(events: list[Event], decimals: int) -> None:
    """The same events are the same ones, of the same values, at fault for the same reason, in whatever form."""
    rows, flat, packed = (_read(form(events, decimals)) for form in FORMS.values())
    assert rows == flat == packed


def _read(request: pb.IngestEventsRequest) -> object:
    """All that a request comes to, in words."""
    clock = Clock(now=SANDBOX_START, ahead_max=timedelta(days=1))
    sent = sent_from_proto(request, seller_id=SELLER, clock=clock, traceparent="")
    return _stored(sent), [(each.place, each.identity, each.sent_id, _told(each.fault)) for each in sent.faulty]


def _told(fault: InvalidArgument) -> tuple[str, str, str]:
    return fault.reason, fault.field, fault.message


def _stored(sent: Sent) -> list[object]:
    batch = sent.batch
    sets: list[object] = [None, *(json.loads(each) for each in batch.dimension_sets)]
    return [
        (
            sent.places[n],
            batch.ids[n],
            batch.strings[batch.sources[n]],
            batch.strings[batch.customers[n]],
            batch.strings[batch.meters[n]],
            int(batch.times[n]),
            batch.wide.get(n, Decimal(int(batch.units[n])).scaleb(-int(batch.decimals[n]))),
            sets[batch.dimensions[n]],
        )
        for n in range(len(batch))
    ]


async def test_every_form_is_answered_alike(suite: Suite, metering: Any) -> None:
    """Through the service and its database: each form for a seller of its own, the same again for all of them."""
    stubs = []
    for _ in FORMS:
        seller = SellerId(ids.mint(ids.SANDBOX, SANDBOX_START))
        stubs.append(suite.stub(MeteringServiceStub, "metering", seller=seller))
        await stubs[-1].CreateMeter(
            pb.CreateMeterRequest(code="kwh", display_name="x", aggregation=meter_pb2.Meter.SUM)
        )
    chance = random.Random(11)
    told: list[pb.IngestEventsResponse] = []
    for _ in range(60):
        events = [_some(chance) for _ in range(chance.randint(1, 12))]
        told = [await stub.IngestEvents(form(events, 3)) for stub, form in zip(stubs, FORMS.values(), strict=True)]
        assert told[0] == told[1] == told[2]
    assert told[0].results


def _some(chance: random.Random) -> Event:
    """Some event, most likely a sound one, and not seldom one that there was."""
    sound = Event(id=f"{chance.randrange(200)}", meter=chance.choice(["kwh", "kwh", "gas"]))
    changes = chance.choice([{}, {}, *(change for change, _ in BAD.values()), *GOOD.values()])
    return replace(sound, **changes)  # type: ignore[arg-type] # fields of an event
