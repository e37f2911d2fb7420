"""Credit through its door: granted, applied to invoices, used once whoever asks, expired, revoked, kept from others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import grpc
import pytest

from common import wire
from common.caller import Role, current_caller, service_caller
from common.ids import SellerId
from common.money import Money
from common.testing import SANDBOX_START, Suite, refused
from invoicing import store
from invoicing.domain.invoice import Invoice, InvoiceId, State
from invoicing.usecases import credit
from saldo.invoicing.v1 import credit_pb2, events_pb2, invoice_pb2
from saldo.invoicing.v1 import credit_service_pb2 as pb
from saldo.invoicing.v1 import invoicing_service_pb2 as invoicing
from saldo.invoicing.v1.credit_service_pb2_grpc import CreditServiceStub

from .conftest import Business, dead_letters, per_unit, utc
from .wallet import gbp, new_wallet, pence_of

pytestmark = pytest.mark.patched_when_used

DAY = timedelta(days=1)
NOBODY = "cus_01h455vb4pex5vsknk084sn02q"
NOTHING = "grant_01h455vb4pex5vsknk084sn02q"


# Applied to invoices


async def test_an_invoice_that_is_covered_is_paid_at_once(suite: Suite, business: Business) -> None:
    """The customer owes nothing, so nobody collects; the rest is for the next invoice."""
    wallet = await new_wallet(business)
    grant = await wallet.give(39_00)
    invoice = await wallet.bill("17.72")
    assert invoice.state == invoice_pb2.Invoice.PAID
    assert [pence_of(each) for each in (invoice.total, invoice.credit_applied, invoice.amount_due)] == [1772, 1772, 0]
    assert pence_of(invoice.amount_paid) == pence_of(invoice.amount_remaining) == 0
    assert await wallet.available() == 21_28
    assert await wallet.movements(grant) == [("GRANTED", 39_00, 39_00, 0), ("APPLIED", 17_72, 21_28, 0)]
    [paid] = suite.announced(events_pb2.InvoicePaid)
    assert paid.invoice.credit_applied == invoice.credit_applied


async def test_an_invoice_that_is_not_covered_asks_for_the_rest(business: Business) -> None:
    """And is paid by that, no more and no less."""
    wallet = await new_wallet(business)
    await wallet.give(4_00)
    await wallet.give(2_00, kind=credit_pb2.CreditGrant.PROMOTIONAL)
    invoice = await wallet.bill("10")
    assert invoice.state == invoice_pb2.Invoice.OPEN
    assert [pence_of(each) for each in (invoice.credit_applied, invoice.amount_due)] == [6_00, 4_00]
    assert pence_of(invoice.amount_remaining) == 4_00
    await business.pay(invoice, payment_id="pay_1")
    paid = await business.invoicing.GetInvoice(invoicing.GetInvoiceRequest(id=invoice.id))
    assert (paid.state, pence_of(paid.amount_paid)) == (invoice_pb2.Invoice.PAID, 4_00)
    document = await business.invoicing.GetInvoiceDocument(invoicing.GetInvoiceDocumentRequest(id=invoice.id))
    assert document.content.startswith(b"%PDF")


async def test_what_is_coming_tells_the_credit_and_takes_none(business: Business) -> None:
    """Looking ahead as often as one likes costs nothing."""
    wallet = await new_wallet(business)
    await wallet.give(25_00)
    await wallet.bill("20")
    for _ in range(2):
        coming = await business.invoicing.GetUpcomingInvoice(
            invoicing.GetUpcomingInvoiceRequest(customer_id=wallet.customer.id)
        )
        assert [pence_of(each) for each in (coming.total, coming.credit_applied, coming.amount_due)] == [
            20_00,
            5_00,
            15_00,
        ]
    assert await wallet.available() == 5_00


async def test_a_grant_for_a_product_covers_its_lines_only(business: Business) -> None:
    """However it is named: product, price, meter or subscription."""
    wallet = await new_wallet(business)
    seats, storage = await business.price("Seats", **per_unit("10")), await business.price("Storage", **per_unit("7"))
    plan = await business.plan(seats, storage)
    product_id, price_id = plan.prices[0].product_id, plan.prices[1].id
    only_seats = await wallet.give(15_00, scope=credit_pb2.CreditScope(product_ids=[product_id]))
    only_storage = await wallet.give(3_00, scope=credit_pb2.CreditScope(price_ids=[price_id]))
    other = await wallet.give(9_00, scope=credit_pb2.CreditScope(meters=["kwh"]))
    await business.subscribe(wallet.customer, plan)
    [invoice] = await business.invoices(wallet.customer)
    assert invoice.line_items[0].product_id == product_id
    assert pence_of(invoice.credit_applied) == 13_00
    left = [pence_of((await wallet.grant(each)).remaining) for each in (only_seats, only_storage, other)]
    assert left == [5_00, 0, 9_00]


async def test_metered_lines_are_covered_when_their_grace_is_over(suite: Suite, business: Business) -> None:
    """A draft takes up nothing: until it is final somebody else may need the credit."""
    await business.meter("kwh")
    wallet = await new_wallet(business)
    await wallet.give(4_00, scope=credit_pb2.CreditScope(meters=["kwh"]))
    plan = await business.plan(await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10")))
    await business.subscribe(wallet.customer, plan)
    await business.use(wallet.customer, "kwh", "100", SANDBOX_START)
    await suite.travel(utc(2026, 2, 1))
    [draft] = await business.invoices(wallet.customer)
    assert (draft.state, pence_of(draft.credit_applied)) == (invoice_pb2.Invoice.DRAFT, 0)
    assert await wallet.available() == 4_00
    await suite.travel(utc(2026, 2, 1, 1))
    [invoice] = await business.invoices(wallet.customer)
    assert (pence_of(invoice.credit_applied), pence_of(invoice.amount_due)) == (4_00, 6_00)


async def test_two_invoices_share_one_balance(suite: Suite, business: Business) -> None:
    """A draft is finalized by hand while a bill run issues another invoice: together they take up what there is."""
    await business.meter("kwh")
    wallet = await new_wallet(business)
    plan = await business.plan(await business.price("Electricity", "kWh", meter="kwh", **per_unit("0.10")))
    await business.subscribe(wallet.customer, plan)
    await business.use(wallet.customer, "kwh", "100", SANDBOX_START)
    await suite.travel(utc(2026, 2, 1))
    [draft] = await business.invoices(wallet.customer)
    await wallet.give(8_00)
    await wallet.give(4_00, kind=credit_pb2.CreditGrant.PROMOTIONAL)
    # Half an hour later what is billed joins the draft no more, whose grace is not over.
    await suite.travel(utc(2026, 2, 1, 0, 30))
    finalize = business.invoicing.FinalizeInvoice(invoicing.FinalizeInvoiceRequest(id=draft.id))
    finalized, billed = await asyncio.gather(finalize, wallet.bill("7"))
    assert pence_of(finalized.credit_applied) + pence_of(billed.credit_applied) == 12_00
    assert await wallet.available() == 0


@pytest.mark.own_services
async def test_whoever_comes_second_waits_and_finds_what_is_left(suite: Suite, business: Business) -> None:
    """Two bill runs with several customers each, of whom they share all: no wallet is read before it is locked."""
    wallets = [await new_wallet(business) for _ in range(3)]
    drafts: list[list[Invoice]] = [[], []]
    for wallet in wallets:
        await wallet.give(15_00)
        await wallet.bill("0.01")
    current_caller.set(service_caller("invoicing", suite.seller))
    desk = suite.running["invoicing"].desk()
    async with desk.transaction() as tx:
        for wallet in wallets:
            [small] = await business.invoices(wallet.customer)
            issued = await store.invoice(tx, InvoiceId(small.id))
            line = replace(issued.lines[0], amount=Money(10_00, "GBP"))
            for number, own in enumerate(drafts):
                draft = replace(issued, id=InvoiceId(f"inv_{number}_{wallet.customer.id}"), state=State.DRAFT)
                own.append(replace(draft, lines=(line,), credit_applied=Money.zero("GBP")))

    async def run(own: list[Invoice]) -> int:
        async with desk.transaction() as tx:
            covered = await credit.take_up(tx, own)
            await asyncio.sleep(0.2)
            return sum(each.credit_applied.minor for each in covered)

    found = await asyncio.gather(run(drafts[0]), run(drafts[1][::-1]))
    assert sum(found) == 3 * 14_99
    assert [await wallet.available() for wallet in wallets] == [0, 0, 0]


@pytest.mark.own_services
async def test_what_an_annulled_invoice_took_up_comes_back_once(suite: Suite, business: Business) -> None:
    """To the grants that it came from."""
    wallet = await new_wallet(business)
    short = await wallet.give(4_00, expire_time=SANDBOX_START + 2 * DAY)
    long = await wallet.give(9_00)
    invoice = await wallet.bill("10")
    assert pence_of(invoice.credit_applied) == 10_00
    await suite.travel(SANDBOX_START + 5 * DAY)
    current_caller.set(service_caller("invoicing", suite.seller))
    for _ in range(2):
        async with suite.running["invoicing"].desk().transaction() as tx:
            annulled = await store.invoice(tx, InvoiceId(invoice.id), lock=True)
            await credit.give_credited(tx, annulled, annulled.total, credit_note_id="cnote_1", annuls=True)
    await suite.quiet()
    assert await wallet.available() == 13_00
    back = await wallet.grant(short)
    assert back.expire_time == wire.timestamp(SANDBOX_START + 7 * DAY)
    assert await wallet.movements(long) == [
        ("GRANTED", 9_00, 9_00, 0),
        ("APPLIED", 6_00, 3_00, 0),
        ("RETURNED", 6_00, 9_00, 0),
    ]
    await suite.travel(SANDBOX_START + 8 * DAY)
    assert await wallet.available() == 9_00


@pytest.mark.own_services
async def test_a_credit_note_leaves_credit(suite: Suite, business: Business) -> None:
    """Once; and of one that annuls its invoice only what had been paid, beside what had been taken up."""
    wallet = await new_wallet(business)
    await wallet.give(4_00)
    invoice = await wallet.bill("10")
    current_caller.set(service_caller("invoicing", suite.seller))
    async with suite.running["invoicing"].desk().transaction() as tx:
        owed = await store.invoice(tx, InvoiceId(invoice.id), lock=True)
        await credit.give_credited(tx, owed, Money(1_50, "GBP"), credit_note_id="cnote_1")
        await credit.give_credited(tx, owed, Money(10_00, "GBP"), credit_note_id="cnote_2", annuls=True)
    await suite.quiet()
    assert await wallet.available() == 1_50 + 10_00
    grants = await business.credit.ListCreditGrants(pb.ListCreditGrantsRequest(customer_id=wallet.customer.id))
    assert [(each.document_id, pence_of(each.amount)) for each in grants.grants[1:]] == [
        ("cnote_1", 1_50),
        ("cnote_2", 6_00),
    ]

    async def again() -> None:
        async with suite.running["invoicing"].desk().transaction() as tx:
            await credit.give_credited(tx, owed, Money(1_50, "GBP"), credit_note_id="cnote_1")

    with pytest.raises(asyncpg.UniqueViolationError):
        await again()


# Overpaid


async def test_what_is_paid_too_much_becomes_credit_once(suite: Suite, business: Business) -> None:
    """The invoice gets what is owed, the customer the rest, however often the payment is told of."""
    wallet = await new_wallet(business)
    invoice = await wallet.bill("10")
    for _ in range(2):
        await business.pay(invoice, payment_id="pay_1", pence=12_50)
    await business.pay(invoice, payment_id="pay_2", pence=3_00)
    paid = await business.invoicing.GetInvoice(invoicing.GetInvoiceRequest(id=invoice.id))
    assert (paid.state, pence_of(paid.amount_paid)) == (invoice_pb2.Invoice.PAID, 10_00)
    assert await wallet.available() == 5_50
    grants = await business.credit.ListCreditGrants(pb.ListCreditGrantsRequest(customer_id=wallet.customer.id))
    told = [(each.document_id, pence_of(each.amount), each.source, each.kind) for each in grants.grants]
    source, kind = credit_pb2.CreditGrant.OVERPAYMENT, credit_pb2.CreditGrant.PAID
    assert told == [("pay_1", 2_50, source, kind), ("pay_2", 3_00, source, kind)]
    assert len(suite.announced(events_pb2.InvoicePaid)) == 1
    assert len(suite.announced(events_pb2.CreditGrantCreated)) == 2
    assert not await dead_letters(suite)
    assert pence_of((await wallet.bill("20")).credit_applied) == 5_50


# Expired, revoked, low


async def test_what_is_left_expires(suite: Suite, business: Business) -> None:
    """By the seller's clock, and is announced; what was used before stays used."""
    wallet = await new_wallet(business)
    grant = await wallet.give(30_00, expire_time=SANDBOX_START + DAY)
    await wallet.bill("10")
    await suite.travel(SANDBOX_START + DAY - timedelta(seconds=1))
    assert await wallet.available() == 20_00
    await suite.travel(SANDBOX_START + DAY)
    assert await wallet.available() == 0
    found = await wallet.grant(grant)
    assert (found.state, found.expired_time) == (credit_pb2.CreditGrant.EXPIRED, grant.expire_time)
    [event] = suite.announced(events_pb2.CreditGrantExpired)
    assert (event.grant.id, event.grant.revision) == (grant.id, 3)
    assert [kind for kind, *_ in await wallet.movements(grant)] == ["GRANTED", "APPLIED", "EXPIRED"]


async def test_what_begins_later_is_not_used_before(suite: Suite, business: Business) -> None:
    """It is told apart."""
    wallet = await new_wallet(business)
    grant = await wallet.give(30_00, effective_time=SANDBOX_START + DAY)
    assert grant.state == credit_pb2.CreditGrant.PENDING
    balance = await wallet.balance()
    assert (pence_of(balance.available), pence_of(balance.pending)) == (0, 30_00)
    assert pence_of((await wallet.bill("10")).credit_applied) == 0
    await suite.travel(SANDBOX_START + DAY)
    assert (await wallet.grant(grant)).state == credit_pb2.CreditGrant.ACTIVE
    # The month has begun: of its 10.00 a day is missing.
    assert pence_of((await wallet.bill("10")).credit_applied) == 9_68


async def test_a_grant_is_taken_away_once(suite: Suite, business: Business) -> None:
    """What was used stays used, and what is gone cannot go again."""
    wallet = await new_wallet(business)
    grant = await wallet.give(30_00)
    await wallet.bill("10")
    request = pb.RevokeCreditGrantRequest(id=grant.id, request_id="revoke-1")
    revoked = await business.credit.RevokeCreditGrant(request)
    assert (revoked.state, pence_of(revoked.remaining)) == (credit_pb2.CreditGrant.REVOKED, 0)
    assert await business.credit.RevokeCreditGrant(request) == revoked
    with refused("CREDIT_GRANT_ENDED", grpc.StatusCode.FAILED_PRECONDITION):
        await business.credit.RevokeCreditGrant(pb.RevokeCreditGrantRequest(id=grant.id))
    await suite.quiet()
    [event] = suite.announced(events_pb2.CreditGrantRevoked)
    assert event.grant == revoked
    assert await wallet.movements(grant) == [
        ("GRANTED", 30_00, 30_00, 0),
        ("APPLIED", 10_00, 20_00, 0),
        ("REVOKED", 20_00, 0, 0),
    ]


async def test_a_low_balance_is_announced_once_each_time(suite: Suite, business: Business) -> None:
    """At once if it is low already; again only when it has been back."""

    async def count() -> int:
        await suite.quiet()
        return len(suite.announced(events_pb2.CreditBalanceLow))

    wallet = await new_wallet(business)
    threshold = pb.SetLowCreditThresholdRequest(
        customer_id=wallet.customer.id, currency="GBP", threshold=gbp(10_00), request_id="low-1"
    )
    low = await business.credit.SetLowCreditThreshold(threshold)
    assert (low.is_low, await count()) == (True, 1)
    await wallet.give(5_00)
    assert await count() == 1
    await wallet.give(15_00)
    assert not (await wallet.balance()).is_low
    await wallet.bill("10")
    assert (await wallet.available(), await count()) == (10_00, 1)
    await wallet.reserve(1)
    assert ((await wallet.balance()).is_low, await count()) == (True, 2)
    await wallet.reserve(1)
    assert await count() == 2
    nobody = await business.credit.SetLowCreditThreshold(
        pb.SetLowCreditThresholdRequest(customer_id=wallet.customer.id, currency="GBP")
    )
    assert not nobody.is_low
    assert not nobody.HasField("low_threshold")


# Asked for


async def test_balances_are_told_page_by_page(business: Business) -> None:
    """Of every customer in every currency, in one order."""
    wallets = [await new_wallet(business) for _ in range(2)]
    for wallet in wallets:
        await wallet.give(1_00)
        amount = wire.money(wire.parse_money(gbp(2_00), field="amount"))
        amount.currency_code = "EUR"
        await wallet.give(0, amount=amount, kind=credit_pb2.CreditGrant.PROMOTIONAL)
    told: list[tuple[str, str]] = []
    token = ""
    for number in range(4):
        assert number == 0 or token
        page = await business.credit.ListCreditBalances(pb.ListCreditBalancesRequest(page_size=1, page_token=token))
        told += [(each.customer_id, each.available.currency_code) for each in page.balances]
        token = page.next_page_token
    assert token == ""
    assert told == sorted((wallet.customer.id, currency) for wallet in wallets for currency in ("EUR", "GBP"))
    own = await business.credit.ListCreditBalances(pb.ListCreditBalancesRequest(customer_id=wallets[0].customer.id))
    assert [pence_of(each.promotional) for each in own.balances] == [2_00, 0]


async def test_open_grants_are_told_apart(business: Business) -> None:
    """Those that are used up are of interest to others."""
    wallet = await new_wallet(business)
    await wallet.give(10_00, expire_time=SANDBOX_START + DAY)
    left = await wallet.give(5_00)
    await wallet.bill("10")
    request = pb.ListCreditGrantsRequest(customer_id=wallet.customer.id, open_only=True, page_size=1)
    assert [each.id for each in (await business.credit.ListCreditGrants(request)).grants] == [left.id]
    request.open_only = False
    first = await business.credit.ListCreditGrants(request)
    request.page_token = first.next_page_token
    second = await business.credit.ListCreditGrants(request)
    assert [each.id for each in second.grants] == [left.id]


async def test_a_repeated_grant_is_one(suite: Suite, business: Business) -> None:
    """Whoever lost the answer sends the same again."""
    wallet = await new_wallet(business)
    first = await wallet.give(5_00, request_id="give-1")
    assert await wallet.give(5_00, request_id="give-1") == first
    with refused("REQUEST_ID_REUSED"):
        await wallet.give(6_00, request_id="give-1")
    assert await wallet.available() == 5_00
    await suite.quiet()
    [event] = suite.announced(events_pb2.CreditGrantCreated)
    assert event.grant == first


# Refused


async def test_what_makes_no_sense_is_refused(business: Business) -> None:
    """By its name, with the field; nothing is stored."""
    wallet = await new_wallet(business)
    now = SANDBOX_START
    wrong: list[tuple[str, str, dict[str, Any]]] = [
        ("CREDIT_AMOUNT_NOT_POSITIVE", "amount", {"amount": gbp(0)}),
        ("CREDIT_AMOUNT_NOT_POSITIVE", "amount", {"amount": gbp(-1)}),
        ("INVALID_ARGUMENT", "amount", {"amount": gbp(10**14 + 1)}),
        ("INVALID_ARGUMENT", "kind", {"kind": 0}),
        ("INVALID_ARGUMENT", "kind", {"kind": 99}),
        ("INVALID_ARGUMENT", "priority", {"priority": 1_001}),
        ("INVALID_ARGUMENT", "priority", {"priority": -1}),
        ("CREDIT_TIMES_CONTRADICT", "expire_time", {"expire_time": now}),
        (
            "CREDIT_TIMES_CONTRADICT",
            "expire_time",
            {"expire_time": now + DAY, "effective_time": now + DAY},
        ),
        ("INVALID_ARGUMENT", "scope.price_ids[1]", {"scope": {"price_ids": [f"price_{NOBODY[4:]}", "x"]}}),
        ("INVALID_ARGUMENT", "scope", {"scope": {"meters": ["kwh"] * 101}}),
        ("INVALID_ARGUMENT", "scope.meters[0]", {"scope": {"meters": [""]}}),
        ("INVALID_ARGUMENT", "note", {"note": "x" * 501}),
        ("INVALID_ARGUMENT", "customer_id", {"customer_id": "ada"}),
        ("CUSTOMER_NOT_FOUND", "", {"customer_id": NOBODY}),
    ]
    for reason, field, told in wrong:
        with refused(reason) as refusal:
            await wallet.give(1_00, **told)
        assert not field or refusal.field == field, (told, refusal.field)
    with refused("CREDIT_BALANCE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await wallet.balance()
    with refused("UNKNOWN_CURRENCY"):
        await business.credit.GetCreditBalance(
            pb.GetCreditBalanceRequest(customer_id=wallet.customer.id, currency="XXX")
        )
    for method in (business.credit.GetCreditGrant, business.credit.RevokeCreditGrant):
        name = "GetCreditGrantRequest" if method is business.credit.GetCreditGrant else "RevokeCreditGrantRequest"
        with refused("CREDIT_GRANT_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await method(getattr(pb, name)(id=NOTHING))
    with refused("INVALID_ARGUMENT"):
        await business.credit.SetLowCreditThreshold(
            pb.SetLowCreditThresholdRequest(customer_id=wallet.customer.id, currency="EUR", threshold=gbp(1))
        )


async def test_there_is_an_end_to_grants(business: Business, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are looked at for every invoice. What comes by itself is never refused."""
    monkeypatch.setattr(credit, "GRANTS_MAX", 2)
    wallet = await new_wallet(business)
    for _ in range(2):
        await wallet.give(1_00)
    with refused("TOO_MANY_CREDIT_GRANTS", grpc.StatusCode.RESOURCE_EXHAUSTED):
        await wallet.give(1_00)
    invoice = await wallet.bill("3")
    await business.pay(invoice, payment_id="pay_1", pence=4_00)
    assert await wallet.available() == 3_00


async def test_credit_is_the_sellers_own_business(suite: Suite, business: Business) -> None:
    """Nobody else's seller sees it, and a viewer gives none."""
    wallet = await new_wallet(business)
    grant = await wallet.give(5_00)
    other: Any = suite.stub(  # Any: grpc stubs are generated
        CreditServiceStub, "invoicing", seller=SellerId("sel_01h455vb4pex5vsknk084sn02q")
    )
    with refused("CREDIT_GRANT_NOT_FOUND"):
        await other.GetCreditGrant(pb.GetCreditGrantRequest(id=grant.id))
    assert not (await other.ListCreditBalances(pb.ListCreditBalancesRequest())).balances
    viewer: Any = suite.stub(CreditServiceStub, "invoicing", role=Role.VIEWER)  # Any: as above
    assert len((await viewer.ListCreditMovements(pb.ListCreditMovementsRequest())).movements) == 1
    with refused("ROLE_NOT_ALLOWED"):
        await viewer.RevokeCreditGrant(pb.RevokeCreditGrantRequest(id=grant.id))


# The database


async def test_the_database_itself_refuses_to_make_credit(suite: Suite, business: Business) -> None:
    """Whatever the code does: no balance below nothing, and nothing that happened is changed."""
    wallet = await new_wallet(business)
    await wallet.give(5_00)
    refusals = (
        ("UPDATE credit_grants SET remaining_minor = -1", asyncpg.CheckViolationError),
        ("UPDATE credit_grants SET reserved_minor = 501", asyncpg.CheckViolationError),
        ("UPDATE credit_grants SET reserved_minor = -1", asyncpg.CheckViolationError),
        ("UPDATE credit_grants SET remaining_minor = 501", asyncpg.CheckViolationError),
        ("UPDATE credit_grants SET amount_minor = 900", asyncpg.RaiseError),
        ("DELETE FROM credit_grants", asyncpg.PostgresError),
        ("UPDATE credit_movements SET amount_minor = 1", asyncpg.RaiseError),
        ("DELETE FROM credit_movements", asyncpg.RaiseError),
    )
    async with suite.own_rows("invoicing") as connection:
        for statement, error in refusals:
            with pytest.raises(error):
                await connection.execute(statement)
    assert await wallet.available() == 5_00
