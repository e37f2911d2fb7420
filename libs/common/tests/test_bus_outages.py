"""What only a server of the bus does: vanish, refuse, be full."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.js.api import StreamConfig

from common.bus import (
    Bus,
    BusUnavailable,
    JetStreamBus,
    Message,
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


async def test_without_atomic_batches_all_is_the_same(spec: StreamSpec) -> None:
    """The benchmark compares the two ways of storing, so both must store the same."""
    bus = jetstream_bus(os.environ["SALDO_NATS_URL"], atomic=False)
    await bus.connect()
    await bus.ensure_stream(spec)
    messages = [another(spec, number) for number in range(50)]
    await bus.publish(spec.name, messages[:20])
    await bus.publish(spec.name, messages)
    assert ids(await fetch_all(await everything(bus, spec), 50)) == [message.id for message in messages]
    await bus.close()
    await delete_stream(spec)


async def test_a_stream_that_refuses_batches_gets_single_messages(
    spec: StreamSpec, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator's stream may lack the setting; slow is better than never."""
    client = await nats.connect(os.environ["SALDO_NATS_URL"])
    await client.jsm().add_stream(StreamConfig(name=spec.name, subjects=list(spec.subjects)))
    await client.close()
    bus = jetstream_bus(os.environ["SALDO_NATS_URL"])
    await bus.connect()
    messages = [another(spec, number) for number in range(10)]
    await bus.publish(spec.name, messages)
    assert ids(await fetch_all(await everything(bus, spec), 10)) == [message.id for message in messages]
    assert [record.message for record in caplog.records] == [
        "stream takes no atomic batches: messages are stored one by one"
    ]
    await bus.close()
    await delete_stream(spec)


async def test_a_full_stream_refuses_and_keeps_what_it_has(spec: StreamSpec) -> None:
    """Dropping the oldest would lose events without anybody noticing; the outbox can wait."""
    bus = JetStreamBus(os.environ["SALDO_NATS_URL"], stream_bytes_max=64 * 1024)
    await bus.connect()
    await bus.ensure_stream(spec)
    await bus.publish(spec.name, [another(spec, 1)])
    large = [
        Message(id=f"evt_{number}", subject=subject(spec, "Happened"), headers={}, data=bytes(9_000))
        for number in range(2, 12)
    ]
    with pytest.raises(BusUnavailable):
        await bus.publish(spec.name, large)
    assert not await bus.healthy()
    assert ids(await fetch_all(await everything(bus, spec), 1)) == ["evt_1"]
    await bus.close()
    await delete_stream(spec)


async def test_a_durable_that_vanished_is_made_anew(spec: StreamSpec) -> None:
    """A server that lost its consumers' state costs a repetition, not a consumer that hears no more."""
    bus = jetstream_bus(os.environ["SALDO_NATS_URL"])
    await bus.connect()
    await bus.ensure_stream(spec)
    reader = await everything(bus, spec)
    waiting = asyncio.create_task(reader.fetch(1, ENOUGH_SECONDS))
    await asyncio.sleep(0.2)
    client = await nats.connect(os.environ["SALDO_NATS_URL"])
    await client.jsm().delete_consumer(spec.name, "reader")
    await client.close()
    await bus.publish(spec.name, [another(spec, 1)])
    assert ids(await waiting) == ["evt_1"]
    await bus.close()
    await delete_stream(spec)


@pytest.mark.fault
async def test_a_server_that_is_not_there_is_reported_in_time() -> None:
    """A process that is starting tries again, and must get the chance."""
    bus = jetstream_bus(f"nats://127.0.0.1:{free_port()}", timeout_seconds=0.5)
    async with asyncio.timeout(ENOUGH_SECONDS):
        with pytest.raises(BusUnavailable):
            await bus.connect()
        assert not await bus.healthy()
        await bus.close()


@pytest.mark.fault
async def test_a_killed_server_loses_and_repeats_nothing_stored(tmp_path: Path, spec: StreamSpec) -> None:
    """The relay only repeats what is in doubt, and readers go on by themselves when the server is back."""
    port = free_port()
    bus = jetstream_bus(f"nats://127.0.0.1:{port}", timeout_seconds=1.0, ack_wait_seconds=1.0)
    messages = [another(spec, number) for number in range(3_000)]
    async with nats_server(port, tmp_path):
        await bus.connect()
        await bus.ensure_stream(spec)
        reader = await everything(bus, spec)
        await bus.publish(spec.name, messages[:1_000])
        seen = ids(await fetch_all(reader, 400))
        in_doubt = asyncio.create_task(bus.publish(spec.name, messages[1_000:2_000]))
        await asyncio.sleep(0.002)
    publish_failed = False
    try:
        await in_doubt
    except BusUnavailable:
        publish_failed = True
    loop = asyncio.get_running_loop()
    start_time = loop.time()
    with pytest.raises(BusUnavailable):
        await bus.publish(spec.name, messages[2_000:])
    assert await reader.fetch(10, 0.3) == []
    assert not await bus.healthy()
    assert loop.time() - start_time < 5.0
    waiting = asyncio.create_task(reader.fetch(1, ENOUGH_SECONDS))
    async with nats_server(port, tmp_path):
        assert len(await waiting) == 1
        await waiting.result()[0].ack()
        seen += ids(waiting.result())
        if publish_failed:
            await publish_until_stored(bus, spec, messages[1_000:2_000])
        await publish_until_stored(bus, spec, messages)
        assert await bus.healthy()
        while len(set(seen)) < 3_000:
            seen += ids(await fetch_all(reader, min(3_000 - len(set(seen)), 100)))
        # Acknowledgements of the last moments died with the server.
        async with asyncio.timeout(ENOUGH_SECONDS):
            while await reader.backlog():
                for delivery in await reader.fetch(100, 0.1):
                    await delivery.ack()
        whole = await everything(bus, spec, durable="whole")
        assert ids(await fetch_all(whole, 3_000)) == [message.id for message in messages]
        await backlog_becomes(whole, 0)
        await bus.close()


@pytest.mark.fault
async def test_a_waiting_reader_survives_a_restart(tmp_path: Path, spec: StreamSpec) -> None:
    """The server forgets who was waiting, so the reader has to notice the silence and ask again."""
    port = free_port()
    bus = jetstream_bus(f"nats://127.0.0.1:{port}", timeout_seconds=1.0)
    async with nats_server(port, tmp_path):
        await bus.connect()
        await bus.ensure_stream(spec)
        reader = await everything(bus, spec)
        waiting = asyncio.create_task(reader.fetch(10, 60.0))
        await asyncio.sleep(0.3)
    async with nats_server(port, tmp_path), asyncio.timeout(ENOUGH_SECONDS):
        await publish_until_stored(bus, spec, [another(spec, 1)])
        assert ids(await waiting) == ["evt_1"]
        await bus.close()


@pytest.mark.fault
async def test_closing_without_a_server_takes_no_time(tmp_path: Path, spec: StreamSpec) -> None:
    """A service has to leave within its grace period, whatever state the bus is in."""
    port = free_port()
    bus = jetstream_bus(f"nats://127.0.0.1:{port}", timeout_seconds=1.0)
    async with nats_server(port, tmp_path):
        await bus.connect()
        await bus.ensure_stream(spec)
        reader = await everything(bus, spec)
        await bus.publish(spec.name, [another(spec, number) for number in range(10)])
        await reader.fetch(1, 1.0)
    async with asyncio.timeout(4.0):
        await reader.close()
        await bus.close()


@pytest.mark.fault
async def test_whoever_closes_is_not_cancelled_with_the_client(tmp_path: Path, spec: StreamSpec) -> None:
    """Its attempt to reconnect is, and takes with it what both of them wait for. Whoever is cancelled still is."""
    port = free_port()
    for is_cancelled in (False, True):
        bus = jetstream_bus(f"nats://127.0.0.1:{port}", timeout_seconds=1.0)
        async with nats_server(port, tmp_path):
            await bus.connect()
            await bus.ensure_stream(spec)
            client: Any = bus._nats  # Any: what is inside of it
            writer = client._transport._io_writer
            writer._protocol._get_close_waiter(writer).cancel()
            closing = asyncio.create_task(bus.close())
            if is_cancelled:
                await asyncio.sleep(0)
                closing.cancel()
            [outcome] = await asyncio.gather(closing, return_exceptions=True)
            client._transport.close()
            await asyncio.sleep(0)
            assert isinstance(outcome, asyncio.CancelledError) == is_cancelled


async def publish_until_stored(bus: Bus, spec: StreamSpec, messages: list[Message]) -> None:
    async with asyncio.timeout(ENOUGH_SECONDS):
        while True:
            try:
                return await bus.publish(spec.name, messages)
            except BusUnavailable:
                await asyncio.sleep(0.1)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@asynccontextmanager
async def nats_server(port: int, folder: Path) -> AsyncIterator[None]:
    """A server of the test's own, with production's durability, that ends by kill -9."""
    config = folder / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\n'
        f'jetstream {{ store_dir: "{folder}", sync_interval: always, max_file_store: 1GB }}\n'
    )
    server = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("nats-server"),
        "--config",
        config,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(ENOUGH_SECONDS):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    break
        yield
    finally:
        server.send_signal(signal.SIGKILL)
        await server.wait()
