"""Knows how tests give a customer credit, use it, and look at what there is of it; amounts are in pence."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from google.type.money_pb2 import Money as MoneyPb

from common import wire
from common.money import Money
from saldo.invoicing.v1 import credit_pb2, invoice_pb2
from saldo.invoicing.v1 import credit_service_pb2 as pb
from saldo.subscriptions.v1 import customer_pb2

from .conftest import Business, per_unit


def gbp(pence: int) -> MoneyPb:
    return wire.money(Money(pence, "GBP"))


def pence_of(amount: MoneyPb) -> int:
    return wire.parse_money(amount, field="amount").minor


class WalletOf:
    """What one customer has in pounds."""

    def __init__(self, business: Business, customer: customer_pb2.Customer) -> None:
        self._business = business
        self.customer = customer

    async def give(self, pence: int, **told: Any) -> credit_pb2.CreditGrant:  # Any: fields of the request
        if isinstance(told.get("expire_time"), datetime):
            told["expire_time"] = wire.timestamp(told["expire_time"])
        if isinstance(told.get("effective_time"), datetime):
            told["effective_time"] = wire.timestamp(told["effective_time"])
        request = pb.GrantCreditRequest(
            **{"customer_id": self.customer.id, "amount": gbp(pence), "kind": credit_pb2.CreditGrant.PAID, **told}
        )
        grant: credit_pb2.CreditGrant = await self._business.credit.GrantCredit(request)
        return grant

    async def reserve(self, pence: int, **told: Any) -> credit_pb2.CreditReservation:  # Any: as above
        request = pb.ReserveCreditRequest(
            **{"customer_id": self.customer.id, "amount": gbp(pence), "time_to_live_seconds": 60, **told}
        )
        reservation: credit_pb2.CreditReservation = await self._business.credit.ReserveCredit(request)
        return reservation

    async def commit(
        self, reservation: credit_pb2.CreditReservation, pence: int | None = None
    ) -> credit_pb2.CreditReservation:
        amount = None if pence is None else gbp(pence)
        committed: credit_pb2.CreditReservation = await self._business.credit.CommitCreditReservation(
            pb.CommitCreditReservationRequest(id=reservation.id, amount=amount)
        )
        return committed

    async def release(self, reservation: credit_pb2.CreditReservation) -> credit_pb2.CreditReservation:
        released: credit_pb2.CreditReservation = await self._business.credit.ReleaseCreditReservation(
            pb.ReleaseCreditReservationRequest(id=reservation.id)
        )
        return released

    async def balance(self) -> credit_pb2.CreditBalance:
        request = pb.GetCreditBalanceRequest(customer_id=self.customer.id, currency="GBP")
        balance: credit_pb2.CreditBalance = await self._business.credit.GetCreditBalance(request)
        return balance

    async def available(self) -> int:
        return pence_of((await self.balance()).available)

    async def grant(self, grant: credit_pb2.CreditGrant) -> credit_pb2.CreditGrant:
        found: credit_pb2.CreditGrant = await self._business.credit.GetCreditGrant(
            pb.GetCreditGrantRequest(id=grant.id)
        )
        return found

    async def movements(self, grant: credit_pb2.CreditGrant | None = None) -> list[tuple[str, int, int, int]]:
        """What happened, with how much, what was left, and how much of that reserved: page by page."""
        found: list[credit_pb2.CreditMovement] = []
        request = pb.ListCreditMovementsRequest(
            customer_id=self.customer.id, grant_id=grant.id if grant else "", page_size=2
        )
        while True:
            page = await self._business.credit.ListCreditMovements(request)
            found += page.movements
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        kind = credit_pb2.CreditMovement.Kind
        return [
            (kind.Name(each.kind), pence_of(each.amount), pence_of(each.remaining), pence_of(each.reserved))
            for each in found
        ]

    async def bill(self, pounds: str, **told: Any) -> invoice_pb2.Invoice:  # Any: fields of the price
        """Something that costs so much, at once; the invoice it is on."""
        before = {invoice.id for invoice in await self._business.invoices(self.customer)}
        plan = await self._business.plan(await self._business.price("Seats", **per_unit(pounds), **told))
        await self._business.subscribe(self.customer, plan)
        [invoice] = [
            each
            for each in await self._business.invoices(self.customer)
            if each.id not in before and not each.top_up_rule_id
        ]
        return invoice


async def new_wallet(business: Business, **profile: Any) -> WalletOf:  # Any: fields of the billing profile
    return WalletOf(business, await business.customer(**profile))
