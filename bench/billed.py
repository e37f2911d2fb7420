"""Knows who is billed in the bench of the bill run, what they used, and what they owe, by an arithmetic of its own.

The first customer is made by the services, through their contracts. The others are copies of its rows with ids of their
own, and have their personal data sealed with keys of their own, as everybody's are.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

import asyncpg
from google.type import decimal_pb2, postal_address_pb2

from common import ids, wire
from common.ids import SellerId
from common.vault import Vault
from saldo.catalog.v1 import catalog_service_pb2, plan_pb2, price_pb2
from saldo.metering.v1 import metering_service_pb2
from saldo.metering.v1.meter_pb2 import Meter
from saldo.metering.v1.usage_event_pb2 import EventColumns
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from subscriptions.store.personal_data import LABEL

SEED: Final = 20_261_001
CURRENCY: Final = "EUR"
METERS: Final = ("calls", "gigabytes", "minutes")
FEE: Final = Decimal("20.00")
TIERS: Final = ((Decimal(100), Decimal("0.10")), (Decimal(1_000), Decimal("0.05")), (None, Decimal("0.0125")))
"""Graduated: up to how many, and what each of them costs."""

EVENTS_EACH: Final = 4
"""Of each customer on each meter."""

UNITS_MAX: Final = 600
EVENTS_PER_CALL: Final = 6_000
MICROS: Final = 1_000_000
CENT: Final = Decimal("0.01")
CONTACT: Final = customer_pb2.Contact(
    display_name="Ada",
    email="ada@example.com",
    address=postal_address_pb2.PostalAddress(region_code="GB", locality="London", address_lines=["1 Quay Street"]),
)

Any_ = Any  # Any: grpc's stubs, compiled when this runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Customers:
    """Who is billed, in the order in which they were made, and how much each used on each meter."""

    ids: Sequence[str]
    used: dict[str, list[int]] = field(default_factory=dict)

    def owed_cents(self, customer_id: str) -> int:
        lines = [FEE, *(graduated(units) for units in self.used.get(customer_id, [0] * len(METERS)))]
        return sum(int(line.quantize(CENT, ROUND_HALF_UP) * 100) for line in lines)


def graduated(units: int) -> Decimal:
    """Each tier's part at its own price."""
    amount, below = Decimal(0), Decimal(0)
    for up_to, unit_price in TIERS:
        within = max(Decimal(0), (Decimal(units) if up_to is None else min(Decimal(units), up_to)) - below)
        amount += within * unit_price
        below = up_to or below
    return amount


async def create_offer(catalog: Any_, metering: Any_, metadata: Any) -> plan_pb2.Plan:  # Any: as gRPC has it
    """A plan of a fee and three meters, all of them billed when the month is over."""
    for code in METERS:
        request = metering_service_pb2.CreateMeterRequest(code=code, display_name=code, aggregation=Meter.SUM)
        await metering.CreateMeter(request, metadata=metadata)
    tiers = [
        price_pb2.Tier(
            up_to=None if up_to is None else decimal_pb2.Decimal(value=str(up_to)),
            unit_price=decimal_pb2.Decimal(value=str(unit_price)),
        )
        for up_to, unit_price in TIERS
    ]
    models: list[dict[str, Any]] = [
        {"flat": price_pb2.FlatModel(amount=decimal_pb2.Decimal(value=str(FEE)))}
    ]  # Any: models
    models += [{"graduated": price_pb2.GraduatedModel(tiers=tiers), "meter": code} for code in METERS]
    prices = []
    for number, model in enumerate(models):
        product = await catalog.CreateProduct(
            catalog_service_pb2.CreateProductRequest(code=f"product-{number}", display_name=f"Product {number}"),
            metadata=metadata,
        )
        prices.append(
            price_pb2.Price(
                code=f"price-{number}",
                product_id=product.id,
                currency=CURRENCY,
                billing_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.MONTH, count=1),
                billing_timing=price_pb2.Price.IN_ARREARS,
                **model,
            )
        )
    plan = await catalog.CreatePlan(
        catalog_service_pb2.CreatePlanRequest(code="plan", display_name="Plan", prices=prices), metadata=metadata
    )
    published: plan_pb2.Plan = await catalog.PublishPlan(
        catalog_service_pb2.PublishPlanRequest(id=plan.id), metadata=metadata
    )
    return published


async def create_first(
    subscriptions: Any_, plan: plan_pb2.Plan, start: datetime, metadata: Any
) -> str:  # Any: as above
    """Through the contracts; the customer's id."""
    customer = await subscriptions.CreateCustomer(
        pb.CreateCustomerRequest(
            contact=CONTACT, billing_profile=customer_pb2.BillingProfile(currency=CURRENCY, time_zone="UTC")
        ),
        metadata=metadata,
    )
    await subscriptions.CreateSubscription(
        pb.CreateSubscriptionRequest(
            customer_id=customer.id,
            plan_id=plan.id,
            start_time=wire.timestamp(start),
            items=[subscription_pb2.ItemSpec(price_id=price.id) for price in plan.prices],
        ),
        metadata=metadata,
    )
    customer_id: str = customer.id
    return customer_id


TABLES: Final = ("customers", "data_keys", "subscriptions", "subscription_terms")


async def copy_first(
    connection: asyncpg.Connection, vault: Vault, seller_id: SellerId, first_id: str, count: int, now: datetime
) -> list[str]:
    """So many others like the first: their ids."""
    found = {table: [dict(row) for row in await connection.fetch(f"SELECT * FROM {table}")] for table in TABLES}
    subscription_id = found["subscriptions"][0]["id"]
    item_ids = [row["item_id"] for row in found["subscription_terms"]]
    copies: dict[str, list[dict[str, Any]]] = {table: [] for table in TABLES}  # Any: of whatever types the columns have
    made = []
    plain = customer_pb2.Customer(contact=CONTACT).SerializeToString(deterministic=True)
    for _ in range(count):
        names = {first_id: ids.mint("cus", now), subscription_id: ids.mint("sub", now)}
        names |= {item_id: ids.mint("subi", now) for item_id in item_ids}
        made.append(names[first_id])
        for table in TABLES:
            copies[table] += [_renamed(row, names) for row in found[table]]
        key, wrapped = vault.new_key(subject=f"{seller_id}/{names[first_id]}")
        copies["customers"][-1]["sealed_personal_data"] = key.seal(plain, label=LABEL)
        copies["data_keys"][-1] |= {"master_key_id": wrapped.master_key_id, "wrapped_key": wrapped.sealed}
    async with connection.transaction():
        for table in TABLES:
            columns = list(copies[table][0])
            await connection.copy_records_to_table(
                table, columns=columns, records=[[row[name] for name in columns] for row in copies[table]]
            )
    await connection.execute("VACUUM ANALYZE")
    return made


def _renamed(row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:  # Any: as above
    def renamed(value: Any) -> Any:  # Any: as above
        if not isinstance(value, str):
            return value
        for old, new in names.items():
            value = value.replace(old, new)
        return value

    return {name: renamed(value) for name, value in row.items()}


def usage_requests(customers: Customers, start: datetime) -> Iterator[bytes]:
    """A few events of each customer on each meter in the month that begins then, and the note of how many they are."""
    chance = random.Random(SEED)  # figures, not secrets
    at_once = EVENTS_PER_CALL // (EVENTS_EACH * len(METERS))
    sent = 0
    first = int(start.timestamp()) * MICROS
    for begin in range(0, len(customers.ids), at_once):
        chosen = customers.ids[begin : begin + at_once]
        of_customers, meters, units = [], [], []
        for n, customer_id in enumerate(chosen):
            used = [0] * len(METERS)
            for meter in range(len(METERS)):
                for _ in range(EVENTS_EACH):
                    amount = chance.randrange(1, UNITS_MAX)
                    used[meter] += amount
                    of_customers.append(1 + len(METERS) + n)
                    meters.append(1 + meter)
                    units.append(amount)
            customers.used[customer_id] = used
        names = [f"event-{sent + n:010}" for n in range(len(units))]
        sent += len(units)
        yield metering_service_pb2.IngestEventsRequest(
            columns=EventColumns(
                strings=["bench", *METERS, *chosen],
                ids="".join(names).encode(),
                id_lengths=[len(names[0])],
                sources=[0],
                customers=of_customers,
                meters=meters,
                times_micros=[first + (n * 7_919 % (27 * 86_400)) * MICROS for n in range(len(units))],
                units=units,
            ),
            exceptions_only=True,
        ).SerializeToString()


def month_before(now: datetime) -> tuple[datetime, datetime]:
    """The last whole month in UTC."""
    end = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (end - timedelta(days=1)).replace(day=1), end
