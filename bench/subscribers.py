"""Knows how very many customers, each with a subscription, get into the tables, and what the calendar says of them.

The first few are made by the service itself, through its contracts. The others are copies of their rows with another
id, start and time zone; that such a row is what the service writes is verified with those that it wrote.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any, Final

import asyncpg
from google.type import decimal_pb2, interval_pb2, postal_address_pb2

from common import ids, wire
from common.ids import SellerId
from common.vault import Vault
from saldo.catalog.v1 import catalog_service_pb2, plan_pb2, price_pb2
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from subscriptions.store.personal_data import LABEL
from tools.check.calendar import Rhythm, Span

SEED: Final = 20260101
ZONES: Final = ("Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC")
"""With and without clock changes, one of them by half an hour."""

OLDEST: Final = timedelta(days=400)
YOUNGEST: Final = timedelta(days=70)
STILL: Final = timedelta(hours=2)
"""For so long no period ends by itself, or it would be announced among those that are measured."""

QUANTITIES: Final = ("5", "2.5", None)
"""Of the three items of each: two are billed in advance, one is metered."""

METER: Final = "api_calls"
CURRENCY: Final = "EUR"
CONTACT: Final = customer_pb2.Contact(
    display_name="Ada",
    email="ada@example.com",
    address=postal_address_pb2.PostalAddress(region_code="GB", locality="London", address_lines=["1 Quay Street"]),
)

Row = dict[str, Any]  # Any: of whatever types the columns have


@dataclass(frozen=True, slots=True)
class Life:
    """When a subscription began and where, and its periods by the calendar."""

    rhythm: Rhythm
    ended: Span
    """The last period that is over."""
    under_way: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber:
    """A customer with one subscription of three monthly items."""

    customer_id: str
    subscription_id: str
    item_ids: tuple[str, ...]
    life: Life


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The plan that they all have."""

    plan_id: str
    plan_code: str
    product_id: str
    price_ids: tuple[str, ...]


async def create_offer(catalog: Any, metadata: Any) -> Offer:  # Any: grpc's stubs, compiled when this runs
    product = await catalog.CreateProduct(
        catalog_service_pb2.CreateProductRequest(code="product", display_name="Product"), metadata=metadata
    )
    prices = [
        price_pb2.Price(
            code=f"price-{number}",
            product_id=product.id,
            currency=CURRENCY,
            billing_interval=price_pb2.BillingInterval(unit=price_pb2.BillingInterval.MONTH, count=1),
            billing_timing=price_pb2.Price.IN_ADVANCE if quantity else price_pb2.Price.IN_ARREARS,
            meter="" if quantity else METER,
            per_unit=price_pb2.PerUnitModel(unit_price=decimal_pb2.Decimal(value="12.50")),
        )
        for number, quantity in enumerate(QUANTITIES)
    ]
    plan = await catalog.CreatePlan(
        catalog_service_pb2.CreatePlanRequest(
            code="plan", display_name="Plan", prices=prices, kind=plan_pb2.Plan.KIND_UNSPECIFIED
        ),
        metadata=metadata,
    )
    plan = await catalog.PublishPlan(catalog_service_pb2.PublishPlanRequest(id=plan.id), metadata=metadata)
    return Offer(
        plan_id=plan.id,
        plan_code=plan.code,
        product_id=product.id,
        price_ids=tuple(price.id for price in plan.prices),
    )


async def create_subscriber(stub: Any, metadata: Any, offer: Offer, life: Life) -> Subscriber:  # Any: as above
    """Through the contracts of the service; it may take a moment until the ends of past periods are announced."""
    rhythm = life.rhythm
    customer = await stub.CreateCustomer(
        pb.CreateCustomerRequest(
            contact=CONTACT, billing_profile=customer_pb2.BillingProfile(currency=CURRENCY, time_zone=rhythm.zone)
        ),
        metadata=metadata,
    )
    subscription = await stub.CreateSubscription(
        pb.CreateSubscriptionRequest(
            customer_id=customer.id,
            plan_id=offer.plan_id,
            start_time=wire.timestamp(rhythm.anchor),
            items=[
                subscription_pb2.ItemSpec(
                    price_id=price_id, quantity=decimal_pb2.Decimal(value=quantity) if quantity else None
                )
                for price_id, quantity in zip(offer.price_ids, QUANTITIES, strict=True)
            ],
        ),
        metadata=metadata,
    )
    return Subscriber(
        customer_id=customer.id,
        subscription_id=subscription.id,
        item_ids=tuple(item.id for item in subscription.items),
        life=life,
    )


def lives(now: datetime) -> Iterator[Life]:
    """Begun on any day of the month in the year before, one after the other in every zone, without end."""
    generator = random.Random(SEED)  # figures, not secrets
    for number in count():
        age = timedelta(seconds=generator.randrange(YOUNGEST // _SECOND, OLDEST // _SECOND))
        rhythm = Rhythm((now - age).replace(microsecond=0), ZONES[number % len(ZONES)], "MONTH", 1)
        *_, ended, under_way = rhythm.spans(rhythm.anchor, now)
        if under_way.start < now - STILL and now + STILL < under_way.end:
            yield Life(rhythm, ended, under_way)


def subscriber(life: Life, now: datetime) -> Subscriber:
    return Subscriber(
        customer_id=ids.mint("cus", now),
        subscription_id=ids.mint("sub", now),
        item_ids=tuple(ids.mint("subi", now) for _ in QUANTITIES),
        life=life,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The tables as an administrator fills them: with what differs from the rows of one that the service made."""

    connection: asyncpg.Connection
    vault: Vault
    seller_id: SellerId
    offer: Offer
    customer: Row
    subscription: Row

    async def fill(self, subscribers: Sequence[Subscriber]) -> None:
        customers = [self._customer(each) for each in subscribers]
        async with self.connection.transaction():
            await self._copy("customers", [customer for customer, _ in customers])
            await self._copy("data_keys", [data_key for _, data_key in customers])
            await self._copy("subscriptions", [self.subscription_of(each) for each in subscribers])
            await self._copy("subscription_terms", [row for each in subscribers for row in self.terms_of(each)])
        await self.connection.execute("ANALYZE")

    async def is_as_written(self, made: Sequence[Subscriber]) -> bool:
        """Whether the rows that the service wrote for these are the ones that would have been copied for them."""
        named = [each.subscription_id for each in made]
        query = "SELECT * FROM {} WHERE {} = ANY($1) ORDER BY {}"
        found = await self.connection.fetch(query.format("subscriptions", "id", "id"), named)
        terms = await self.connection.fetch(query.format("subscription_terms", "subscription_id", "item_id"), named)
        expected = sorted((self.subscription_of(each) for each in made), key=lambda row: str(row["id"]))
        expected_terms = sorted((row for each in made for row in self.terms_of(each)), key=lambda row: row["item_id"])
        return [_comparable(dict(row)) for row in found] == [_comparable(row) for row in expected] and [
            dict(row) for row in terms
        ] == expected_terms

    def subscription_of(self, subscriber: Subscriber) -> Row:
        rhythm = subscriber.life.rhythm
        opening = json.loads(self.subscription["opening"]) | {
            "customer_id": subscriber.customer_id,
            "start_time": rhythm.anchor.isoformat(),
            "items": [
                {
                    "id": item_id,
                    "plan_id": self.offer.plan_id,
                    "price_id": price_id,
                    "product_id": self.offer.product_id,
                    "interval_unit": "MONTH",
                    "interval_count": 1,
                    "billing_timing": "IN_ADVANCE" if quantity else "IN_ARREARS",
                    "meter": "" if quantity else METER,
                    "quantity": quantity,
                }
                for item_id, price_id, quantity in self._items(subscriber)
            ],
        }
        return self.subscription | {
            "id": subscriber.subscription_id,
            "customer_id": subscriber.customer_id,
            "time_zone": rhythm.zone,
            "start_time": rhythm.anchor,
            "opening": json.dumps(opening),
            "announced_through": subscriber.life.ended.end,
            "next_moment_time": subscriber.life.under_way.end,
        }

    def terms_of(self, subscriber: Subscriber) -> list[Row]:
        return [
            {
                "seller_id": self.seller_id,
                "item_id": item_id,
                "start_time": subscriber.life.rhythm.anchor,
                "end_time": None,
                "subscription_id": subscriber.subscription_id,
                "customer_id": subscriber.customer_id,
                "plan_id": self.offer.plan_id,
                "price_id": price_id,
                "quantity": Decimal(quantity) if quantity else None,
            }
            for item_id, price_id, quantity in self._items(subscriber)
        ]

    def _items(self, subscriber: Subscriber) -> Iterator[tuple[str, str, str | None]]:
        return zip(subscriber.item_ids, self.offer.price_ids, QUANTITIES, strict=True)

    def _customer(self, subscriber: Subscriber) -> tuple[Row, Row]:
        """With the key of its personal data."""
        key, wrapped = self.vault.new_key(subject=f"{self.seller_id}/{subscriber.customer_id}")
        plain = customer_pb2.Customer(contact=CONTACT).SerializeToString(deterministic=True)
        customer = self.customer | {
            "id": subscriber.customer_id,
            "time_zone": subscriber.life.rhythm.zone,
            "sealed_personal_data": key.seal(plain, label=LABEL),
        }
        data_key = {
            "seller_id": self.seller_id,
            "customer_id": subscriber.customer_id,
            "master_key_id": wrapped.master_key_id,
            "wrapped_key": wrapped.sealed,
            "create_time": self.customer["create_time"],
        }
        return customer, data_key

    async def _copy(self, table: str, rows: Sequence[Row]) -> None:
        columns = list(rows[0])
        await self.connection.copy_records_to_table(
            table, columns=columns, records=[[row[name] for name in columns] for row in rows]
        )


def expected_schedule(subscriber: Subscriber, offer: Offer, *, after: datetime, through: datetime) -> Any:
    """What is to be billed, by the calendar of the checker, which shares no code with the service."""
    spans = list(subscriber.life.rhythm.spans(after - timedelta(days=40), through + timedelta(days=40)))
    found: list[subscription_pb2.BillablePeriod] = []
    to_come: list[datetime] = []
    for item_id, price_id, quantity in zip(subscriber.item_ids, offer.price_ids, QUANTITIES, strict=True):
        for span in spans:
            bill_time = span.start if quantity else span.end
            if bill_time > through:
                to_come.append(bill_time)
                break
            if bill_time < after:
                continue
            interval = interval_pb2.Interval(start_time=wire.timestamp(span.start), end_time=wire.timestamp(span.end))
            found.append(
                subscription_pb2.BillablePeriod(
                    subscription_id=subscriber.subscription_id,
                    item_id=item_id,
                    customer_id=subscriber.customer_id,
                    price_id=price_id,
                    quantity=decimal_pb2.Decimal(value=quantity) if quantity else None,
                    meter="" if quantity else METER,
                    period=interval,
                    full_period=interval,
                    proration=subscription_pb2.Fraction(numerator=1, denominator=1),
                    bill_time=wire.timestamp(bill_time),
                    currency=CURRENCY,
                    kind=subscription_pb2.BillablePeriod.OWED,
                    plan_id=offer.plan_id,
                )
            )
    found.sort(key=lambda each: each.bill_time.ToDatetime(UTC))
    return pb.CustomerSchedule(
        customer_id=subscriber.customer_id, periods=found, next_bill_time=wire.timestamp(min(to_come))
    )


def _comparable(row: Row) -> Row:
    """The same agreement, however its JSON is spelled, and whenever it was made."""
    agreed = json.loads(row["opening"]) | {"recorded_time": None}
    return row | {"opening": agreed, "create_time": None, "update_time": None}


_SECOND: Final = timedelta(seconds=1)
