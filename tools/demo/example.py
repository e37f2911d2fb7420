"""Knows what a folder of files says, once it has been read: who sells what to whom, and what happens when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from tools.meters import Meter


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    region_code: str
    postal_code: str = ""
    locality: str = ""
    administrative_area: str = ""
    address_lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seller:
    display_name: str
    address: Address
    tax_id: str
    email: str
    payment_instructions: str
    invoice_number_prefix: str
    is_numbered_yearly: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    code: str
    currency: str
    meter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    code: str
    prices: tuple[Price, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    document: str
    """All of it, as it is written: the catalog reads it."""
    meters: tuple[Meter, ...]
    plans: tuple[Plan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentMethod:
    gateway: str
    token: str
    display_name: str
    at: datetime | None
    """None: from the beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractPrice:
    """What was negotiated with a customer in the place of a price of the list. What is None is not said."""

    plan: str
    price: str
    """The code of the price of the list."""
    per_unit: Decimal | None
    flat: Decimal | None
    """Exactly one of these two is said."""
    free_units: Decimal | None
    discount_percent: Decimal | None
    minimum_amount: Decimal | None
    maximum_amount: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    price: str
    quantity: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    at: datetime
    timing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    plan: str
    start: datetime
    billing_day: int
    trial_days: int | None
    """None means what the plan says."""
    items: tuple[Item, ...]
    cancel: Cancellation | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    id: str
    """The external id: what usage events name the customer by."""
    display_name: str
    email: str
    address: Address | None
    currency: str
    time_zone: str
    language_code: str
    net_terms_days: int
    collection_method: str
    payment_methods: tuple[PaymentMethod, ...]
    contract_prices: tuple[ContractPrice, ...]
    subscriptions: tuple[Subscription, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DunningPolicy:
    display_name: str
    retry_wait_days: tuple[int, ...]
    final_wait_days: int
    final_action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """One usage event to be, and where it was read."""

    place: str
    source: str
    id: str
    customer: str
    meter: str
    time: datetime
    value: Decimal
    send_time: datetime
    repeat: int
    """How many times it is sent in all."""
    dimensions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageFile:
    """How one file of usage is read and sent."""

    file: str
    columns: dict[str, str]
    """The header that holds each field: customer, meter, time, value, id, source, send_time, repeat."""
    fixed: dict[str, str]
    """Fields that are the same in every row."""
    late_by: timedelta
    repeat: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    start: datetime
    time_zone: str
    months: int
    closing_days: int
    """How long to go on after the last month, for what was billed at its end."""
    usage: tuple[UsageFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Everything in a folder, sound and consistent."""

    folder: Path
    seller: Seller
    catalog: Catalog
    customers: tuple[Customer, ...]
    policy: DunningPolicy | None
    story: Story
    rows: tuple[UsageRow, ...]
    """In the order in which they are sent."""
