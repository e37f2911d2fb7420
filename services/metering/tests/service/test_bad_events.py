"""Whatever is wrong with usage events: each is told what, the rest is stored, and the service is none the worse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import grpc
import grpc.aio
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal as DecimalPb

from common.rpc import error_info
from common.testing import SANDBOX_START, Suite
from metering.domain.usage_event import QUOTA_SOURCE
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.usage_event_pb2 import DimensionSet, EventColumns, EventResult, FlatEvent, UsageEvent

ACCEPTED, DUPLICATE, REJECTED = EventResult.ACCEPTED, EventResult.DUPLICATE, EventResult.REJECTED
MICROSECOND: Final = timedelta(microseconds=1)
NOW: Final = (SANDBOX_START - datetime(1970, 1, 1, tzinfo=UTC)) // MICROSECOND
YEAR_1: Final = -62_135_596_800_000_000
YEAR_9999: Final = 253_402_300_799_000_000
INT64_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A usage event that every form can say."""

    id: str
    source: str = "s"
    customer: str = "c"
    meter: str = "kwh"
    micros: int = NOW
    units: int = 1
    dimensions: tuple[tuple[str, str], ...] = ()


Form = Callable[[Sequence[Event], int], pb.IngestEventsRequest]


def in_rows(events: Sequence[Event], decimals: int = 0) -> pb.IngestEventsRequest:
    return pb.IngestEventsRequest(
        events=[
            UsageEvent(
                id=each.id,
                source=each.source,
                customer=each.customer,
                meter=each.meter,
                time=Timestamp(seconds=each.micros // 1_000_000, nanos=each.micros % 1_000_000 * 1_000),
                value=DecimalPb(value=f"{Decimal(each.units).scaleb(-decimals):f}"),
                dimensions=dict(each.dimensions),
            )
            for each in events
        ]
    )


def in_flat(events: Sequence[Event], decimals: int = 0) -> pb.IngestEventsRequest:
    return pb.IngestEventsRequest(
        flat_events=[
            FlatEvent(
                id=each.id,
                source=each.source,
                customer=each.customer,
                meter=each.meter,
                time_micros=each.micros,
                units=each.units,
                decimal_places=decimals,
                dimensions=[text for pair in each.dimensions for text in pair],
            )
            for each in events
        ]
    )


def in_columns(events: Sequence[Event], decimals: int = 0) -> pb.IngestEventsRequest:
    strings = sorted({text for each in events for text in (each.source, each.customer, each.meter)}, reverse=True)
    sets = sorted({each.dimensions for each in events if each.dimensions})
    return pb.IngestEventsRequest(
        columns=EventColumns(
            strings=strings,
            ids="".join(each.id for each in events).encode(),
            id_lengths=[len(each.id.encode()) for each in events],
            sources=[strings.index(each.source) for each in events],
            customers=[strings.index(each.customer) for each in events],
            meters=[strings.index(each.meter) for each in events],
            times_micros=[each.micros for each in events],
            units=[each.units for each in events],
            decimal_places=decimals,
            dimension_sets=[DimensionSet(dimensions=dict(each)) for each in sets],
            dimensions=[1 + sets.index(each.dimensions) if each.dimensions else 0 for each in events],
        )
    )


FORMS: Final[Mapping[str, Form]] = {"rows": in_rows, "flat": in_flat, "columns": in_columns}


async def answered(metering: Any, request: pb.IngestEventsRequest) -> list[tuple[Any, str, str]]:  # Any: of grpc
    """Outcome, reason and field of each event; the same by a call and by a stream but for the repetition."""
    first = await metering.IngestEvents(request)
    call = metering.StreamEvents()
    await call.write(pb.StreamEventsRequest(batch=request))
    await call.done_writing()
    [again] = [each.batch async for each in call]
    for one, other in zip(first.results, again.results, strict=True):
        known = other.outcome == DUPLICATE and one.outcome in (ACCEPTED, DUPLICATE)
        assert known or (other.outcome, other.reason, other.field) == (one.outcome, one.reason, one.field)
    assert [each.index for each in first.results] == list(range(len(first.results)))
    return [(each.outcome, each.reason, each.field) for each in first.results]


async def refusal_of(call: Any) -> tuple[str, str]:  # Any: of grpc
    """The status and the reason that a call is refused with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        info = error_info(error)
        return error.code().name, info.reason if info else ""
    raise AssertionError("was not refused")


# What each form can say


BAD: Final = {
    "an empty id": ({"id": ""}, "id"),
    "an id of 64 KB": ({"id": "x" * 65_536}, "id"),
    "an id of 129 characters": ({"id": "é" * 129}, "id"),
    "a zero byte": ({"id": "a\0b"}, "id"),
    "a line feed": ({"id": "a\nb"}, "id"),
    "a separator of lines": ({"id": "a\u2028b"}, "id"),
    "a space before": ({"id": " a"}, "id"),
    "a wide space behind": ({"id": "a\u3000"}, "id"),
    "no source": ({"source": ""}, "source"),
    "a source of 64 KB": ({"source": "x" * 65_536}, "source"),
    "the source of commits of quota": ({"source": QUOTA_SOURCE}, "source"),
    "no customer": ({"customer": ""}, "customer"),
    "a customer with an escape": ({"customer": "\x1b[31m"}, "customer"),
    "no meter": ({"meter": ""}, "meter"),
    "a meter in capitals": ({"meter": "KWH"}, "meter"),
    "a meter of 64 KB": ({"meter": "x" * 65_536}, "meter"),
    "a meter in other digits": ({"meter": "٣"}, "meter"),
    "no time": ({"micros": 0}, "time"),
    "before 1970": ({"micros": -1}, "time"),
    "in two days": ({"micros": NOW + 2 * 86_400_000_000}, "time"),
    "the year 1": ({"micros": YEAR_1}, "time"),
    "the year 9999": ({"micros": YEAR_9999}, "time"),
    "the first of all times": ({"micros": -(2**63)}, "time"),
    "the last of all times": ({"micros": INT64_MAX}, "time"),
    "17 dimensions": ({"dimensions": tuple((f"d{n}", "x") for n in range(17))}, "dimensions"),
    "a dimension without a name": ({"dimensions": (("", "x"),)}, "dimensions"),
    "a dimension without a value": ({"dimensions": (("region", ""),)}, "dimensions"),
    "a dimension of 64 KB": ({"dimensions": (("region", "x" * 65_536),)}, "dimensions"),
    "a zero byte in a dimension": ({"dimensions": (("region", "a\0"),)}, "dimensions"),
}
GOOD: Final = {
    "an id of 128 wide characters": {"id": "𝄞" * 128},
    "an id in many scripts": {"id": "ä-中-ع-🙂"},
    "an id that is no character": {"id": "\ufffe"},
    "the first microsecond": {"micros": 1},
    "the greatest value": {"units": INT64_MAX},
    "the least value": {"units": -(2**63)},
    "a negative value": {"units": -1},
    "a customer called like the reserved source": {"customer": QUOTA_SOURCE},
    "a source that is nearly the reserved one": {"source": f"{QUOTA_SOURCE}s"},
    "16 dimensions": {"dimensions": tuple((f"d{n}", "x" * 128) for n in range(16))},
    "quotes in a dimension": {"dimensions": (("region", '"\\u0000'),)},
}


@pytest.mark.parametrize("form", FORMS)
async def test_a_bad_event_is_told_and_the_others_are_stored(
    metering: Any,
    kwh: meter_pb2.Meter,
    form: str,  # Any: grpc stubs are generated
) -> None:
    """One batch of everything that can be wrong, with a good one after each."""
    bad = [replace(Event(id=f"bad {n}"), **change) for n, (change, _) in enumerate(BAD.values())]  # type: ignore[arg-type] # fields of an event
    good = [replace(Event(id=f"good {n}"), **change) for n, change in enumerate(GOOD.values())]  # type: ignore[arg-type] # as above
    events = [
        each
        for pair in zip(bad, [*good, *(Event(id=f"more {n}") for n in range(len(bad)))], strict=False)
        for each in pair
    ]
    told = await answered(metering, FORMS[form](events, 0))
    expected = {name: (REJECTED, field) for name, (_, field) in BAD.items()}
    found = {name: (outcome, field) for name, (outcome, _, field) in zip(BAD, told[::2], strict=True)}
    assert found == expected
    assert {outcome for outcome, *_ in told[1::2]} == {ACCEPTED}
    assert {reason for outcome, reason, _ in told if outcome == REJECTED} == {
        "INVALID_ARGUMENT",
        "EVENT_IN_FUTURE",
        "SOURCE_RESERVED",
    }


VALUES: Final = {
    **dict.fromkeys(("NaN", "nan", "-NaN", "sNaN", "Infinity", "inf", "-Infinity", "1e999999999", "9" * 10_000), False),
    **dict.fromkeys(("1e30", "1E+26", "1" + "0" * 30, "-1" + "0" * 26, "0.0000000000001", "1e-13", "1e-999"), False),
    **dict.fromkeys(("", " ", "1 ", "1_000", "1,5", "0x10", "٣", "12abc", "--1", "+-1", ".", "e1", "1\0"), False),
    **dict.fromkeys(("9" * 26, "-" + "9" * 26, "9" * 26 + "." + "9" * 12, "-" + "9" * 26 + "." + "9" * 12), True),
    **dict.fromkeys(("-0", "-0.0", "-0e0", "+5", ".5", "5.", "1e25", "1e-12", "000000000000000000000000001"), True),
}
"""And whether they are numbers that can be stored."""


async def test_every_value_is_a_number_or_refused(suite: Suite, metering: Any, kwh: meter_pb2.Meter) -> None:
    """Neither infinities nor what is not a number, nor one that would have to be cut off; and none of them counts."""
    events = in_rows([Event(id=f"{n}") for n in range(len(VALUES))], 0).events
    for event, value in zip(events, VALUES, strict=True):
        event.value.value = value
    told = await answered(metering, pb.IngestEventsRequest(events=events))
    assert {value: outcome for value, (outcome, *_) in zip(VALUES, told, strict=True)} == {
        value: ACCEPTED if stored else REJECTED for value, stored in VALUES.items()
    }
    assert {field for outcome, _, field in told if outcome == REJECTED} == {"value"}
    numbers = [Decimal(value) for value, stored in VALUES.items() if stored]
    query = pb.UsageQuery(customer_id="cus_01h455vb4pex5vsknk084sn02q", external_id="c", meter="kwh", with_values=True)
    query.period.start_time.FromDatetime(SANDBOX_START - timedelta(days=1))
    query.period.end_time.FromDatetime(SANDBOX_START + timedelta(days=1))
    found = (await metering.QueryUsage(pb.QueryUsageRequest(query=query))).values
    assert sorted(Decimal(each.value) for each in found) == sorted(numbers)


async def test_a_time_is_an_instant_whatever_zone_it_was_written_in(metering: Any, kwh: meter_pb2.Meter) -> None:
    """In JSON it may be; what is not a time at all is refused where it is read."""
    written = ("2026-01-01T02:00:00+02:00", "2025-12-31T16:30:00-07:30", "2026-01-01T00:00:00.000000Z")
    events = [
        ParseDict({"id": f"{n}", "source": "s", "customer": "c", "meter": "kwh", "time": time}, UsageEvent())
        for n, time in enumerate(written)
    ]
    assert len({each.time.ToMicroseconds() for each in events}) == 1
    broken = [Timestamp(seconds=1, nanos=-1), Timestamp(seconds=1, nanos=2_000_000_000), Timestamp(seconds=INT64_MAX)]
    events += [UsageEvent(id=f"{n}", source="t", customer="c", meter="kwh", time=time) for n, time in enumerate(broken)]
    told = await answered(metering, pb.IngestEventsRequest(events=events))
    assert [(outcome, field) for outcome, _, field in told] == [(ACCEPTED, "")] * 3 + [(REJECTED, "time")] * 3


async def test_what_only_flat_events_can_say(metering: Any, kwh: meter_pb2.Meter) -> None:
    """A list of texts is not a map, and a scale can be anything."""
    sound = in_flat([Event(id="x")], 0).flat_events[0]
    events = []
    for n, change in enumerate(
        (
            {"dimensions": ["region"]},
            {"dimensions": ["region", "eu", "region", "us"]},
            {"dimensions": ["region", "eu"] * 17},
            {"decimal_places": 13},
            {"decimal_places": 2**32 - 1},
            {"decimal_places": 12, "units": -(2**63)},
        )
    ):
        event = FlatEvent()
        event.CopyFrom(sound)
        event.id = f"{n}"
        event.MergeFrom(FlatEvent(**change))  # type: ignore[arg-type] # fields of an event
        events.append(event)
    told = await answered(metering, pb.IngestEventsRequest(flat_events=events))
    assert [field for *_, field in told] == ["dimensions"] * 3 + ["value"] * 2 + [""]


@pytest.mark.parametrize("form", FORMS)
async def test_a_repeat_within_a_batch_is_a_duplicate(metering: Any, kwh: meter_pb2.Meter, form: str) -> None:
    """Also one that says something else, or something that could not be stored: it is known by source and id alone."""
    events = [
        Event(id="a"),
        Event(id="a", units=7, meter="gas"),
        Event(id="a", source="t"),
        Event(id="a", micros=0),
        Event(id="b", micros=0),
        Event(id="b"),
    ]
    told = await metering.IngestEvents(FORMS[form](events, 0))
    # The first b was wrong and the second was stored; whoever looks at the first again finds it there.
    outcomes = [each.outcome for each in told.results]
    assert outcomes == [ACCEPTED, DUPLICATE, ACCEPTED, DUPLICATE, DUPLICATE, ACCEPTED]


# What cannot be read at all


def field(number: int, content: bytes) -> bytes:
    """A field of a message as it is on the wire, of any content."""
    length, varint = len(content), b""
    while length > 127:
        varint += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + varint + bytes([length]) + content


WIRE: Final = {
    "an id that is no UTF-8, in rows": field(1, field(1, b"\xff\xfe")),
    "half a surrogate, in flat events": field(2, field(1, b"\xed\xa0\x80")),
    "a customer that is no UTF-8, in columns": field(3, field(1, b"\xc3\x28")),
    "a message that is cut off": field(1, field(1, b"abc"))[:-1],
    "a message within itself, 200 deep": (lambda raw: [raw := field(3, raw) for _ in range(200)][-1])(b""),
    "no message at all": bytes(range(256)),
}


@pytest.mark.parametrize("what", WIRE)
async def test_what_is_not_a_message_is_refused(suite: Suite, metering: Any, what: str) -> None:
    """As the caller's fault: there are no events to tell anything about."""
    token = suite.keys.token(seller_id=suite.seller)
    metadata = [("authorization", f"Bearer {token}")]
    async with grpc.aio.insecure_channel(suite.addresses["metering"]) as channel:
        service = "/saldo.metering.v1.MeteringService"
        ingest: Any = channel.unary_unary(f"{service}/IngestEvents")  # Any: of bytes, for want of a serializer
        assert await refusal_of(ingest(WIRE[what], metadata=metadata)) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
        stream: Any = channel.stream_stream(f"{service}/StreamEvents")  # Any: as above
        call = stream(metadata=metadata)
        await call.write(WIRE[what])
        assert await refusal_of(call.read()) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")


async def test_an_id_that_is_no_utf_8_spoils_no_columns(metering: Any, kwh: meter_pb2.Meter) -> None:
    """There the ids are bytes, so that each can be told by itself."""
    request = in_columns([Event(id=text) for text in ("aa", "bb", "cc", "dd", "ee")], 0)
    request.columns.ids = b"aa\xff\xfe\xc3\x28\xed\xa0ee"
    told = await answered(metering, request)
    assert [(outcome, name) for outcome, _, name in told] == [
        (ACCEPTED, ""), (REJECTED, "id"), (REJECTED, "id"), (REJECTED, "id"), (ACCEPTED, "")
    ]  # fmt: skip
