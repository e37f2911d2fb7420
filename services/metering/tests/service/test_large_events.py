"""What is too much is refused, or told event by event, and takes no more memory and time than is stated."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal as DecimalPb

from common.testing import refused
from metering.convert.columns import DIMENSION_SETS_MAX, STRINGS_MAX
from metering.convert.sent import EVENTS_MAX
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.usage_event_pb2 import DimensionSet, EventColumns, FlatEvent, UsageEvent
from services.metering.tests.service.test_bad_events import (
    ACCEPTED,
    FORMS,
    NOW,
    REJECTED,
    Event,
    in_columns,
    in_flat,
    in_rows,
)

MEMORY_MAX: Final = 250 << 20
"""What one request may take at a time, its own 8 MiB included."""
REMAINING_MAX: Final = 400 << 20
"""What may be left of all of them: allocators keep some of what they once had."""
WORK_SECONDS_MAX: Final = 6.0
"""Of the processor, for one request: of the sender and the service."""


def columns(**changes: Any) -> pb.IngestEventsRequest:  # Any: fields of columns
    """A sound event as columns, but for what is changed."""
    request = in_columns([Event(id="a")], 0)
    for name in changes:
        request.columns.ClearField(name)  # type: ignore[arg-type] # one of its fields
    request.columns.MergeFrom(EventColumns(**changes))
    return request


MILLION: Final = 1_000_000
HUGE: Final[Mapping[str, tuple[Callable[[], pb.IngestEventsRequest], str]]] = {
    "a million of each column": (
        lambda: columns(
            sources=[0] * MILLION, customers=[0] * MILLION, meters=[0] * MILLION, dimensions=[0] * MILLION,
            id_lengths=[1] * MILLION, ids=b"a" * MILLION,
        ),
        "columns",
    ),
    "an id for every byte of a million": (lambda: columns(id_lengths=[1], ids=b"a" * MILLION), "columns"),
    "a dictionary of two million": (lambda: columns(strings=[""] * 2 * MILLION), "columns.strings"),
    "one more than there may be": (lambda: columns(strings=["x"] * (STRINGS_MAX + 1)), "columns.strings"),
    "a million combinations": (lambda: columns(dimension_sets=[DimensionSet()] * MILLION), "columns.dimension_sets"),
    "one combination too many": (
        lambda: columns(dimension_sets=[DimensionSet()] * (DIMENSION_SETS_MAX + 1)),
        "columns.dimension_sets",
    ),
    "ids of four gigabytes": (lambda: columns(id_lengths=[2**32 - 1] * EVENTS_MAX), "columns.ids"),
    "ids that are missing": (lambda: columns(id_lengths=[2]), "columns.ids"),
    "no lengths": (lambda: columns(id_lengths=[]), "columns.id_lengths"),
    "a column too short": (lambda: columns(id_lengths=[1, 0, 0], units=[1, 1]), "columns.units"),
    "places past the end": (lambda: columns(sources=[2**32 - 1]), "columns.sources"),
    "dimensions past the end": (lambda: columns(dimensions=[2**32 - 1]), "columns.dimensions"),
    "a scale past the end": (lambda: columns(decimal_places=2**32 - 1), "columns.decimal_places"),
    "columns of nothing": (lambda: pb.IngestEventsRequest(columns=EventColumns()), "columns"),
    "nothing": (pb.IngestEventsRequest, "events"),
    "a million flat events": (
        lambda: pb.IngestEventsRequest(flat_events=[FlatEvent()] * MILLION), "flat_events"
    ),
    "a million rows": (lambda: pb.IngestEventsRequest(events=[UsageEvent()] * MILLION), "events"),
}  # fmt: skip
LARGE: Final[Mapping[str, tuple[Callable[[], pb.IngestEventsRequest], str]]] = {
    "a million dimensions, flat": (
        lambda: with_good(FlatEvent(id="x", source="s", customer="c", meter="kwh", time_micros=NOW,
                                    dimensions=["a"] * 2 * MILLION)),
        "dimensions",
    ),
    "half a million dimensions in a row": (
        lambda: with_good(UsageEvent(id="x", source="s", customer="c", meter="kwh", time=Timestamp(seconds=1),
                                     dimensions={f"{n:x}": "" for n in range(MILLION // 2)})),
        "dimensions",
    ),
    "half a million dimensions in columns": (
        lambda: columns(
            id_lengths=[1, 1], ids=b"xa", dimensions=[1, 0],
            dimension_sets=[DimensionSet(dimensions={f"{n:x}": "" for n in range(MILLION // 2)})],
        ),
        "dimensions",
    ),
    "an id of seven million": (
        lambda: with_good(FlatEvent(id="x" * 7 * MILLION, source="s", customer="c", meter="kwh", time_micros=NOW)),
        "id",
    ),
    "a value of seven million digits": (
        lambda: with_good(UsageEvent(id="x", source="s", customer="c", meter="kwh", time=Timestamp(seconds=1),
                                     value=DecimalPb(value="9" * 7 * MILLION))),
        "value",
    ),
}  # fmt: skip


def with_good(bad: UsageEvent | FlatEvent) -> pb.IngestEventsRequest:
    """A bad event, and a good one after it."""
    if isinstance(bad, FlatEvent):
        return pb.IngestEventsRequest(flat_events=[bad, *in_flat([Event(id="a")], 0).flat_events])
    return pb.IngestEventsRequest(events=[bad, *in_rows([Event(id="a")], 0).events])


@pytest.mark.parametrize("what", HUGE)
async def test_what_does_not_fit_is_refused_whole(metering: Any, kwh: meter_pb2.Meter, what: str) -> None:
    """Nobody could say which event is at fault. It takes no memory worth the name, and no time."""
    make, expected = HUGE[what]
    request = make()
    with refused("INVALID_ARGUMENT") as refusal:
        async with bounded():
            await metering.IngestEvents(request)
    assert refusal.field == expected
    call = metering.StreamEvents()
    await call.write(pb.StreamEventsRequest(batch=request))
    with refused("INVALID_ARGUMENT") as refusal:
        await call.read()
    assert refusal.field == expected


@pytest.mark.parametrize("what", LARGE)
async def test_one_event_that_is_too_large_is_told(metering: Any, kwh: meter_pb2.Meter, what: str) -> None:
    """However large it is, the one that was sent along with it is stored."""
    make, expected = LARGE[what]
    request = make()
    async with bounded():
        answer = await metering.IngestEvents(request)
    assert [(each.outcome, each.field) for each in answer.results] == [(REJECTED, expected), (ACCEPTED, "")]
    assert len(answer.results[0].id) <= 128


async def test_ten_thousand_bad_events_are_told_one_by_one(metering: Any, kwh: meter_pb2.Meter) -> None:
    """As many as one request may have, each as long as may be: the answer is one that a sender can read."""
    events = [Event(id=f"{n:05}" + "x" * 700) for n in range(EVENTS_MAX)]
    for form in FORMS.values():
        async with bounded():
            answer = await metering.IngestEvents(form(events, 0))
        assert (len(answer.results), answer.rejected_count) == (EVENTS_MAX, EVENTS_MAX)


async def test_nothing_is_left_of_what_was_too_much(metering: Any, kwh: meter_pb2.Meter) -> None:
    """The same again and again: what a request took is given back at once, and not when garbage is next collected."""
    requests = [make() for make, _ in (*HUGE.values(), *LARGE.values())]
    await _send_all(metering, requests)
    gc.collect()
    gc.disable()
    try:
        before = _memory("VmRSS")
        for _ in range(2):
            await _send_all(metering, requests)
        assert _memory("VmRSS") - before < REMAINING_MAX
    finally:
        gc.enable()


async def _send_all(metering: Any, requests: Sequence[pb.IngestEventsRequest]) -> None:  # Any: as above
    for request in requests:
        with suppress(grpc.aio.AioRpcError):
            await metering.IngestEvents(request)


class bounded:  # noqa: N801 # reads as what it is in a `with`
    """The body takes a bounded amount of memory and time, sender and service together: they are one process here."""

    async def __aenter__(self) -> None:
        _begin_high_water_mark()
        self._before = _memory("VmRSS")
        self._begin = time.process_time()

    async def __aexit__(self, *failure: object) -> None:
        seconds, taken = time.process_time() - self._begin, _memory("VmHWM") - self._before
        assert taken < MEMORY_MAX, f"{taken >> 20} MiB"
        assert seconds < WORK_SECONDS_MAX, f"{seconds:.1f} s"


def _begin_high_water_mark() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _memory(name: str) -> int:
    [line] = [each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(f"{name}:")]
    return int(line.split()[1]) << 10
