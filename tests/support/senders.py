"""Knows how a sender of usage events goes on until it is answered, and what the log must hold of what it sent."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import asyncpg
import grpc
import grpc.aio

from common import wire
from common.ids import SellerId
from common.period import Period
from saldo.metering.v1 import meter_pb2
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.metering.v1.usage_event_pb2 import EventColumns, EventResult
from tools.client import CHANNEL_OPTIONS, PASSING

METER: Final = "kwh"
CUSTOMERS: Final = 5
CUSTOMER_ID: Final = "cus_01h455vb4pex5vsknk084sn02q"
TIME: Final = datetime(2026, 1, 1, tzinfo=UTC)
BATCH_EVENTS: Final = 100
REPEATS: Final = 10
"""Events of a batch that were answered before."""
WINDOW: Final = 6
"""Batches that a stream has under way."""
GIVE_UP_CHANCE: Final = 0.2
"""Of a batch that was not answered: its sender never sends it again, and cannot know what became of it."""
DEADLINE_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 0.05
CUT_OFF: Final = "Internal error from Core"
"""What gRPC calls it on our side when its connection ends while it writes."""
STORED: Final = frozenset({EventResult.ACCEPTED, EventResult.UNMATCHED})


@dataclass(slots=True)
class Sent:
    """A batch in the journal."""

    first: int
    repeated: int
    """The first of the events that are sent once more with it; -1 for none."""
    tries: int = 0
    try_time: float = 0.0
    """When the last try began, by the clock of the machine."""
    is_answered: bool = False
    is_new: bool = False
    """It was told that they are stored by it, and by none before."""
    is_given_up: bool = False

    def begin_try(self) -> None:
        self.tries += 1
        self.try_time = time.monotonic()


@dataclass(slots=True)
class Sender:
    """Sends batch after batch; one that is not answered is sent again, the same, unless its sender gives up on it."""

    source: str
    stub: Any  # Any: grpc stubs are generated
    token: str
    chance: random.Random
    streams: bool = False
    batches: int = 0
    """How many it sends, and gives up on none; 0: until it is told to stop."""
    is_alone: bool = True
    """Nobody else sends the same."""
    journal: list[Sent] = field(default_factory=list)
    answered_time: float = 0.0
    """When the last try began that was answered."""
    _stopping: bool = False

    def stop(self) -> None:
        """Send nothing new; `run` returns when everything has been answered that was not given up."""
        self._stopping = True

    async def run(self) -> None:
        await (self._run_streams() if self.streams else self._run_calls())

    async def _run_calls(self) -> None:
        while not self._is_over:
            sent = self._next()
            while not sent.is_answered and not sent.is_given_up:
                sent.begin_try()
                try:
                    answer = await self.stub.IngestEvents(
                        self._request(sent), metadata=self._metadata(), timeout=DEADLINE_SECONDS
                    )
                except grpc.aio.AioRpcError as error:
                    await self._failed(error, [sent])
                else:
                    self._check(sent, answer)

    async def _run_streams(self) -> None:
        under_way: deque[Sent] = deque()
        while under_way or not self._is_over:
            call = self.stub.StreamEvents(metadata=self._metadata())
            unsent = deque(under_way)
            try:
                while under_way or not self._is_over:
                    while unsent or (len(under_way) < WINDOW and not self._is_over):
                        if not unsent:
                            under_way.append(self._next())
                        sent = unsent.popleft() if unsent else under_way[-1]
                        sent.begin_try()
                        await call.write(pb.StreamEventsRequest(batch=self._request(sent)))
                    async with asyncio.timeout(DEADLINE_SECONDS):
                        answer = await call.read()
                    if answer is grpc.aio.EOF:
                        break
                    self._check(under_way.popleft(), answer.batch)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError) as error:
                await self._failed(error if isinstance(error, grpc.aio.AioRpcError) else None, list(under_way))
                under_way = deque(each for each in under_way if not each.is_given_up)
            finally:
                call.cancel()

    async def _failed(self, error: grpc.aio.AioRpcError | None, unanswered: Sequence[Sent]) -> None:
        if error is not None and error.code() not in PASSING and error.details() != CUT_OFF:
            raise error
        for each in unanswered:
            # Once all is over nobody gives up: then the journal and the log can be compared.
            each.is_given_up = not self._stopping and not self.batches and self.chance.random() < GIVE_UP_CHANCE
        await asyncio.sleep(PAUSE_SECONDS)

    @property
    def _is_over(self) -> bool:
        return self._stopping or 0 < self.batches <= len(self.journal)

    def _next(self) -> Sent:
        answered = [each for each in self.journal[-200:] if each.is_answered and not self.batches]
        repeated = self.chance.choice(answered).first if answered and self.chance.random() < 0.3 else -1
        sent = Sent(first=len(self.journal) * BATCH_EVENTS, repeated=repeated)
        self.journal.append(sent)
        return sent

    def _request(self, sent: Sent) -> pb.IngestEventsRequest:
        numbers = list(range(sent.first, sent.first + BATCH_EVENTS))
        if sent.repeated >= 0:
            numbers += range(sent.repeated, sent.repeated + REPEATS)
        return pb.IngestEventsRequest(
            columns=EventColumns(
                strings=[self.source, METER, *(customer(n) for n in range(CUSTOMERS))],
                ids="".join(map(event_id, numbers)).encode(),
                id_lengths=[len(event_id(0))],
                sources=[0],
                meters=[1],
                customers=[2 + n % CUSTOMERS for n in numbers],
                times_micros=[_micros(TIME) + n for n in numbers],
                units=[units(n) for n in numbers],
            )
        )

    def _check(self, sent: Sent, answer: pb.IngestEventsResponse) -> None:
        """What one sender sends is new at the first try. Else both is possible, for all of a batch alike."""
        outcomes = [each.outcome for each in answer.results]
        fresh, repeated = set(outcomes[:BATCH_EVENTS]), set(outcomes[BATCH_EVENTS:])
        sent.is_new = fresh <= STORED
        may_be_known = sent.tries > 1 or not self.is_alone
        assert sent.is_new or (may_be_known and fresh == {EventResult.DUPLICATE}), (self.source, sent, fresh)
        assert repeated == ({EventResult.DUPLICATE} if sent.repeated >= 0 else set()), (self.source, sent, repeated)
        sent.is_answered = True
        self.answered_time = sent.try_time

    def _metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.token}")]


async def prepare(address: str, token: str) -> None:
    """Create the meter that the senders' events name."""
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        await MeteringServiceStub(channel).CreateMeter(
            pb.CreateMeterRequest(code=METER, display_name=METER, aggregation=meter_pb2.Meter.SUM, request_id="meter"),
            metadata=[("authorization", f"Bearer {token}")],
            timeout=DEADLINE_SECONDS,
        )


async def verify(
    stub: Any,  # Any: as above
    token: str,
    *,
    database_url: str,
    seller_id: SellerId,
    journals: Mapping[str, Sequence[Sequence[Sent]]],
) -> int:
    """Journals = log = what is counted; how many usage events that is. `journals` are by source: of one that was sent
    several times each sender has its own."""
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT set_config('saldo.seller', $1, false)", seller_id)
        rows = await connection.fetch("SELECT source, event_id, customer, value, position FROM usage_events")
    finally:
        await connection.close()
    assert sorted(row["position"] for row in rows) == [*range(1, 1 + len(rows))]
    stored: dict[str, set[int]] = {source: set() for source in journals}
    sums: dict[str, Decimal] = {customer(n): Decimal(0) for n in range(CUSTOMERS)}
    counts = dict.fromkeys(sums, 0)
    for row in rows:
        number = int(row["event_id"])
        assert number not in stored[row["source"]], f"{row['source']} {row['event_id']} is stored twice"
        stored[row["source"]].add(number)
        assert (row["customer"], row["value"]) == (customer(number), units(number))
        sums[row["customer"]] += row["value"]
        counts[row["customer"]] += 1
    for source, found in stored.items():
        answered = {sent.first for journal in journals[source] for sent in journal if sent.is_answered}
        given_up = {sent.first for journal in journals[source] for sent in journal if sent.is_given_up} - answered
        assert answered
        for first in answered | given_up:
            batch = range(first, first + BATCH_EVENTS)
            # All of a batch or nothing of it; nobody was told of one that was given up.
            there = sum(number in found for number in batch)
            assert there == BATCH_EVENTS or (first in given_up and not there), (source, first, there)
            found.difference_update(batch)
        assert not found, f"{source} never sent {sorted(found)[:5]}"
    for name, total in sums.items():
        query = pb.UsageQuery(
            customer_id=CUSTOMER_ID,
            external_id=name,
            meter=METER,
            period=wire.interval(Period(TIME, TIME + timedelta(days=1))),
        )
        usage = await stub.QueryUsage(
            pb.QueryUsageRequest(query=query),
            metadata=[("authorization", f"Bearer {token}")],
            timeout=DEADLINE_SECONDS * 3,
        )
        assert (Decimal(usage.quantity.value), usage.event_count) == (total, counts[name])
        assert usage.through_position == len(rows)
    return len(rows)


def event_id(number: int) -> str:
    return f"{number:010}"


def customer(number: int) -> str:
    return f"customer-{number % CUSTOMERS}"


def units(number: int) -> int:
    return 1 + number % 9


def _micros(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
