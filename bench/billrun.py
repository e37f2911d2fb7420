"""How fast customers are billed who come due at once: `make bench T=billrun`, of fewer `T="billrun --customers 5000"`.

Catalog, subscriptions, metering and invoicing in processes of their own with everything around them as in production,
and customers with a subscription each: a fee and three graduated meters with a month of usage. They are due from one
moment on, without grace. The clock runs from then until each has its final invoice and it is announced. The ceiling is
one connection that copies the very same rows, ready in binary, into tables without anything. Afterwards every figure is
looked at again: who was billed, how often and how much, whether numbers have a gap, the chain of documents, and what
was announced. With `--kill`, invoicing is killed in the middle and started again.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final

import asyncpg
import grpc.aio
import psutil
import uvloop
from pydantic import SecretStr

from bench import peer
from bench.billed import CONTACT, Any_, Customers, copy_first, create_first, create_offer, month_before, usage_requests
from bench.figures import Figure
from bench.ingest import INGEST, age
from bench.stage import Stage, stage
from catalog.settings import Settings as CatalogSettings
from common import clock
from common.caller import Role
from common.ids import SellerId
from common.rpc import MESSAGE_BYTES_MAX
from common.service import Service
from common.testing import SERVICES, Keys
from common.vault import Vault
from invoicing.settings import Settings as InvoicingSettings
from metering.settings import Settings as MeteringSettings
from saldo.catalog.v1 import catalog_service_pb2, seller_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.invoicing.v1 import events_pb2, invoicing_service_pb2
from saldo.invoicing.v1.invoicing_service_pb2_grpc import InvoicingServiceStub
from saldo.metering.v1 import metering_service_pb2
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import SubscriptionsServiceStub
from subscriptions.settings import Settings as SubscriptionsSettings

CUSTOMERS: Final = 100_000
GOAL: Final = 3_000
GOAL_RATIO: Final = 0.15
AGED_FROM: Final = 20_000
"""Fewer customers are for trying something out: their figures say little of commits."""
PEER_CUSTOMERS: Final = 200

CALLERS: Final = 4
PREFIX: Final = "B"
POLL_SECONDS: Final = 0.05
READY_SECONDS: Final = 120.0
SECONDS_MAX: Final = 1_800.0
CEILING_INVOICES: Final = 20_000
COPIED: Final = {
    "invoices": "id",
    "invoice_lines": "invoice_id",
    "issued_documents": "invoice_id",
    "ledger_entries": "invoice_id",
    "outbox": "aggregate_id",
    "aggregate_sequences": "aggregate_id",
}
"""What is written for an invoice, and which column of it names the invoice."""
STUBS: Final = {
    "catalog": CatalogServiceStub,
    "subscriptions": SubscriptionsServiceStub,
    "metering": MeteringServiceStub,
    "invoicing": InvoicingServiceStub,
}
NOBODY: Final = SellerId("")
IN_ALL: Final = {*STUBS, "postgres", "nats"}
CHANNEL: Final = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)]


@dataclass(slots=True)
class Scene:
    """The services, and how they are reached: by their contracts, and beneath them."""

    here: Stage
    keys: Keys
    seller_id: SellerId = NOBODY
    metadata: tuple[tuple[str, str], ...] = ()
    addresses: dict[str, str] = field(default_factory=dict)
    stubs: dict[str, Any_] = field(default_factory=dict)
    databases: dict[str, asyncpg.Connection] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)  # Any: of whatever types settings are
    places: dict[int, str] = field(default_factory=dict)
    """Which service the nth process is."""

    def start(self, name: str) -> None:
        self.places[len(self.here.processes)] = name
        self.addresses[name] = self.here.start(
            ["bench.billrun", "--serve", name], self.here.environment(self.settings[name]), core=None
        )

    def cpu_seconds(self) -> dict[str, float]:
        used: dict[str, float] = defaultdict(float)
        for name, seconds in self.here.cpu_seconds().items():
            kind, _, number = name.partition(" ")
            used[self.places[int(number)] if kind == "process" else name] += seconds
        for child in psutil.Process(self.here.servers.pids["postgres"]).children():
            # A backend's title says which database it is at work on.
            database = next(iter(child.cmdline()), "").partition(": ")[2].partition(" ")[0]
            times = child.cpu_times()
            used[f"postgres of {database if database in STUBS else 'itself'}"] += times.user + times.system
        return dict(used)

    def pid(self, name: str) -> int:
        return next(self.here.processes[n].pid for n, each in reversed(self.places.items()) if each == name)


async def main(count: int, *, replicas: int, kill: bool, pause: bool, peer_count: int) -> None:
    async with stage() as here, AsyncExitStack() as stack:
        scene = await set_scene(here, stack, replicas=replicas)
        customers = await populate(scene, count)
        if pause:
            print("postgres", here.servers.pids["postgres"], file=sys.stderr)
            for number, name in scene.places.items():
                print(name, here.processes[number].pid, file=sys.stderr)
        figure = await measure(scene, customers, kill=kill)
        if peer_count:
            figure.more["peer"] = peer.beside(here, peer_count, rate=figure.value)
        print(figure.line(), flush=True)


async def set_scene(here: Stage, stack: AsyncExitStack, *, replicas: int) -> Scene:
    folder = here.folder / "keys of services"
    folder.mkdir()
    keys = Keys(folder, SERVICES)
    scene = Scene(here, keys)
    told: dict[str, Any] = {  # Any: of whatever types settings are
        "nats_url": here.servers.nats_url,
        "listen": "127.0.0.1:0",
        "log_level": "warning",
        "auth_jwks": keys.jwks,
    }
    own = {}
    for name in STUBS:
        url = await here.databases.create(name, migrated=name)
        own[name] = told | {"auth_key": keys.private(name), "database_url": SecretStr(url)}
        scene.databases[name] = await asyncpg.connect(here.as_administrator(url))
        stack.push_async_callback(scene.databases[name].close)
    scene.settings["catalog"] = CatalogSettings(**own["catalog"])
    scene.start("catalog")
    scene.settings["metering"] = MeteringSettings(**own["metering"])
    scene.start("metering")
    scene.settings["subscriptions"] = SubscriptionsSettings(
        **own["subscriptions"], catalog_address=scene.addresses["catalog"], master_keys=keys.master_keys
    )
    scene.start("subscriptions")
    scene.settings["invoicing"] = InvoicingSettings(
        **own["invoicing"],
        catalog_address=scene.addresses["catalog"],
        subscriptions_address=scene.addresses["subscriptions"],
        metering_address=scene.addresses["metering"],
        grace_seconds=0,
    )
    for _ in range(replicas):
        scene.start("invoicing")
    for name, stub in STUBS.items():
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(scene.addresses[name], options=CHANNEL))
        scene.stubs[name] = stub(channel)
    return scene


async def open_seller(scene: Scene) -> None:
    """A seller, and the right to act for it."""
    platform = (("authorization", f"Bearer {scene.keys.token(role=Role.PLATFORM, seller_id=None)}"),)
    seller = await scene.stubs["catalog"].CreateSeller(
        catalog_service_pb2.CreateSellerRequest(
            mode=seller_pb2.Seller.LIVE,
            display_name="Seller",
            address=CONTACT.address,
            invoice_number_prefix=PREFIX,
        ),
        metadata=platform,
    )
    scene.seller_id = SellerId(seller.id)
    token = scene.keys.token(role=Role.OWNER, seller_id=scene.seller_id)
    scene.metadata = (("authorization", f"Bearer {token}"),)


async def populate(scene: Scene, count: int) -> Customers:
    """A seller with so many customers who have used something, the first of whom is billed already."""
    await open_seller(scene)
    if count >= AGED_FROM:
        await age(scene.databases["invoicing"])
    now = clock.wall()
    start, _ = month_before(now)
    stubs = scene.stubs
    plan = await create_offer(stubs["catalog"], stubs["metering"], scene.metadata)
    first_id = await create_first(stubs["subscriptions"], plan, start, scene.metadata)
    invoicing, subscriptions = scene.databases["invoicing"], scene.databases["subscriptions"]
    await _until(invoicing, "SELECT count(*) = 1 FROM invoices", seconds=READY_SECONDS)
    await _until(subscriptions, "SELECT every(next_moment_time > now()) FROM subscriptions", seconds=READY_SECONDS)
    vault = Vault.read(scene.keys.master_keys)
    customers = Customers(ids=await copy_first(subscriptions, vault, scene.seller_id, first_id, count, now))
    await scene.databases["metering"].copy_records_to_table(
        "customer_names",
        columns=["seller_id", "name", "customer_id"],
        records=[(scene.seller_id, each, each) for each in customers.ids],
    )
    await send(scene, usage_requests(customers, start))
    for name in STUBS:
        # Not of invoicing, which has seen one customer: whoever tells the planner so has it prepare for no more.
        if name != "invoicing":
            await scene.databases[name].execute("VACUUM ANALYZE")
        await scene.databases[name].execute("CHECKPOINT")
    return customers


async def send(scene: Scene, requests: Any) -> None:  # Any: an iterator of bytes, that several take from
    async with grpc.aio.insecure_channel(scene.addresses["metering"], options=CHANNEL) as channel:
        call: Any = channel.unary_unary(  # Any: as gRPC has it
            INGEST, response_deserializer=metering_service_pb2.IngestEventsResponse.FromString
        )

        async def caller() -> None:
            for request in requests:
                answer = await call(request, metadata=scene.metadata)
                if answer.rejected_count or answer.duplicate_count:
                    raise RuntimeError(f"usage is not taken: {answer}")

        await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def measure(scene: Scene, customers: Customers, *, kill: bool) -> Figure:
    invoicing = scene.databases["invoicing"]
    count = len(customers.ids)
    start, end = month_before(clock.wall())
    used = scene.cpu_seconds()
    began = time.perf_counter()
    # They have been billed in the month before, and this is the moment that was foreseen then.
    await invoicing.copy_records_to_table(
        "billing",
        columns=["seller_id", "customer_id", "due_time", "billed_through_time", "revision", "traceparent"],
        records=[(scene.seller_id, each, end, start, 1, "") for each in customers.ids],
    )
    marked = time.perf_counter() - began
    progress: list[tuple[float, int]] = [(time.perf_counter(), 0)]
    killed_at = 0
    while progress[-1][1] < count or await invoicing.fetchval("SELECT EXISTS (SELECT FROM outbox_waiting)"):
        await asyncio.sleep(POLL_SECONDS)
        done = await invoicing.fetchval("SELECT sum(last)::bigint - 1 FROM number_series")
        progress.append((time.perf_counter(), done))
        if kill and not killed_at and done >= count // 2:
            killed_at = done
            await kill_invoicing(scene)
        if progress[-1][0] - began > SECONDS_MAX:
            raise TimeoutError(f"{done} of {count} are billed after {SECONDS_MAX} s")
    seconds = time.perf_counter() - began
    # What was killed has taken its account with it.
    cpu = {} if kill else {name: each - used.get(name, 0) for name, each in scene.cpu_seconds().items()}
    ceiling = await copy_rows(invoicing)
    faults = await what_is_wrong(scene, customers)
    rate = count / seconds
    first, last = _share_seconds(progress, count, 0.02, 0.12), _share_seconds(progress, count, 0.88, 0.98)
    return Figure(
        bench="billrun",
        value=rate,
        unit="invoices/s",
        ceiling=ceiling,
        ratio=rate / ceiling,
        p50_ms=None,
        p99_ms=None,
        checked=not faults,
        more={
            "customers": count,
            "seconds": round(seconds, 2),
            "marking_seconds": round(marked, 2),
            "goal": GOAL,
            "goal_ratio": GOAL_RATIO,
            "cpu_us_per_invoice": {name: round(1e6 * each / count, 1) for name, each in sorted(cpu.items())},
            "cpu_us_in_all": round(1e6 * sum(cpu[name] for name in cpu if name in IN_ALL) / count, 1),
            "last_tenth_over_first": round(last / first, 3),
            "killed_at": killed_at,
            "faults": faults,
            "load": round(os.getloadavg()[0], 1),
        },
    )


def _share_seconds(progress: Sequence[tuple[float, int]], count: int, low: float, high: float) -> float:
    """How long it took from one share of the customers to another."""

    def when(done: float) -> float:
        """Between two looks it goes on evenly."""
        before = progress[0]
        for at in progress:
            if at[1] >= done:
                grown = at[1] - before[1]
                return at[0] if not grown else before[0] + (at[0] - before[0]) * (done - before[1]) / grown
            before = at
        return progress[-1][0]

    return when(high * count) - when(low * count)


async def kill_invoicing(scene: Scene) -> None:
    os.kill(scene.pid("invoicing"), signal.SIGKILL)
    psutil.Process(scene.pid("invoicing")).wait()
    await asyncio.to_thread(scene.start, "invoicing")


async def copy_rows(connection: asyncpg.Connection) -> float:
    """Invoices a second of one connection that has the rows of so many of them ready, in binary."""
    some = f"SELECT invoice_id AS id FROM issued_documents ORDER BY ordinal LIMIT {CEILING_INVOICES}"
    ready: dict[str, bytes] = {}
    for table, key in COPIED.items():
        copied = BytesIO()
        await connection.copy_from_query(
            f"SELECT t.* FROM {table} t JOIN ({some}) s ON s.id = t.{key}", output=copied, format="binary"
        )
        ready[table] = copied.getvalue()
        await connection.execute(f"CREATE TABLE bare_{table} AS SELECT * FROM {table} LIMIT 0")

    async def stream(rows: bytes) -> AsyncIterator[bytes]:
        yield rows

    began = time.perf_counter()
    async with connection.transaction():
        for table, rows in ready.items():
            await connection.copy_to_table(f"bare_{table}", source=stream(rows), format="binary")
    seconds = time.perf_counter() - began
    count = await connection.fetchval("SELECT count(*) FROM bare_invoices")
    return float(count / seconds)


async def what_is_wrong(scene: Scene, customers: Customers) -> list[str]:
    """Nothing, if each customer has one final invoice of what it owes, and everything around it is as it must be."""
    invoicing = scene.databases["invoicing"]
    faults: list[str] = []

    def must(true: object, fault: str) -> None:
        if not true:
            faults.append(fault)

    rows = await invoicing.fetch("SELECT customer_id, number, state, total_minor, id FROM invoices ORDER BY number")
    billed = [row for row in rows if row["customer_id"] in customers.used]
    must(Counter(row["customer_id"] for row in billed) == Counter(customers.ids), "not one invoice for each")
    must(all(row["total_minor"] == customers.owed_cents(row["customer_id"]) for row in billed), "wrong totals")
    must({row["state"] for row in rows} == {"OPEN"}, "not all are open")
    numbers = [row["number"] for row in rows]
    must(numbers == sorted(f"{PREFIX}-{n:06d}" for n in range(1, len(rows) + 1)), "numbers have a gap")
    lines = await invoicing.fetchrow("SELECT count(*) AS lines, sum(amount_minor)::bigint AS minor FROM invoice_lines")
    assert lines is not None
    must(lines["lines"] == 4 * len(rows), "not four lines for each")
    must(lines["minor"] == sum(row["total_minor"] for row in rows), "lines do not sum up to totals")
    events = await invoicing.fetch("SELECT subject, aggregate_id, sequence FROM outbox")
    subject = events_pb2.InvoiceFinalized.DESCRIPTOR.full_name
    told = Counter((event["subject"], event["aggregate_id"], event["sequence"]) for event in events)
    must(told == Counter((subject, row["id"], 1) for row in rows), "not each is announced once")
    due = await invoicing.fetchval("SELECT count(*) FROM billing WHERE due_time <= now() OR traceparent <> ''")
    must(not due, "some are due still")
    failed = await invoicing.fetchval("SELECT count(*) FROM job_failures")
    must(not failed, "some have failed")
    must(await _is_chained(scene, len(rows)), "the chain of documents is broken")
    return faults


async def _is_chained(scene: Scene, count: int) -> bool:
    """As the service itself says it, page by page, of every number; wherever it is by now."""
    page_token, looked_at = "", 0
    async with grpc.aio.insecure_channel(scene.addresses["invoicing"], options=CHANNEL) as channel:
        stub: Any_ = InvoicingServiceStub(channel)
        while True:
            found = await stub.VerifySeries(
                invoicing_service_pb2.VerifySeriesRequest(series=PREFIX, page_size=1_000, page_token=page_token),
                metadata=scene.metadata,
                timeout=READY_SECONDS,
            )
            if found.faults:
                return False
            looked_at += int(found.count)
            page_token = found.next_page_token
            if not page_token:
                return looked_at == count


async def _until(connection: asyncpg.Connection, question: str, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not await connection.fetchval(question):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {question}")
        await asyncio.sleep(POLL_SECONDS)


def serve(name: str) -> None:
    async def live() -> None:
        settings = importlib.import_module(f"{name}.settings").Settings()
        service: Service = importlib.import_module(f"{name}.main").build(settings)
        await service.run()

    uvloop.run(live())


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--customers", type=int, default=CUSTOMERS, help="how many are due")
    asked.add_argument("--replicas", type=int, default=1, help="of invoicing")
    asked.add_argument("--kill", action="store_true", help="invoicing in the middle")
    asked.add_argument(
        "--peer", type=int, nargs="?", const=PEER_CUSTOMERS, default=0, help="bill so many by Tryton afterwards"
    )
    asked.add_argument("--pids", action="store_true", help="tell the processes, for a profiler")
    asked.add_argument("--serve", choices=STUBS, help="be this service")
    told = asked.parse_args()
    if told.serve:
        serve(told.serve)
    else:
        uvloop.run(main(told.customers, replicas=told.replicas, kill=told.kill, pause=told.pids, peer_count=told.peer))
