"""How soon a usage event that was accepted is seen: `make bench T=freshness`.

Catalog, subscriptions, metering and invoicing in processes of their own, as in production. While usage events of 5,000
other customers come in at half of what metering takes at most, one event after another is sent for one customer, and
as soon as it is accepted the usage is asked for, then the upcoming invoice, until each says it. Every answer must be
exactly what has been accepted of that customer by then: never less than a question asked before, never more than sent.
The ceiling is the same questions without any load.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import grpc.aio
import uvloop
from google.type import decimal_pb2
from pydantic import SecretStr

from bench.figures import Figure, percentile_ms
from bench.ingest import (
    CHANNEL,
    EVENTS_UNDER_WAY,
    SEED,
    SHAPES,
    Scene,
    is_right,
    metering_scene,
    send,
    send_at,
)
from bench.senders import METERS, Sender, customer_of
from bench.stage import SELLER
from bench.subscribers import CURRENCY
from catalog.settings import Settings as CatalogSettings
from common import clock, wire
from common.period import Period
from common.service import Service
from invoicing.settings import Settings as InvoicingSettings
from saldo.catalog.v1 import catalog_service_pb2, price_pb2
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.invoicing.v1 import invoicing_service_pb2
from saldo.invoicing.v1.invoicing_service_pb2_grpc import InvoicingServiceStub
from saldo.metering.v1 import metering_service_pb2 as pb
from saldo.metering.v1.usage_event_pb2 import EventResult, UsageEvent
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2, subscriptions_service_pb2
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import SubscriptionsServiceStub
from subscriptions.settings import Settings as SubscriptionsSettings

FULL_EVENTS: Final = 2_000_000
LOAD_SECONDS: Final = 20
PROBES: Final = 150
PROBES_WITHOUT_LOAD: Final = 100
PROBE_SECONDS: Final = LOAD_SECONDS / PROBES
OUTLASTING: Final = 1.25
"""The load lasts longer than the probes, by so much."""
SEEN_SECONDS_MAX: Final = 10.0
GOAL_MS: Final = 500
UNIT_PRICE: Final = Decimal("0.25")

Any_ = Any  # Any: grpc's stubs, compiled when this runs


@dataclass(slots=True)
class Watched:
    """One customer whose usage is watched, and how that is told."""

    scene: Scene
    metering: Any_
    invoicing: Any_
    customer_id: str
    sent: int = 0
    usage_seconds: list[float] = field(default_factory=list)
    invoice_seconds: list[float] = field(default_factory=list)
    is_right: bool = True

    async def probe(self) -> None:
        self.sent += 1
        event = UsageEvent(
            id=f"probe-{self.sent}",
            source="probe",
            customer=self.customer_id,
            meter=METERS[0],
            time=wire.timestamp(clock.wall()),
            value=decimal_pb2.Decimal(value="1"),
        )
        answer = await self.metering.IngestEvents(pb.IngestEventsRequest(events=[event]), metadata=self.scene.metadata)
        self.is_right &= answer.results[0].outcome in (EventResult.ACCEPTED, EventResult.UNMATCHED)
        accepted = time.perf_counter()
        self.usage_seconds.append(await self._until(self._usage, accepted))
        self.invoice_seconds.append(await self._until(self._invoiced, accepted))

    async def _until(self, told: Callable[[], Awaitable[int]], accepted: float) -> float:
        while True:
            found = await told()
            self.is_right &= found <= self.sent
            seconds = time.perf_counter() - accepted
            if found == self.sent:
                return seconds
            if seconds > SEEN_SECONDS_MAX:
                raise RuntimeError(f"{found} of {self.sent} usage events are seen")

    async def _usage(self) -> int:
        now = clock.wall()
        query = pb.UsageQuery(
            customer_id=self.customer_id,
            meter=METERS[0],
            period=wire.interval(Period(now - timedelta(days=2), now + timedelta(days=2))),
            without_proof=True,
        )
        found = await self.metering.QueryUsage(pb.QueryUsageRequest(query=query), metadata=self.scene.metadata)
        return int(Decimal(found.quantity.value))

    async def _invoiced(self) -> int:
        request = invoicing_service_pb2.GetUpcomingInvoiceRequest(customer_id=self.customer_id)
        invoice = await self.invoicing.GetUpcomingInvoice(request, metadata=self.scene.metadata)
        [line] = invoice.line_items
        amount = line.amount.units + Decimal(line.amount.nanos).scaleb(-9)
        self.is_right &= amount == Decimal(line.quantity.value) * UNIT_PRICE
        return int(Decimal(line.quantity.value))


async def main() -> None:
    async with metering_scene() as (scene, metering), neighbours(scene) as (catalog, subscriptions, invoicing):
        customer_id = await subscribe(scene, catalog, subscriptions)
        await hear_of_others(scene)
        watched = Watched(scene, metering, invoicing, customer_id)
        for _ in range(PROBES_WITHOUT_LOAD):
            await watched.probe()
        calm = (watched.usage_seconds, watched.invoice_seconds)
        watched.usage_seconds, watched.invoice_seconds = [], []
        shape = SHAPES["columns"]
        start = int((clock.wall() - timedelta(days=31)).replace(microsecond=0).timestamp())
        sender = Sender(shape, "columns", start, random.Random(SEED))
        requests = list(sender.requests(FULL_EVENTS // shape.batch))
        began = time.perf_counter()
        await send(scene, requests, callers=EVENTS_UNDER_WAY // shape.batch)
        full = FULL_EVENTS / (time.perf_counter() - began)
        requests = list(sender.requests(int(full / 2 * LOAD_SECONDS * OUTLASTING) // shape.batch))
        load = asyncio.create_task(send_at(scene, requests, per_second=full / 2 / shape.batch))
        for _ in range(PROBES):
            due = time.perf_counter() + PROBE_SECONDS
            await watched.probe()
            if load.done():
                raise RuntimeError("the load was over before all probes were made")
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await load
        stored = await scene.connection.fetchval("SELECT count(*) FROM usage_log") - watched.sent
        checked = watched.is_right and await is_right(scene, metering, [sender], stored)
        more = {"half_load": round(full / 2), "goal_p99_ms": GOAL_MS}
        for name, seconds, bare in (
            ("usage", watched.usage_seconds, calm[0]),
            ("upcoming", watched.invoice_seconds, calm[1]),
        ):
            figure = Figure(
                bench=f"freshness/{name}",
                value=1 / statistics.mean(seconds),
                unit="answers/s",
                ceiling=1 / statistics.mean(bare),
                ratio=statistics.mean(bare) / statistics.mean(seconds),
                p50_ms=percentile_ms(seconds, 0.50),
                p99_ms=percentile_ms(seconds, 0.99),
                checked=checked,
                more={**more, "calm_p99_ms": percentile_ms(bare, 0.99), "load": round(os.getloadavg()[0], 1)},
            )
            print(figure.line(), flush=True)


@asynccontextmanager
async def neighbours(scene: Scene) -> AsyncIterator[tuple[Any_, Any_, Any_]]:
    """Catalog, subscriptions and invoicing around metering: their stubs."""
    told: dict[str, Any] = {  # Any: of whatever types settings are
        "nats_url": scene.here.servers.nats_url,
        "listen": "127.0.0.1:0",
        "log_level": "warning",
        "auth_jwks": scene.keys.jwks,
    }

    async def own(name: str) -> dict[str, Any]:  # Any: as above
        url = await scene.here.databases.create(name, migrated=name)
        return told | {"auth_key": scene.keys.private(name), "database_url": SecretStr(url)}

    here = scene.here
    catalog = here.start(
        ["bench.freshness", "catalog"], here.environment(CatalogSettings(**await own("catalog"))), core=None
    )
    subscriptions = here.start(
        ["bench.freshness", "subscriptions"],
        here.environment(
            SubscriptionsSettings(
                **await own("subscriptions"), catalog_address=catalog, master_keys=scene.keys.master_keys
            )
        ),
        core=None,
    )
    invoicing = here.start(
        ["bench.freshness", "invoicing"],
        here.environment(
            InvoicingSettings(
                **await own("invoicing"),
                catalog_address=catalog,
                subscriptions_address=subscriptions,
                metering_address=scene.address,
            )
        ),
        core=None,
    )
    async with (
        grpc.aio.insecure_channel(catalog) as first,
        grpc.aio.insecure_channel(subscriptions) as second,
        grpc.aio.insecure_channel(invoicing, options=CHANNEL) as third,
    ):
        yield CatalogServiceStub(first), SubscriptionsServiceStub(second), InvoicingServiceStub(third)


async def subscribe(scene: Scene, catalog: Any_, subscriptions: Any_) -> str:
    """A customer who pays for every call: the customer's id."""
    product = await catalog.CreateProduct(
        catalog_service_pb2.CreateProductRequest(code="product", display_name="Product"), metadata=scene.metadata
    )
    price = price_pb2.Price(
        code="calls",
        product_id=product.id,
        currency=CURRENCY,
        billing_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.MONTH, count=1),
        billing_timing=price_pb2.Price.IN_ARREARS,
        meter=METERS[0],
        per_unit=price_pb2.PerUnitModel(unit_price=decimal_pb2.Decimal(value=str(UNIT_PRICE))),
    )
    plan = await catalog.CreatePlan(
        catalog_service_pb2.CreatePlanRequest(code="plan", display_name="Plan", prices=[price]),
        metadata=scene.metadata,
    )
    plan = await catalog.PublishPlan(catalog_service_pb2.PublishPlanRequest(id=plan.id), metadata=scene.metadata)
    customer = await subscriptions.CreateCustomer(
        subscriptions_service_pb2.CreateCustomerRequest(
            contact=customer_pb2.Contact(display_name="Watched"),
            billing_profile=customer_pb2.BillingProfile(currency=CURRENCY, time_zone="UTC"),
        ),
        metadata=scene.metadata,
    )
    await subscriptions.CreateSubscription(
        subscriptions_service_pb2.CreateSubscriptionRequest(
            customer_id=customer.id,
            plan_id=plan.id,
            start_time=wire.timestamp(clock.wall() - timedelta(hours=1)),
            items=[subscription_pb2.ItemSpec(price_id=plan.prices[0].id)],
        ),
        metadata=scene.metadata,
    )
    customer_id: str = customer.id
    return customer_id


async def hear_of_others(scene: Scene) -> None:
    """Let metering know the customers whose usage is the load, as if subscriptions had announced each of them."""
    await scene.connection.executemany(
        "INSERT INTO customer_names (seller_id, name, customer_id) VALUES ($1, $2, $2)",
        [(SELLER, customer_of(number)) for number in range(SHAPES["columns"].customers)],
    )


def serve(name: str) -> None:
    async def live() -> None:
        settings = importlib.import_module(f"{name}.settings").Settings()
        service: Service = importlib.import_module(f"{name}.main").build(settings)
        await service.run()

    uvloop.run(live())


if __name__ == "__main__":
    if sys.argv[1:]:
        serve(sys.argv[1])
    else:
        uvloop.run(main())
