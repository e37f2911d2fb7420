"""Knows the way of a fact that comes in: once through the inbox, effects in the same commit, failures never lost.

`HANDLERS` of a service says what it reacts to. Messages are handled in batches, one transaction per seller; when
anything in a batch fails, each message gets a transaction of its own, so that a bad one harms no other.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError, Message
from opentelemetry.trace import SpanKind

from common import outbox
from common.bus import Bus, BusUnavailable, Delivery, StreamSpec, Subscription
from common.caller import EVERY_SELLER, current_caller, service_caller
from common.crash import crashpoint
from common.db import Database, DatabaseUnavailable, Tx
from common.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from common.ids import SellerId, check_seller
from common.pace import Pace
from common.telemetry import Telemetry

BATCH_SIZE: Final = 500
FETCH_SECONDS: Final = 5.0
FAILURES_MAX: Final = 8
RETRY_SECONDS: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
UNAVAILABLE_RETRY_SECONDS: Final = 1.0
LONG_UNAVAILABLE_RETRY_SECONDS: Final = 10.0
SOON_ATTEMPTS: Final = 60
# Safely before the bus stops delivering a message; at these intervals, after more than two hours.
ATTEMPTS_MAX: Final = 900
FAILURES_KEPT: Final = 10_000
ERROR_LENGTH_MAX: Final = 4_000

Handler = Callable[[Tx, Any], Awaitable[None]]  # Any: the event class is the key of the dictionary
Handlers = Mapping[type[Message], Handler]
BatchT = TypeVar("BatchT", bound=Callable[..., Awaitable[None]])


class DeadLetterNotFound(NotFound):
    """There is no such dead letter, or it has been requeued or discarded."""


class DeadLetterUnreadable(FailedPrecondition):
    """The message is not what its subject says; handling it again would not make it so. It can be discarded."""


def batched(handler: BatchT) -> BatchT:
    """Let a handler take the list of all events of its class that arrived together, for effects in one statement."""
    handler.__dict__["batched"] = True
    return handler


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A delivery that could be read."""

    delivery: Delivery
    event_id: str
    seller_id: SellerId
    kind: type[Message]
    event: Message


class Consumers:
    def __init__(self, database: Database, bus: Bus, handlers: Handlers, *, telemetry: Telemetry) -> None:
        self._database = database
        self._bus = bus
        self._handlers = handlers
        self._kinds = {outbox.subject_of(kind): kind for kind in handlers}
        self._telemetry = telemetry
        self._log = telemetry.log
        self._handled = telemetry.meter.create_counter("saldo.events.handled")
        self._dead = telemetry.meter.create_counter("saldo.events.dead_lettered")
        self._subscriptions: dict[str, Subscription] = {}
        # Failures of messages, apart from deliveries: those count also when it was not the message's fault.
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._pace = Pace()

    def stop(self) -> None:
        """Finish the messages in hand, then return from `run`."""
        self._pace.stop()

    async def subscribe(self) -> None:
        """Take this service's places at the streams it listens to, creating what is not there yet."""
        packages = defaultdict(list)
        for kind in self._handlers:
            packages[kind.DESCRIPTOR.file.package].append(outbox.subject_of(kind))
        for package, subjects in sorted(packages.items()):
            stream = outbox.stream_of_package(package)
            await self._bus.ensure_stream(StreamSpec(name=stream, subjects=(f"{package}.>",)))
            self._subscriptions[stream] = await self._bus.subscribe(
                stream, durable=self._database.service, subjects=sorted(subjects)
            )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for stream, subscription in self._subscriptions.items():
                group.create_task(self._listen(subscription), name=f"consumer of {stream}")

    async def close(self) -> None:
        for subscription in self._subscriptions.values():
            await subscription.close()

    async def backlog(self) -> int:
        return sum(await asyncio.gather(*(each.backlog() for each in self._subscriptions.values())))

    async def handle_again(self, dead_letter_id: str) -> None:
        """Handle a message that was given up. Whatever it raises, it stays given up."""
        caller = service_caller(self._database.service, EVERY_SELLER)
        async with self._database.transaction(caller) as tx:
            row = await tx.driver.fetchrow(
                "DELETE FROM dead_letters WHERE id = $1 AND discard_time IS NULL RETURNING seller_id, subject, payload",
                dead_letter_id,
            )
            kind = self._kinds.get(row["subject"]) if row else None
            if row is None or kind is None:
                raise DeadLetterNotFound(f"there is no dead letter {dead_letter_id} to handle", id=dead_letter_id)
            try:
                seller_id, event = check_seller(row["seller_id"]), kind.FromString(row["payload"])
            except (DecodeError, InvalidArgument) as error:
                raise DeadLetterUnreadable(f"dead letter {dead_letter_id} cannot be read: {error}") from error
            own = await tx.for_seller(seller_id)
            fresh = await self._remember(own, [(dead_letter_id, row["seller_id"], row["subject"])])
            if fresh:
                current_caller.set(service_caller(self._database.service, own.seller_id))
                await self._call(self._handlers[kind], own, [event])

    async def _listen(self, subscription: Subscription) -> None:
        while not self._pace.stopping:
            try:
                deliveries = await self._pace.unless_stopped(subscription.fetch(BATCH_SIZE, FETCH_SECONDS))
            except BusUnavailable as error:
                self._log.warning("consumer waits", error=str(error))
                await self._pace.rest(UNAVAILABLE_RETRY_SECONDS)
                continue
            if deliveries:
                await self._handle_patiently(deliveries)

    async def _handle_patiently(self, deliveries: Sequence[Delivery]) -> None:
        """Keep what is in hand while the database is away: handing it back would use up its deliveries."""
        while True:
            try:
                await self.handle(deliveries)
                return
            except DatabaseUnavailable as error:
                self._log.warning("consumer waits", error=str(error))
            await self._pace.rest(UNAVAILABLE_RETRY_SECONDS)
            if self._pace.stopping:
                for delivery in deliveries:
                    await delivery.retry(UNAVAILABLE_RETRY_SECONDS)
                return

    async def handle(self, deliveries: Sequence[Delivery]) -> None:
        """Handle and settle a batch. Fails with DatabaseUnavailable when it has to be handled once more."""
        by_seller: dict[SellerId, list[_Arrival]] = defaultdict(list)
        for delivery in deliveries:
            arrival = await self._read(delivery)
            if arrival is not None:
                by_seller[arrival.seller_id].append(arrival)
        for seller_id, arrivals in by_seller.items():
            await self._handle_seller(seller_id, arrivals)

    async def _read(self, delivery: Delivery) -> _Arrival | None:
        kind = self._kinds.get(delivery.subject)
        if kind is None:
            # A newer publisher knows more than we do.
            await self._acknowledge([delivery])
            return None
        try:
            seller_id = _seller(delivery.headers.get("ce-seller", ""))
            event = kind.FromString(delivery.data)
            event_id = delivery.headers["ce-id"]
        except (DecodeError, InvalidArgument, KeyError) as error:
            await self._give_up(delivery, f"unreadable: {error!r}")
            return None
        return _Arrival(delivery=delivery, event_id=event_id, seller_id=seller_id, kind=kind, event=event)

    async def _handle_seller(self, seller_id: SellerId, arrivals: list[_Arrival]) -> None:
        try:
            await self._handle_together(seller_id, arrivals)
        except DatabaseUnavailable:
            raise
        except Exception as error:  # whatever a handler raises is settled here
            if len(arrivals) == 1:
                await self._failed(arrivals[0], error)
                return
            for arrival in arrivals:
                await self._handle_seller(seller_id, [arrival])
            return
        await self._acknowledge([arrival.delivery for arrival in arrivals])

    async def _handle_together(self, seller_id: SellerId, arrivals: list[_Arrival]) -> None:
        caller = service_caller(self._database.service, seller_id)
        current_caller.set(caller)
        async with self._database.transaction(caller) as tx:
            fresh = await self._remember(tx, [(each.event_id, seller_id, each.delivery.subject) for each in arrivals])
            # A duplicate within the batch has the same id: the first one is the one.
            new: dict[str, _Arrival] = {}
            for arrival in arrivals:
                if arrival.event_id in fresh:
                    new.setdefault(arrival.event_id, arrival)
            for kind, group in groupby(new.values(), key=lambda arrival: arrival.kind):
                await self._handle_run(tx, kind, list(group))
            crashpoint("consumer.before_commit")
        crashpoint("consumer.committed")
        self._handled.add(len(new))

    async def _handle_run(self, tx: Tx, kind: type[Message], arrivals: list[_Arrival]) -> None:
        handler = self._handlers[kind]
        if getattr(handler, "batched", False):
            links = tuple(arrival.delivery.headers.get("traceparent", "") for arrival in arrivals[:8])
            with self._telemetry.span(f"handle {kind.DESCRIPTOR.name}", SpanKind.CONSUMER, links=links):
                await handler(tx, [arrival.event for arrival in arrivals])
            return
        for arrival in arrivals:
            parent = arrival.delivery.headers.get("traceparent", "")
            with self._telemetry.span(
                f"handle {kind.DESCRIPTOR.name}",
                SpanKind.CONSUMER,
                parent=parent,
                attributes={"event.id": arrival.event_id, "seller.id": tx.seller_id},
            ):
                await handler(tx, arrival.event)
                if self._telemetry.verbose:
                    self._log.debug(
                        "message", kind=kind.DESCRIPTOR.name, event_id=arrival.event_id, seller_id=tx.seller_id
                    )

    async def _call(self, handler: Handler, tx: Tx, events: list[Message]) -> None:
        if getattr(handler, "batched", False):
            await handler(tx, events)
        else:
            for event in events:
                await handler(tx, event)

    @staticmethod
    async def _remember(tx: Tx, events: Sequence[tuple[str, str, str]]) -> set[str]:
        """Enter events in the inbox; which of them are new. A concurrent twin waits here for the first to commit."""
        rows = await tx.driver.fetch(
            "INSERT INTO inbox (event_id, seller_id, subject)"
            " SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS t (event_id, seller_id, subject)"
            " ORDER BY event_id ON CONFLICT (event_id) DO NOTHING RETURNING event_id",
            [event[0] for event in events],
            [event[1] for event in events],
            [event[2] for event in events],
        )
        return {row["event_id"] for row in rows}

    async def _failed(self, arrival: _Arrival, error: Exception) -> None:
        delivery = arrival.delivery
        fields: dict[str, object] = {
            "kind": arrival.kind.DESCRIPTOR.name,
            "event_id": arrival.event_id,
            "seller_id": arrival.seller_id,
            "attempt": delivery.attempt,
            "trace_id": delivery.headers.get("traceparent", "")[3:35],
        }
        if isinstance(error, Unavailable) and delivery.attempt < ATTEMPTS_MAX:
            # Not the message's fault.
            self._log.warning("message waits", **fields, error=str(error))
            soon = delivery.attempt < SOON_ATTEMPTS
            await delivery.retry(UNAVAILABLE_RETRY_SECONDS if soon else LONG_UNAVAILABLE_RETRY_SECONDS)
            return
        failures = self._failures.pop(arrival.event_id, 0) + 1
        if failures < FAILURES_MAX and delivery.attempt < ATTEMPTS_MAX:
            self._log.warning("message failed", **fields, failures=failures, error=repr(error)[:ERROR_LENGTH_MAX])
            self._failures[arrival.event_id] = failures
            if len(self._failures) > FAILURES_KEPT:
                self._failures.popitem(last=False)
            await delivery.retry(RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1])
        else:
            self._log.error("message given up", **fields, failures=failures, exc_info=error)
            await self._give_up(delivery, repr(error))

    async def _give_up(self, delivery: Delivery, error: str) -> None:
        async with self._database.transaction(service_caller(self._database.service, EVERY_SELLER)) as tx:
            await tx.driver.execute(
                "INSERT INTO dead_letters (id, seller_id, subject, headers, payload, error, attempts)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO UPDATE"
                " SET error = excluded.error, attempts = excluded.attempts",
                _storable(delivery.headers.get("ce-id") or delivery.id),
                _storable(delivery.headers.get("ce-seller", "")),
                _storable(delivery.subject),
                json.dumps({_storable(key): _storable(value) for key, value in delivery.headers.items()}),
                delivery.data,
                _storable(error[:ERROR_LENGTH_MAX]),
                delivery.attempt,
            )
        self._dead.add(1)
        await self._acknowledge([delivery])

    async def _acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        # A lost acknowledgement costs a redelivery that the inbox recognises.
        for delivery in deliveries:
            try:
                await delivery.ack()
            except BusUnavailable as error:
                self._log.warning("acknowledgement lost", event_id=delivery.id, error=str(error))


@functools.lru_cache(maxsize=10_000)
def _seller(text: str) -> SellerId:
    return check_seller(text)


def _storable(text: str) -> str:
    """PostgreSQL's text takes every character but this one."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
