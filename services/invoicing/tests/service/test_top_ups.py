"""Credit that is bought: an invoice when it is wanted, credit when that is paid; never two at once, never too often."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest

from common import ids, wire
from common.caller import current_caller, service_caller
from common.testing import SANDBOX_START, Suite, refused
from invoicing.usecases import top_ups
from saldo.invoicing.v1 import credit_pb2, events_pb2, invoice_pb2
from saldo.invoicing.v1 import credit_service_pb2 as pb

from .conftest import Business, told, utc
from .test_credit_notes import credit, part, settled
from .test_ledger import balances
from .wallet import WalletOf, gbp, new_wallet, pence_of

DAY = timedelta(days=1)
NOBODY = "cus_01h455vb4pex5vsknk084sn02q"


async def set_rule(business: Business, wallet: WalletOf, **terms: Any) -> credit_pb2.CreditTopUpRule:
    """Fifty pounds when less than ten are left, unless said otherwise."""  # Any: fields of the request
    request = pb.SetTopUpRuleRequest(**{"customer_id": wallet.customer.id, "amount": gbp(50_00), **terms})
    if request.WhichOneof("trigger") is None:
        request.threshold.CopyFrom(gbp(10_00))
    rule: credit_pb2.CreditTopUpRule = await business.credit.SetTopUpRule(request)
    await business.suite.quiet()
    return rule


async def top_ups_of(business: Business, wallet: WalletOf) -> list[invoice_pb2.Invoice]:
    return [each for each in await business.invoices(wallet.customer) if each.top_up_rule_id]


async def test_too_little_is_topped_up_when_the_invoice_is_paid(suite: Suite, business: Business) -> None:
    """Not before: credit is what was paid for. And only once, however low the balance falls meanwhile."""
    wallet = await new_wallet(business)
    await wallet.give(12_00)
    rule = await set_rule(business, wallet, priority=7, expires_after_days=30)
    assert await top_ups_of(business, wallet) == []
    bill = await wallet.bill("5")
    assert pence_of(bill.credit_applied) == 5_00
    [top_up] = await top_ups_of(business, wallet)
    assert (top_up.top_up_rule_id, top_up.state, told(top_up)) == (
        rule.id,
        invoice_pb2.Invoice.OPEN,
        [("Credit", 5000)],
    )
    assert pence_of(top_up.credit_applied) == 0
    await wallet.bill("3")
    assert len(await top_ups_of(business, wallet)) == 1
    assert await wallet.available() == 4_00
    await business.pay(top_up, payment_id="pay_1", pence=20_00)
    assert await wallet.available() == 4_00
    await business.pay(top_up, payment_id="pay_2", pence=30_00)
    assert await wallet.available() == 54_00
    found = (await business.credit.ListCreditGrants(pb.ListCreditGrantsRequest(customer_id=wallet.customer.id))).grants
    grant = found[-1]
    assert (grant.source, grant.document_id, grant.priority) == (credit_pb2.CreditGrant.TOP_UP, top_up.id, 7)
    assert grant.expire_time == wire.timestamp(SANDBOX_START + 30 * DAY)


async def test_what_was_paid_of_a_top_up_is_credit_when_the_rest_is_cancelled(business: Business) -> None:
    """A credit note settles it like a payment would; what was paid is not given back beside the credit it became."""
    wallet = await new_wallet(business)
    await set_rule(business, wallet, top_ups_per_day_max=1)
    [top_up] = await top_ups_of(business, wallet)
    await business.pay(top_up, payment_id="pay_1", pence=20_00)
    assert await wallet.available() == 0
    with refused("TOP_UP_NOT_GIVEN_BACK", grpc.StatusCode.FAILED_PRECONDITION):
        await credit(business, top_up)
    note = await credit(business, top_up, part(top_up, 30_00))
    assert settled(note) == (30_00, 0, 0)
    [cancelled] = await top_ups_of(business, wallet)
    assert cancelled.state == invoice_pb2.Invoice.PAID
    assert await wallet.available() == 20_00
    with refused("TOP_UP_NOT_GIVEN_BACK"):
        await credit(business, top_up)
    left = {name: pence for name, pence in (await balances(business)).items() if pence}
    assert left == {"CASH": 20_00, "CUSTOMER_CREDIT": -20_00}


async def test_no_more_than_so_many_a_day(suite: Suite, business: Business) -> None:
    """Whatever eats the credit: the next one comes when the day is over."""
    wallet = await new_wallet(business)
    await set_rule(business, wallet, amount=gbp(1_00), top_ups_per_day_max=2)
    for n in range(3):
        for open_one in await top_ups_of(business, wallet):
            if open_one.state == invoice_pb2.Invoice.OPEN:
                await business.pay(open_one, payment_id=f"pay_{n}")
    assert len(await top_ups_of(business, wallet)) == 2
    await suite.travel(SANDBOX_START + DAY - timedelta(seconds=1))
    assert len(await top_ups_of(business, wallet)) == 2
    await suite.travel(SANDBOX_START + DAY)
    assert len(await top_ups_of(business, wallet)) == 3


async def test_the_calendar_buys_every_month(suite: Suite, business: Business) -> None:
    """On the day that was said, in the customer's zone; not while one is still to be paid."""
    wallet = await new_wallet(business)
    start = utc(2026, 1, 31)
    schedule = credit_pb2.CreditTopUpRule.Schedule(start_time=wire.timestamp(start), months=1)
    rule = await set_rule(business, wallet, schedule=schedule)
    assert (rule.next_time, rule.time_zone) == (wire.timestamp(start), "Europe/London")
    await suite.travel(start)
    [first] = await top_ups_of(business, wallet)
    await suite.travel(utc(2026, 2, 28))
    assert len(await top_ups_of(business, wallet)) == 1
    await business.pay(first, payment_id="pay_1")
    await suite.travel(utc(2026, 4, 1))
    found = await top_ups_of(business, wallet)
    # The clocks go forward on the 29th of March.
    assert [each.bill_time.ToDatetime(start.tzinfo) for each in found] == [start, utc(2026, 3, 30, 23)]
    # Bought again after a restored backup, each is the same invoice, and not collected twice.
    created = rule.create_time.ToDatetime(start.tzinfo)
    assert [each.id for each in found] == [
        ids.derived("inv", created, (suite.seller, rule.id, str(n)), nth=n) for n in range(2)
    ]


@pytest.mark.own_services
async def test_several_replicas_buy_once(suite: Suite, business: Business) -> None:
    """Both find the rule due and ask; whoever comes second finds it looked at."""
    wallet = await new_wallet(business)
    start = utc(2026, 1, 15)
    schedule = credit_pb2.CreditTopUpRule.Schedule(start_time=wire.timestamp(start), months=1)
    rule = await set_rule(business, wallet, schedule=schedule)
    await suite.travel(start)
    current_caller.set(service_caller("invoicing", suite.seller))
    desk = suite.running["invoicing"].desk()
    await asyncio.gather(*(top_ups.top_up(desk, rule.id) for _ in range(4)))
    assert len(await top_ups_of(business, wallet)) == 1


async def test_a_rule_is_replaced_and_deleted(suite: Suite, business: Business) -> None:
    """There is one; and what it asked for before it ended is granted when it is paid."""
    wallet = await new_wallet(business)
    first = await set_rule(business, wallet, request_id="rule-1")
    second = await set_rule(business, wallet, amount=gbp(20_00))
    assert (second.id, second.revision) == (first.id, 3)
    key = {"customer_id": wallet.customer.id, "currency": "GBP"}
    found = await business.credit.GetTopUpRule(pb.GetTopUpRuleRequest(**key))
    assert (found.id, pence_of(found.amount), pence_of(found.threshold)) == (first.id, 20_00, 10_00)
    listed = await business.credit.ListTopUpRules(pb.ListTopUpRulesRequest(page_size=1))
    assert [each.id for each in listed.rules] == [first.id]
    [top_up] = await top_ups_of(business, wallet)
    await business.credit.DeleteTopUpRule(pb.DeleteTopUpRuleRequest(**key))
    for method, request in (
        (business.credit.GetTopUpRule, pb.GetTopUpRuleRequest(**key)),
        (business.credit.DeleteTopUpRule, pb.DeleteTopUpRuleRequest(**key)),
    ):
        with refused("CREDIT_TOP_UP_RULE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await method(request)
    assert not (await business.credit.ListTopUpRules(pb.ListTopUpRulesRequest())).rules
    await business.pay(top_up, payment_id="pay_1")
    assert await wallet.available() == 50_00
    await wallet.bill("45")
    assert len(await top_ups_of(business, wallet)) == 1
    again = await set_rule(business, wallet)
    assert again.id != first.id
    assert len(await top_ups_of(business, wallet)) == 1, "one was bought today, though by a rule that is no more"


@pytest.mark.parametrize("late", [timedelta(), 40 * DAY])
async def test_a_calendar_that_began_is_gone_on_with(suite: Suite, business: Business, late: timedelta) -> None:
    """What lies in the past is not made up for."""
    wallet = await new_wallet(business)
    start: datetime = SANDBOX_START - late
    schedule = credit_pb2.CreditTopUpRule.Schedule(start_time=wire.timestamp(start), months=1)
    await set_rule(business, wallet, schedule=schedule)
    assert len(await top_ups_of(business, wallet)) == (0 if late else 1)


async def test_what_makes_no_sense_is_refused(suite: Suite, business: Business) -> None:
    """And no rule comes of it."""
    wallet = await new_wallet(business)
    euros = gbp(1_00)
    euros.currency_code = "EUR"
    schedule = credit_pb2.CreditTopUpRule.Schedule(start_time=wire.timestamp(SANDBOX_START), months=13)
    for reason, field, terms in (
        ("CREDIT_AMOUNT_NOT_POSITIVE", "amount", {"amount": gbp(0)}),
        ("CREDIT_AMOUNT_NOT_POSITIVE", "threshold", {"threshold": gbp(0)}),
        ("INVALID_ARGUMENT", "threshold.currency_code", {"threshold": euros}),
        ("INVALID_ARGUMENT", "schedule.months", {"schedule": schedule}),
        ("INVALID_ARGUMENT", "schedule.start_time", {"schedule": credit_pb2.CreditTopUpRule.Schedule(months=1)}),
        ("INVALID_ARGUMENT", "expires_after_days", {"expires_after_days": -1}),
        ("INVALID_ARGUMENT", "top_ups_per_day_max", {"top_ups_per_day_max": 25}),
        ("CUSTOMER_NOT_FOUND", "", {"customer_id": NOBODY}),
    ):
        with refused(reason) as refusal:
            await set_rule(business, wallet, **terms)
        assert not field or refusal.field == field
    with refused("INVALID_ARGUMENT") as refusal:
        await business.credit.SetTopUpRule(pb.SetTopUpRuleRequest(customer_id=wallet.customer.id, amount=gbp(1_00)))
    assert refusal.field == "trigger"
    assert not (await business.credit.ListTopUpRules(pb.ListTopUpRulesRequest())).rules
    assert suite.announced(events_pb2.InvoiceFinalized) == []
