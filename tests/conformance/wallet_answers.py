"""Answers the cases about what a customer has paid beforehand or was given: how it is used up."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from google.type.money_pb2 import Money as MoneyPb

from common import wire
from common.money import Money
from saldo.catalog.v1.price_pb2 import BillingInterval
from saldo.invoicing.v1 import credit_service_pb2 as pb
from saldo.invoicing.v1.credit_pb2 import CreditGrant
from saldo.subscriptions.v1.customer_pb2 import Customer
from tests.conformance.agreements import agree, customer_in, flat_price, instant_of
from tests.conformance.case import Answer, Json, check_fields
from tests.conformance.credit_answers import NOW, YEARLY
from tests.conformance.rooms import Rooms
from tests.support.sandbox import Sandbox

PREPAID_FIELDS: Final = frozenset(["kind", "currency", "wallets", "invoice_total"])
WALLET_FIELDS: Final = frozenset(["balance", "priority"])
BURNED_FIELDS: Final = frozenset(["aggregation", "grants", "usage", "balance_at"])
GRANT_FIELDS: Final = frozenset(["id", "amount", "priority", "effective_at", "expires_at", "voided_at"])
USAGE_FIELDS: Final = frozenset(["timestamp", "quantity"])
DAILY: Final = BillingInterval(unit=BillingInterval.DAY, count=1)
DAY: Final = timedelta(days=1)
UNITS: Final = "USD"
"""What credit is counted in where it is of no currency: a unit is a dollar."""


async def prepaid(given: Json, rooms: Rooms) -> Answer:
    """What was paid beforehand pays an invoice of so much."""
    check_fields(given, PREPAID_FIELDS)
    currency = given["currency"]
    async with rooms.at(NOW) as sandbox:
        customer = await customer_in(sandbox, zone="UTC", currency=currency)
        grants = []
        for wallet in given["wallets"]:
            check_fields(wallet, WALLET_FIELDS)
            amount = _money(wallet["balance"], currency)
            grants.append(await _give(sandbox, customer, amount, priority=wallet["priority"]))
        price = flat_price(given["invoice_total"], YEARLY, currency=currency)
        await agree(sandbox, price, start=NOW, customer=customer)
        await sandbox.quiet()
        [invoice] = await sandbox.invoices(customer)
        left = [_decimal((await _now(sandbox, each)).remaining) for each in grants]
    return {
        "used": [_decimal(each.amount) - rest for each, rest in zip(grants, left, strict=True)],
        "left": left,
        "remaining_due": _decimal(invoice.amount_due),
    }


async def burned_down(given: Json, rooms: Rooms) -> Answer:
    """What is used on a day is billed when that is over, for a dollar each; what no credit covers is overage."""
    check_fields(given, BURNED_FIELDS)
    moments = {instant_of(given["balance_at"])}
    for grant in given["grants"]:
        check_fields(grant, GRANT_FIELDS)
        moments |= {instant_of(grant[name]) for name in ("effective_at", "voided_at") if name in grant}
    for use in given["usage"]:
        check_fields(use, USAGE_FIELDS)
        moments.add(instant_of(use["timestamp"]))
    async with rooms.at(min(moments)) as sandbox:
        customer = await customer_in(sandbox, zone="UTC", currency=UNITS)
        grants = {
            grant["id"]: await _give(
                sandbox,
                customer,
                _money(grant["amount"], UNITS),
                priority=grant["priority"],
                effective=instant_of(grant["effective_at"]),
                expiry=instant_of(grant["expires_at"]),
            )
            for grant in given["grants"]
        }
        for at in sorted(moment for moment in moments if moment <= instant_of(given["balance_at"])):
            await sandbox.travel(at)
            for grant in given["grants"]:
                if "voided_at" in grant and instant_of(grant["voided_at"]) == at:
                    revoke = pb.RevokeCreditGrantRequest(id=grants[grant["id"]].id)
                    await sandbox.client.credit.RevokeCreditGrant(revoke)
            for use in given["usage"]:
                if instant_of(use["timestamp"]) == at:
                    price = flat_price(use["quantity"], DAILY, currency=UNITS, in_arrears=True)
                    await (await agree(sandbox, price, start=at, customer=customer)).end(at + DAY)
        now = {name: await _now(sandbox, grant) for name, grant in grants.items()}
        overage = sum((_decimal(each.amount_due) for each in await sandbox.invoices(customer)), Decimal(0))
    usable = {name: _decimal(each.remaining) if each.state == CreditGrant.ACTIVE else 0 for name, each in now.items()}
    return {"balances": usable, "overage": overage}


async def _give(
    sandbox: Sandbox,
    customer: Customer,
    amount: MoneyPb,
    *,
    priority: str,
    effective: datetime | None = None,
    expiry: datetime | None = None,
) -> CreditGrant:
    request = pb.GrantCreditRequest(
        customer_id=customer.id,
        amount=amount,
        kind=CreditGrant.PAID,
        priority=int(priority),
        effective_time=None if effective is None else wire.timestamp(effective),
        expire_time=None if expiry is None else wire.timestamp(expiry),
    )
    made = await sandbox.client.credit.GrantCredit(request)
    assert isinstance(made, CreditGrant)
    return made


async def _now(sandbox: Sandbox, grant: CreditGrant) -> CreditGrant:
    found = await sandbox.client.credit.GetCreditGrant(pb.GetCreditGrantRequest(id=grant.id))
    assert isinstance(found, CreditGrant)
    return found


def _money(amount: str, currency: str) -> MoneyPb:
    return wire.money(Money.rounded(Decimal(amount), currency))


def _decimal(amount: MoneyPb) -> Decimal:
    return wire.parse_money(amount, field="amount").amount
