"""Customers that turn out to be one: what the one had to its credit is the other one's, and whatever it still gets."""

from __future__ import annotations

from typing import Any

import grpc

from common import ids, wire
from common.testing import SANDBOX_START, Suite, refused
from saldo.invoicing.v1 import credit_note_pb2 as notes
from saldo.invoicing.v1 import credit_pb2, invoice_pb2
from saldo.invoicing.v1 import credit_service_pb2 as pb
from saldo.invoicing.v1 import invoicing_service_pb2 as invoicing
from saldo.invoicing.v1 import ledger_service_pb2 as ledger
from saldo.invoicing.v1.ledger_pb2 import LedgerAccount
from saldo.subscriptions.v1 import customer_pb2, events_pb2
from saldo.subscriptions.v1 import customers_service_pb2 as customers
from saldo.subscriptions.v1.customers_service_pb2_grpc import CustomersServiceStub

from .conftest import Business, dead_letters, flat, utc
from .test_credit_notes import credit, part
from .test_invoices import DAY, billed_for_seats
from .wallet import WalletOf, gbp, pence_of

PROMOTIONAL, MERGE = credit_pb2.CreditGrant.PROMOTIONAL, credit_pb2.CreditGrant.MERGE
MOVED = credit_pb2.CreditMovement.MOVED


async def merge(business: Business, source_id: str, target_id: str) -> None:
    stub: Any = business.suite.stub(CustomersServiceStub, "subscriptions")  # Any: grpc stubs are generated
    await stub.MergeCustomers(customers.MergeCustomersRequest(source_id=source_id, target_id=target_id))
    await business.suite.quiet()


async def open_grants(business: Business, customer: customer_pb2.Customer) -> list[credit_pb2.CreditGrant]:
    """Those of which something is left."""
    listed = await business.credit.ListCreditGrants(
        pb.ListCreditGrantsRequest(customer_id=customer.id, open_only=True, page_size=100)
    )
    return list(listed.grants)


async def left(business: Business, customer: customer_pb2.Customer) -> int:
    return sum(pence_of(each.remaining) for each in await open_grants(business, customer))


async def test_the_credit_of_who_is_merged_is_the_other_ones(suite: Suite, business: Business) -> None:
    """Each grant as it could be used: whose money it was, in which order, until when, for what; and paid with, once."""
    shop, group = await business.customer(), await business.customer()
    gone, stays = WalletOf(business, shop), WalletOf(business, group)
    price = await business.price("Fee", **flat("10"))
    plan = await business.plan(price)
    expiry = SANDBOX_START + 300 * DAY
    scope = credit_pb2.CreditScope(price_ids=[plan.prices[0].id])
    await gone.give(3_00, kind=PROMOTIONAL, expire_time=expiry, priority=7, scope=scope)
    await gone.give(5_00, effective_time=SANDBOX_START + 200 * DAY)
    await stays.give(1_00)
    before = await open_grants(business, shop)
    await merge(business, shop.id, group.id)
    assert await open_grants(business, shop) == []
    after = [each for each in await open_grants(business, group) if each.source == MERGE]
    assert [each.document_id for each in after] == [each.id for each in before]
    for old, new in zip(before, after, strict=True):
        assert (new.kind, new.priority, new.scope, new.amount) == (old.kind, old.priority, old.scope, old.amount)
        assert (new.effective_time, new.expire_time) == (old.effective_time, old.expire_time)
    moves = await business.credit.ListCreditMovements(pb.ListCreditMovementsRequest(customer_id=shop.id))
    assert [each.document_id for each in moves.movements if each.kind == MOVED] == [each.id for each in after]
    await business.subscribe(group, plan)
    [invoice] = await business.invoices(group)
    assert pence_of(invoice.credit_applied) == 4_00
    event = events_pb2.CustomerMerged(customer=customer_pb2.Customer(id=shop.id, merged_into_id=group.id))
    await suite.announce(event, source="subscriptions")
    await suite.quiet()
    assert await left(business, group) == 5_00
    assert not await dead_letters(suite)


async def test_the_books_of_both_say_where_it_went(business: Business) -> None:
    """What the one has less, the other has more; over both nothing is left on the way."""
    shop, group = await business.customer(), await business.customer()
    await WalletOf(business, shop).give(5_00)
    await merge(business, shop.id, group.id)
    today = wire.date((await business.now()).date())
    for customer, owed in ((shop, 0), (group, 5_00)):
        statement = await business.ledger.GetCustomerStatement(
            ledger.GetCustomerStatementRequest(
                customer_id=customer.id, currency="GBP", start_date=today, end_date=today
            )
        )
        assert pence_of(statement.closing_credit_balance) == owed
    trial = await business.ledger.GetTrialBalance(ledger.GetTrialBalanceRequest(as_of_date=today))
    balances = {each.account: pence_of(each.balance) for each in trial.balances}
    assert (balances[LedgerAccount.CREDIT_TRANSFERS], balances[LedgerAccount.CUSTOMER_CREDIT]) == (0, -5_00)


async def test_what_it_still_gets_goes_the_same_way(suite: Suite, business: Business) -> None:
    """What is free again of a reservation, what a credit note leaves of an old invoice, what somebody gives it by hand;
    and what was reserved can be used until then. Also when the other one is merged in its turn.
    """
    [owed] = [await billed_for_seats(business)]
    shop = customer_pb2.Customer(id=owed.customer_id)
    group, holding = await business.customer(), await business.customer()
    gone = WalletOf(business, shop)
    await business.pay(owed, payment_id=ids.mint("pay", SANDBOX_START))
    await gone.give(8_00)
    used, unused = await gone.reserve(2_00), await gone.reserve(3_00)
    await merge(business, shop.id, group.id)
    assert (await left(business, shop), await left(business, group)) == (5_00, 3_00)
    await gone.commit(used, 1_50)
    await business.credit.ReleaseCreditReservation(pb.ReleaseCreditReservationRequest(id=unused.id))
    await suite.quiet()
    assert (await left(business, shop), await left(business, group)) == (0, 6_50)
    await credit(business, owed, part(owed, 4_00))
    await gone.give(1_00)
    await suite.quiet()
    assert (await left(business, shop), await left(business, group)) == (0, 11_50)
    await merge(business, group.id, holding.id)
    await gone.give(25)
    await suite.quiet()
    assert [await left(business, each) for each in (shop, group, holding)] == [0, 0, 11_75]
    assert not await dead_letters(suite)


async def test_a_customer_that_had_none_hands_on_its_first(suite: Suite, business: Business) -> None:
    """The merge is remembered, whatever was there when it came."""
    owed = await billed_for_seats(business)
    shop, group = customer_pb2.Customer(id=owed.customer_id), await business.customer()
    await merge(business, shop.id, group.id)
    await business.pay(owed, payment_id=ids.mint("pay", SANDBOX_START), pence=12_00)
    assert [await left(business, each) for each in (shop, group)] == [0, 2_00]


async def test_nothing_more_is_bought_for_it(suite: Suite, business: Business) -> None:
    """Its rule ends, and nobody makes another; the one that was open grants to whom it is part of, when it is paid."""
    shop, group = await business.customer(), await business.customer()
    rule = pb.SetTopUpRuleRequest(customer_id=shop.id, amount=gbp(10_00), threshold=gbp(5_00))
    await business.credit.SetTopUpRule(rule)
    await suite.quiet()
    [top_up] = await business.invoices(shop)
    await merge(business, shop.id, group.id)
    with refused("CREDIT_TOP_UP_RULE_NOT_FOUND"):
        await business.credit.GetTopUpRule(pb.GetTopUpRuleRequest(customer_id=shop.id, currency="GBP"))
    with refused("CUSTOMER_IS_PART_OF_ANOTHER", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await business.credit.SetTopUpRule(rule)
    assert refusal.metadata["merged_into"] == group.id
    await business.pay(top_up, payment_id=ids.mint("pay", SANDBOX_START))
    await suite.travel(utc(2026, 1, 5))
    assert [await left(business, each) for each in (shop, group)] == [0, 10_00]
    assert [each.state for each in await business.invoices(shop)] == [invoice_pb2.Invoice.PAID]


async def test_what_an_annulled_invoice_had_taken_up_goes_on_too(suite: Suite, business: Business) -> None:
    """It comes back to where it was, which is the other one's by now."""
    shop, group = await business.customer(), await business.customer()
    await WalletOf(business, shop).give(4_00)
    plan = await business.plan(await business.price("Fee", **flat("10")))
    await business.subscribe(shop, plan)
    [invoice] = await business.invoices(shop)
    assert pence_of(invoice.credit_applied) == 4_00
    await merge(business, shop.id, group.id)
    await business.invoicing.VoidInvoice(invoicing.VoidInvoiceRequest(id=invoice.id, reason=notes.CreditNote.DUPLICATE))
    await suite.quiet()
    assert [await left(business, each) for each in (shop, group)] == [0, 4_00]
