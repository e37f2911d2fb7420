"""Usage events that are plainly right are read a column at a time: they come to what they do one by one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type import decimal_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from common.ids import SellerId
from metering.convert.ingest import sent_from_proto
from metering.convert.sent import Clock, Sent
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.usage_event_pb2 import FlatEvent, UsageEvent

NOW: Final = datetime(2026, 1, 31, tzinfo=UTC)
CLOCK: Final = Clock(now=NOW, ahead_max=timedelta(hours=1))
SELLER: Final = SellerId("sel_01h455vb4pex5vsknk084sn02q")
SECONDS: Final = int(NOW.timestamp())

NAMES: Final = st.sampled_from(["a", "b-1", "ü", "a b", "x" * 255, "x" * 256, " a", "", "a\x00", "\u200b"])
KEYS: Final = st.one_of(st.text(alphabet="abcdef-", min_size=1, max_size=9), NAMES)
CODES: Final = st.sampled_from(["calls", "bytes", "calls", "bytes", "No", ""])
ODD_NUMBERS: Final = (
    *("0", "-0", "-0.50", "007", "1.", ".5", "-.5", "1-2", "--1", "1-", "1.2.3", "+1", "1_000", "1e3", "NaN", "٣", ""),
    *(" 1", "1\n2", "9" * 18, "9" * 19, "-" + "9" * 18, "9" * 25, "0." + "1" * 12, "0." + "1" * 13, "1234567.8"),
)
NUMBERS: Final = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-9_999, max_value=9_999).map(str),
    st.integers(-(10**18), 10**18).map(str),
)
DIMENSIONS: Final = st.dictionaries(
    st.sampled_from(["zone", "size", "A"]), st.sampled_from(["x", "y", "ü", "\x00"]), max_size=3
)
TIMES: Final = st.sampled_from(
    [SECONDS, SECONDS - 7, SECONDS - 10**6, SECONDS + 3_599, SECONDS + 3_601, 0, -1, 1 << 40]
)
"""In seconds, about now."""


def made(chosen: dict[str, Any], event: Any) -> Any:  # Any: a row or a flat event, which name alike what they share
    for name in ("id", "source", "customer", "meter"):
        setattr(event, name, chosen[name])
    return event


PLAIN: Final[dict[str, st.SearchStrategy[Any]]] = {
    "id": st.text(alphabet="abcü-", min_size=1, max_size=9),
    "source": st.sampled_from(["s1", "s2"]),
    "customer": st.sampled_from(["c1", "c2", "ç"]),
    "meter": st.sampled_from(["calls", "bytes"]),
    "seconds": st.integers(SECONDS - 10**6, SECONDS),
    "nanos": st.sampled_from([0, 1_000, 999_999_999]),
    "value": st.sampled_from([None, "1", "20", "-3", "0.5", "-12.345", "0", "999999"]),
    "units": st.none() | st.integers(-(2**63), 2**63 - 1),
    "decimal_places": st.integers(0, 12),
    "dimensions": st.sampled_from([{}, {}, {"zone": "x", "size": "y"}, {"zone": "y"}]),
    "rest": st.just([]),
}
ODD: Final[dict[str, st.SearchStrategy[Any]]] = {
    **dict.fromkeys(("id", "source", "customer"), KEYS),
    "meter": CODES,
    "seconds": TIMES,
    "nanos": st.sampled_from([-1, 1_000_000_000]),
    "value": NUMBERS,
    "decimal_places": st.integers(13, 2**32 - 1),
    "dimensions": DIMENSIONS,
    "rest": st.sampled_from([["zone"], ["zone", "x"]]),
}


@st.composite
def chosen(draw: st.DrawFn) -> dict[str, Any]:
    """An event in which one thing may be odd: of a batch with more of that nothing is read by columns."""
    odd = draw(st.sampled_from([None, None, None, *ODD]))
    return {name: draw(ODD[name] if name == odd else plain) for name, plain in PLAIN.items()}


def row(told: dict[str, Any]) -> UsageEvent:
    event: UsageEvent = made(told, UsageEvent())
    event.time.CopyFrom(Timestamp(seconds=told["seconds"], nanos=told["nanos"]))
    if told["value"] is not None:
        event.value.CopyFrom(decimal_pb2.Decimal(value=told["value"]))
    event.dimensions.update(told["dimensions"])
    return event


def flat(told: dict[str, Any]) -> FlatEvent:
    event: FlatEvent = made(told, FlatEvent())
    event.time_micros = told["seconds"] * 1_000_000
    if told["units"] is not None:
        event.units = told["units"]
    event.decimal_places = told["decimal_places"]
    event.dimensions.extend([text for pair in told["dimensions"].items() for text in pair] + told["rest"])
    return event


BATCHES: Final = st.lists(chosen(), min_size=1, max_size=3)


def outcome(sent: Sent) -> dict[int, object]:
    """By place: what of it is stored, or what is wrong with it."""
    batch = sent.batch
    found: dict[int, object] = {}
    for nth, place in enumerate(sent.places):
        value = batch.wide.get(nth, Decimal(int(batch.units[nth])).scaleb(-int(batch.decimals[nth])))
        told = int(batch.dimensions[nth])
        found[place] = (
            batch.ids[nth],
            *(batch.strings[column[nth]] for column in (batch.sources, batch.customers, batch.meters)),
            int(batch.times[nth]),
            value,
            batch.dimension_sets[told - 1] if told else None,
        )
    for each in sent.faulty:
        found[each.place] = (each.sent_id, each.identity, each.fault.field, str(each.fault))
    return found


def read(request: pb.IngestEventsRequest) -> dict[int, object]:
    return outcome(sent_from_proto(request, seller_id=SELLER, clock=CLOCK, traceparent=""))


@pytest.mark.parametrize("number", ODD_NUMBERS)
def test_numbers_come_to_the_same(number: str) -> None:
    """However they are written."""
    event = UsageEvent(id="1", source="s", customer="c", meter="calls", time=Timestamp(seconds=SECONDS))
    event.value.value = number
    one_by_one = read(pb.IngestEventsRequest(events=[event, UsageEvent()]))
    assert one_by_one.pop(1) is not None
    assert read(pb.IngestEventsRequest(events=[event])) == one_by_one


@given(BATCHES)
@settings(max_examples=300)
def test_rows_come_to_the_same(batch: list[dict[str, Any]]) -> None:
    """A faulty event at the end has all of them looked at one by one."""
    events = [row(each) for each in batch]
    together = read(pb.IngestEventsRequest(events=events))
    one_by_one = read(pb.IngestEventsRequest(events=[*events, UsageEvent()]))
    assert one_by_one.pop(len(events)) is not None
    assert together == one_by_one


@given(BATCHES)
@settings(max_examples=300)
def test_flat_events_come_to_the_same(batch: list[dict[str, Any]]) -> None:
    """As above."""
    events = [flat(each) for each in batch]
    together = read(pb.IngestEventsRequest(flat_events=events))
    one_by_one = read(pb.IngestEventsRequest(flat_events=[*events, FlatEvent()]))
    assert one_by_one.pop(len(events)) is not None
    assert together == one_by_one
