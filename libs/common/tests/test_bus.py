"""One promise, two implementations: what a service relies on holds in memory as it does on JetStream."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from common.bus import (
    Bus,
    BusUnavailable,
    MemoryBus,
    Message,
    MessageTooLarge,
    StreamSpec,
)
from libs.common.tests.streams import (
    ENOUGH_SECONDS,
    another,
    backlog_becomes,
    delete_stream,
    everything,
    fetch_all,
    ids,
    jetstream_bus,
    subject,
)

OpenBus = Callable[..., Awaitable[Bus]]


@pytest.fixture(params=["memory", "jetstream"])
async def open_bus(request: pytest.FixtureRequest, spec: StreamSpec) -> AsyncIterator[OpenBus]:
    """Each call connects another service to one and the same bus."""
    opened: list[Bus] = []

    async def open_memory(*, ack_wait_seconds: float = 30.0) -> Bus:
        bus = opened[0] if opened else MemoryBus(ack_wait_seconds=ack_wait_seconds)
        opened.append(bus)
        await bus.connect()
        return bus

    async def open_jetstream(*, ack_wait_seconds: float = 30.0) -> Bus:
        bus = jetstream_bus(os.environ["SALDO_NATS_URL"], ack_wait_seconds=ack_wait_seconds)
        opened.append(bus)
        await bus.connect()
        return bus

    yield open_memory if request.param == "memory" else open_jetstream
    for bus in opened:
        await bus.close()
    if request.param == "jetstream":
        await delete_stream(spec)


@pytest.fixture
async def bus(open_bus: OpenBus, spec: StreamSpec) -> Bus:
    bus = await open_bus()
    await bus.ensure_stream(spec)
    return bus


async def test_messages_arrive_as_they_were_published(bus: Bus, spec: StreamSpec) -> None:
    """Consumers decode by subject and headers, so nothing may be added, lost or mangled on the way."""
    message = Message(
        id="evt_0",
        subject=subject(spec, "Happened"),
        headers={"ce-id": "evt_0", "ce-subject": "Zażółć gęślą", "traceparent": "00-ab-cd-01"},
        data=b"\x00\r\n\xff",
    )
    messages = [message, another(spec, 1), another(spec, 2)]
    # Alone and in a batch: they travel differently.
    await bus.publish(spec.name, messages[:1])
    await bus.publish(spec.name, messages[1:])
    deliveries = await fetch_all(await everything(bus, spec), 3)
    for sequence, (expected, delivery) in enumerate(zip(messages, deliveries, strict=True), start=1):
        assert delivery.id == expected.id
        assert delivery.subject == expected.subject
        assert delivery.headers == expected.headers
        assert delivery.data == expected.data
        assert (delivery.sequence, delivery.attempt) == (sequence, 1)


async def test_more_than_a_batch_keeps_its_order(bus: Bus, spec: StreamSpec) -> None:
    """The relay hands over whatever is waiting; order within an aggregate depends on order in the stream."""
    messages = [another(spec, number) for number in range(2_500)]
    await bus.publish(spec.name, messages)
    deliveries = await fetch_all(await everything(bus, spec), len(messages))
    assert ids(deliveries) == [message.id for message in messages]
    assert [delivery.sequence for delivery in deliveries] == list(range(1, 2_501))


async def test_publishing_nothing_is_nothing(bus: Bus, spec: StreamSpec) -> None:
    """A relay that found nothing asks without looking first."""
    await bus.publish(spec.name, [])
    assert await (await everything(bus, spec)).backlog() == 0


@pytest.mark.parametrize("known", ["all", "beginning", "end", "every other", "one"])
async def test_known_messages_are_not_stored_again(bus: Bus, spec: StreamSpec, known: str) -> None:
    """A relay that dies between publishing and forgetting publishes again, and must not stop for ever."""
    messages = [another(spec, number) for number in range(20)]
    chosen = {
        "all": messages,
        "beginning": messages[:7],
        "end": messages[13:],
        "every other": messages[::2],
        "one": messages[10:11],
    }[known]
    await bus.publish(spec.name, chosen)
    await bus.publish(spec.name, messages)
    await bus.publish(spec.name, messages)
    new = [message for message in messages if message not in chosen]
    deliveries = await fetch_all(await everything(bus, spec), len(messages))
    assert ids(deliveries) == [message.id for message in [*chosen, *new]]
    await backlog_becomes(await everything(bus, spec), 0)


async def test_an_id_twice_in_one_batch_is_stored_once(bus: Bus, spec: StreamSpec) -> None:
    """What holds across batches holds within one."""
    first, second = another(spec, 1), another(spec, 2)
    await bus.publish(spec.name, [first, second, first])
    assert ids(await fetch_all(await everything(bus, spec), 2)) == [first.id, second.id]


async def test_a_message_too_large_is_named_and_stops_no_other(bus: Bus, spec: StreamSpec) -> None:
    """The caller sets the named one aside and publishes the rest."""
    small = another(spec, 1)
    large = Message(id="evt_large", subject=small.subject, headers={}, data=bytes(1024 * 1024))
    with pytest.raises(MessageTooLarge) as raised:
        await bus.publish(spec.name, [small, large])
    assert raised.value.message_id == "evt_large"
    await bus.publish(spec.name, [small])
    assert ids(await fetch_all(await everything(bus, spec), 1)) == [small.id]


async def test_many_bytes_are_as_good_as_few(bus: Bus, spec: StreamSpec) -> None:
    """A batch is limited in bytes, too, and a fetch brings what fits."""
    data = os.urandom(700_000)
    messages = [
        Message(id=f"evt_{number}", subject=subject(spec, "Happened"), headers={}, data=data) for number in range(30)
    ]
    await bus.publish(spec.name, messages)
    deliveries = await fetch_all(await everything(bus, spec), len(messages))
    assert ids(deliveries) == [message.id for message in messages]
    assert all(delivery.data == data for delivery in deliveries)


async def test_a_line_break_in_a_header_is_refused(bus: Bus, spec: StreamSpec) -> None:
    """On the wire it would begin another header."""
    message = Message(id="evt_1", subject=subject(spec, "Happened"), headers={"a": "b\r\nNats-Rollup: all"}, data=b"")
    with pytest.raises(ValueError, match="line break"):
        await bus.publish(spec.name, [message])


async def test_a_stream_that_is_not_there_stores_nothing(bus: Bus, spec: StreamSpec) -> None:
    """Silence would lose the message: the relay must go on trying."""
    missing = f"TEST_{uuid.uuid4().hex}"
    with pytest.raises(BusUnavailable):
        await bus.publish(missing, [Message(id="evt_1", subject=f"{missing}.x", headers={}, data=b"")])
    with pytest.raises(BusUnavailable):
        await bus.subscribe(missing, durable="reader", subjects=[f"{missing}.>"])


async def test_every_durable_gets_everything(bus: Bus, spec: StreamSpec) -> None:
    """Payments and dunning both hear of an invoice, and also what happened before they came."""
    early = await everything(bus, spec, durable="payments")
    messages = [another(spec, number) for number in range(10)]
    await bus.publish(spec.name, messages)
    late = await everything(bus, spec, durable="dunning")
    for reader in (early, late):
        assert ids(await fetch_all(reader, 10)) == [message.id for message in messages]


async def test_a_durable_gets_only_its_subjects(bus: Bus, spec: StreamSpec) -> None:
    """A service is not woken by what it has no handler for."""
    await bus.publish(
        spec.name,
        [another(spec, 1, "a.Opened"), another(spec, 2, "a.Closed"), another(spec, 3, "b.Opened")],
    )
    by_name = await bus.subscribe(spec.name, durable="name", subjects=[subject(spec, "a.Closed")])
    by_token = await bus.subscribe(spec.name, durable="token", subjects=[subject(spec, "*.Opened")])
    by_rest = await bus.subscribe(spec.name, durable="rest", subjects=[subject(spec, "b.>"), subject(spec, "a.Opened")])
    assert ids(await fetch_all(by_name, 1)) == ["evt_2"]
    assert ids(await fetch_all(by_token, 2)) == ["evt_1", "evt_3"]
    assert ids(await fetch_all(by_rest, 2)) == ["evt_1", "evt_3"]
    for reader in (by_name, by_token, by_rest):
        await backlog_becomes(reader, 0)


async def test_subjects_change_with_the_next_subscription(bus: Bus, spec: StreamSpec) -> None:
    """A new version of a service handles another event; its durable keeps its place."""
    await bus.subscribe(spec.name, durable="reader", subjects=[subject(spec, "Opened")])
    await bus.publish(spec.name, [another(spec, 1, "Opened")])
    reader = await bus.subscribe(
        spec.name, durable="reader", subjects=[subject(spec, "Opened"), subject(spec, "Closed")]
    )
    await bus.publish(spec.name, [another(spec, 2, "Closed"), another(spec, 3, "Opened")])
    assert ids(await fetch_all(reader, 3)) == ["evt_1", "evt_2", "evt_3"]
    reader = await bus.subscribe(spec.name, durable="reader", subjects=[subject(spec, "Closed")])
    await bus.publish(spec.name, [another(spec, 4, "Opened"), another(spec, 5, "Closed")])
    assert ids(await fetch_all(reader, 1)) == ["evt_5"]


async def test_readers_of_one_durable_share_its_messages(open_bus: OpenBus, spec: StreamSpec) -> None:
    """Two replicas of a service do the work once."""
    buses = [await open_bus(), await open_bus()]
    await buses[0].ensure_stream(spec)
    readers = [await everything(bus, spec) for bus in buses]
    await buses[0].publish(spec.name, [another(spec, number) for number in range(200)])
    got: list[list[str]] = [[], []]
    while sum(map(len, got)) < 200:
        for reader, mine in zip(readers, got, strict=True):
            for delivery in await reader.fetch(10, 1.0):
                await delivery.ack()
                mine.append(delivery.id)
    assert all(got)
    assert not set(got[0]) & set(got[1])
    assert set(got[0]) | set(got[1]) == {f"evt_{number}" for number in range(200)}


async def test_a_fetch_brings_what_there_is(bus: Bus, spec: StreamSpec) -> None:
    """Waiting for a full batch would delay the few messages of a quiet day."""
    await bus.publish(spec.name, [another(spec, number) for number in range(3)])
    reader = await everything(bus, spec)
    async with asyncio.timeout(ENOUGH_SECONDS):
        assert len(await reader.fetch(2, 60.0)) == 2
        assert len(await reader.fetch(100, 60.0)) == 1


async def test_a_fetch_waits_for_the_first_message(bus: Bus, spec: StreamSpec) -> None:
    """And not for a full batch: an event takes effect as soon as it is there."""
    reader = await everything(bus, spec)
    waiting = asyncio.create_task(reader.fetch(100, 60.0))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await bus.publish(spec.name, [another(spec, 1)])
    async with asyncio.timeout(ENOUGH_SECONDS):
        assert ids(await waiting) == ["evt_1"]


@pytest.mark.parametrize("timeout_seconds", [0.0, 0.3])
async def test_a_fetch_of_nothing_ends_in_time(bus: Bus, spec: StreamSpec, timeout_seconds: float) -> None:
    """Whoever listens also has to notice that it should stop."""
    reader = await everything(bus, spec)
    async with asyncio.timeout(timeout_seconds + ENOUGH_SECONDS / 4):
        assert await reader.fetch(100, timeout_seconds) == []


async def test_a_cancelled_fetch_loses_nothing(bus: Bus, spec: StreamSpec) -> None:
    """A service drains by cancelling the wait; what arrives just then must not wait for half a minute."""
    reader = await everything(bus, spec)
    waiting = asyncio.create_task(reader.fetch(100, 60.0))
    await asyncio.sleep(0.2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await bus.publish(spec.name, [another(spec, number) for number in range(5)])
    assert sorted(ids(await fetch_all(reader, 5))) == [f"evt_{number}" for number in range(5)]


async def test_what_is_not_acknowledged_comes_again(open_bus: OpenBus, spec: StreamSpec) -> None:
    """A consumer that dies over a message leaves it to the next one."""
    bus = await open_bus(ack_wait_seconds=0.5)
    await bus.ensure_stream(spec)
    reader = await everything(bus, spec)
    await bus.publish(spec.name, [another(spec, 1), another(spec, 2)])
    first, second = await fetch_all(reader, 2, ack=False)
    await second.ack()
    (again,) = await fetch_all(reader, 1, ack=False)
    assert (again.id, again.sequence, again.attempt) == (first.id, first.sequence, 2)
    (again,) = await fetch_all(reader, 1)
    assert (again.id, again.sequence, again.attempt) == (first.id, first.sequence, 3)
    assert await reader.fetch(10, 1.0) == []


async def test_working_puts_off_the_redelivery(open_bus: OpenBus, spec: StreamSpec) -> None:
    """A slow consumer that says so is not overtaken by its own message."""
    bus = await open_bus(ack_wait_seconds=1.5)
    await bus.ensure_stream(spec)
    reader = await everything(bus, spec)
    await bus.publish(spec.name, [another(spec, 1)])
    (delivery,) = await fetch_all(reader, 1, ack=False)
    for _ in range(4):
        assert await reader.fetch(1, 0.5) == []
        await delivery.working()
    await delivery.ack()
    await backlog_becomes(reader, 0)


async def test_a_retry_comes_after_its_delay(bus: Bus, spec: StreamSpec) -> None:
    """Back-off is the consumer's decision, and others do not wait for it."""
    reader = await everything(bus, spec)
    await bus.publish(spec.name, [another(spec, 1), another(spec, 2)])
    first, second = await fetch_all(reader, 2, ack=False)
    loop = asyncio.get_running_loop()
    retry_time = loop.time()
    await first.retry(0.6)
    await second.retry(0.0)
    (again,) = await fetch_all(reader, 1)
    assert (again.id, again.attempt) == ("evt_2", 2)
    assert loop.time() - retry_time < 0.6
    (again,) = await fetch_all(reader, 1)
    assert (again.id, again.attempt) == ("evt_1", 2)
    assert loop.time() - retry_time >= 0.55


async def test_a_terminated_message_never_comes_again(open_bus: OpenBus, spec: StreamSpec) -> None:
    """It is among the dead letters; another delivery would put it there twice."""
    bus = await open_bus(ack_wait_seconds=0.5)
    await bus.ensure_stream(spec)
    reader = await everything(bus, spec)
    await bus.publish(spec.name, [another(spec, 1)])
    (delivery,) = await fetch_all(reader, 1, ack=False)
    await delivery.terminate("cannot be\nunderstood")
    assert await reader.fetch(1, 1.2) == []
    await backlog_becomes(reader, 0)


async def test_the_backlog_counts_until_acknowledged(bus: Bus, spec: StreamSpec) -> None:
    """Time travel waits for quiet, and quiet means handled, not delivered."""
    reader = await everything(bus, spec)
    assert await reader.backlog() == 0
    await bus.publish(spec.name, [another(spec, number) for number in range(10)])
    # The server counts a moment after it has answered.
    await backlog_becomes(reader, 10)
    deliveries = await fetch_all(reader, 4, ack=False)
    assert await reader.backlog() == 10
    for delivery in deliveries:
        await delivery.ack()
    await backlog_becomes(reader, 6)
    (delivery,) = await fetch_all(reader, 1, ack=False)
    await delivery.retry(0.3)
    await backlog_becomes(reader, 6)
    await fetch_all(reader, 6)
    await backlog_becomes(reader, 0)


async def test_a_closed_reader_leaves_its_messages_to_others(open_bus: OpenBus, spec: StreamSpec) -> None:
    """A rolling restart of a service skips nothing."""
    bus = await open_bus(ack_wait_seconds=0.5)
    await bus.ensure_stream(spec)
    await bus.publish(spec.name, [another(spec, number) for number in range(3)])
    reader = await everything(bus, spec)
    await fetch_all(reader, 1, ack=False)
    await reader.close()
    reader = await everything(bus, spec)
    assert sorted(ids(await fetch_all(reader, 3))) == ["evt_0", "evt_1", "evt_2"]


async def test_settling_twice_is_harmless(bus: Bus, spec: StreamSpec) -> None:
    """A consumer that was interrupted in the middle of settling begins again."""
    reader = await everything(bus, spec)
    await bus.publish(spec.name, [another(spec, 1)])
    (delivery,) = await fetch_all(reader, 1)
    await delivery.ack()
    await delivery.retry(0.0)
    await delivery.working()
    assert await reader.fetch(1, 0.3) == []


async def test_everyone_may_create_the_stream_at_once(open_bus: OpenBus, spec: StreamSpec) -> None:
    """Six services start together, and each makes sure of the streams that it needs."""
    buses = [await open_bus() for _ in range(6)]
    await asyncio.gather(*(bus.ensure_stream(spec) for bus in buses))
    readers = await asyncio.gather(*(everything(bus, spec) for bus in buses))
    await buses[0].publish(spec.name, [another(spec, 1)])
    # What a bus has accepted it may count a moment later.
    for _ in range(100):
        if await readers[5].backlog():
            break
        await asyncio.sleep(0.01)
    assert await readers[5].backlog() == 1


async def test_a_stream_can_be_given_more_subjects(bus: Bus, spec: StreamSpec) -> None:
    """A release that announces more finds the stream of the one before."""
    more = f"more.{spec.name}"
    await bus.ensure_stream(StreamSpec(name=spec.name, subjects=(*spec.subjects, more)))
    await bus.publish(spec.name, [another(spec, 1), Message(id="evt_2", subject=more, headers={}, data=b"")])
    reader = await bus.subscribe(spec.name, durable="reader", subjects=[">"])
    assert ids(await fetch_all(reader, 2)) == ["evt_1", "evt_2"]


async def test_several_may_publish_at_once(open_bus: OpenBus, spec: StreamSpec) -> None:
    """Two relays may overlap for a moment when one takes over from another."""
    buses = [await open_bus(), await open_bus()]
    await buses[0].ensure_stream(spec)
    messages = [another(spec, number) for number in range(300)]
    await asyncio.gather(*(bus.publish(spec.name, messages) for bus in buses))
    assert ids(await fetch_all(await everything(buses[0], spec), 300)) == [m.id for m in messages]


async def test_a_connected_bus_is_healthy(bus: Bus) -> None:
    """Otherwise no service would ever report that it serves."""
    assert await bus.healthy()
