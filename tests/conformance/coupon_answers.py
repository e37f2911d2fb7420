"""Answers the cases about coupons by invoices: what is taken off lines that were really billed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from google.type.decimal_pb2 import Decimal as DecimalPb

from saldo.catalog.v1 import coupon_pb2
from saldo.catalog.v1 import coupon_service_pb2 as coupons_pb
from saldo.catalog.v1.price_pb2 import BillingInterval
from saldo.invoicing.v1.invoice_pb2 import Invoice
from tests.conformance.agreements import agree, customer_in, flat_price
from tests.conformance.case import Json, Unsupported, check_fields
from tests.conformance.money_answers import money
from tests.conformance.rooms import Rooms
from tests.support.sandbox import Sandbox

NOW: Final = datetime(2025, 6, 1, tzinfo=UTC)
YEARLY: Final = BillingInterval(unit=BillingInterval.YEAR, count=1)
COUPON_FIELDS: Final = frozenset(["type", "value", "already_used"])

_number = itertools.count(1)


async def billed(lines: Sequence[str], coupons: Sequence[Json], currency: str, rooms: Rooms) -> Invoice:
    """An invoice of these lines with these coupons, in order; what was used of one was used on an invoice before."""
    async with rooms.at(NOW) as sandbox:
        customer = await customer_in(sandbox, zone="UTC", currency=currency)
        created = [await _create(told, currency, sandbox) for told in coupons]
        used = [
            (told["already_used"], coupon_id)
            for told, coupon_id in zip(coupons, created, strict=True)
            if Decimal(told.get("already_used", "0"))
        ]
        for amount, coupon_id in used:
            price = flat_price(amount, YEARLY, currency=currency)
            await agree(sandbox, price, start=NOW, customer=customer, coupons=[coupon_id])
        await sandbox.quiet()
        before = {invoice.id for invoice in await sandbox.invoices(customer)}
        prices = [flat_price(amount, YEARLY, code=f"line-{n}", currency=currency) for n, amount in enumerate(lines)]
        await agree(sandbox, *prices, start=NOW, customer=customer, coupons=created)
        await sandbox.quiet()
        [invoice] = [each for each in await sandbox.invoices(customer) if each.id not in before]
    assert isinstance(invoice, Invoice)
    return invoice


def coupon_of(told: Json, currency: str) -> coupon_pb2.Coupon:
    check_fields(told, COUPON_FIELDS)
    coupon = coupon_pb2.Coupon(duration=coupon_pb2.Coupon.ONCE)
    if told["type"] == "percent":
        coupon.percent_off.percent.CopyFrom(DecimalPb(value=told["value"]))
    elif told["type"] == "amount":
        coupon.amount_off.amounts.append(money(told["value"], currency))
    else:
        raise Unsupported(f"coupon of type {told['type']}")
    return coupon


async def _create(told: Json, currency: str, sandbox: Sandbox) -> str:
    coupon = coupon_of(told, currency)
    coupon.code = f"case-{next(_number)}"
    coupon.display_name = "Coupon"
    made = await sandbox.client.coupons.CreateCoupon(coupons_pb.CreateCouponRequest(coupon=coupon))
    return str(made.id)
