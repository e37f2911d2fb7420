"""Bill runs that somebody asks for: who is billed, what becomes of each, and who cannot be billed and why."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest

from common import ids, wire
from common.caller import current_caller, service_caller
from common.testing import Suite, refused
from invoicing.domain.errors import UsageTooDetailed
from invoicing.usecases import bill_run, drafts, facts
from invoicing.usecases.taxing import RatesByHand
from saldo.catalog.v1 import price_pb2
from saldo.invoicing.v1 import bill_run_pb2, invoice_pb2
from saldo.invoicing.v1 import bill_runs_service_pb2 as pb
from saldo.invoicing.v1.bill_run_pb2 import BillRun, BillRunResult
from saldo.invoicing.v1.bill_runs_service_pb2_grpc import BillRunsServiceStub
from saldo.operations.v1 import operations_service_pb2 as operations
from saldo.operations.v1.operations_service_pb2_grpc import OperationsServiceStub
from saldo.subscriptions.v1 import customer_pb2
from saldo.subscriptions.v1 import customers_service_pb2 as customers_service
from saldo.subscriptions.v1.customers_service_pb2_grpc import CustomersServiceStub

from .conftest import Business, dead_letters, decimal, flat, pence, utc

pytestmark = pytest.mark.patched_when_used

FEBRUARY, MARCH = utc(2026, 2, 1), utc(2026, 3, 1)
HOUR = timedelta(hours=1)


class Runs:
    """What can be asked of bill runs."""

    def __init__(self, business: Business) -> None:
        self.business = business
        self.stub: Any = business.suite.stub(BillRunsServiceStub, "invoicing")  # Any: grpc stubs are generated

    async def begin(self, *customers: customer_pb2.Customer, scope: Any = None) -> BillRun:  # Any: an enum's number
        request = pb.CreateBillRunRequest(
            scope=scope or BillRun.CUSTOMERS, customer_ids=[each.id for each in customers]
        )
        begun: BillRun = await self.stub.CreateBillRun(request)
        return begun

    async def get(self, run: BillRun) -> BillRun:
        found: BillRun = await self.stub.GetBillRun(pb.GetBillRunRequest(id=run.id))
        return found

    async def results(self, run: BillRun, **more: Any) -> list[BillRunResult]:  # Any: fields of the request
        answer = await self.stub.ListBillRunResults(pb.ListBillRunResultsRequest(id=run.id, **more))
        return list(answer.results)

    async def outcomes(self, run: BillRun) -> dict[str, str]:
        return {each.customer_id: BillRunResult.Outcome.Name(each.outcome) for each in await self.results(run)}

    async def parked(self) -> list[bill_run_pb2.ParkedCustomer]:
        return list((await self.stub.ListParkedCustomers(pb.ListParkedCustomersRequest())).parked_customers)

    async def state(self) -> pb.BillingState:
        found: pb.BillingState = await self.stub.GetBillingState(pb.GetBillingStateRequest())
        return found


@pytest.fixture
async def runs(business: Business) -> Runs:
    return Runs(business)


@pytest.fixture
def contradiction(monkeypatch: pytest.MonkeyPatch) -> Any:  # Any: a context
    """More values than metering tells, for as long as it is so."""
    values = import_module("metering.store.usages")
    monkeypatch.setattr(values, "VALUES_MAX", 2)
    return lambda: monkeypatch.setattr(values, "VALUES_MAX", 10_000)


async def paying(business: Business, count: int) -> list[customer_pb2.Customer]:
    """Customers who pay a share of what they sell, in arrears; the first has sold more often than can be told."""
    await business.meter("sales")
    fee = price_pb2.PercentageModel(percent=decimal("2.9"), fixed_fee=decimal("0.30"))
    plan = await business.plan(await business.price("Payments", meter="sales", percentage=fee))
    customers = [await business.customer() for _ in range(count)]
    await asyncio.gather(*(business.subscribe(each, plan) for each in customers))
    for _ in range(3):
        await business.use(customers[0], "sales", "10", utc(2026, 1, 5))
    return customers


async def test_a_bill_run_tells_what_became_of_each(suite: Suite, business: Business, runs: Runs) -> None:
    """Whoever owes something is billed, whoever does not is not; what was billed is not billed again."""
    seats = await business.plan(await business.price("Seats", **flat("10")))
    ada, bob, carol = [await business.customer() for _ in range(3)]
    await business.subscribe(ada, seats)
    await business.subscribe(bob, seats, start=utc(2026, 6, 1))
    begun = await runs.begin(ada, bob, carol)
    assert (begun.state, begun.customer_count) == (BillRun.RUNNING, 3)
    await suite.quiet()
    done = await runs.get(begun)
    assert (done.state, done.progress.nothing_owed_count) == (BillRun.DONE, 3)
    assert done.end_time == done.create_time  # the sandbox's clock stands still
    assert not done.totals
    assert len(await business.invoices()) == 1


async def test_the_figures_of_a_bill_run_are_those_of_its_invoices(
    suite: Suite, business: Business, runs: Runs
) -> None:
    """Found by a run for everybody who is due at that moment, while the clock is held at it."""
    seats = await business.plan(await business.price("Seats", **flat("10")))
    customers = [await business.customer() for _ in range(5)]
    await asyncio.gather(*(business.subscribe(each, seats) for each in customers))
    clock: Any = suite.stub(OperationsServiceStub, "invoicing")  # Any: grpc stubs are generated
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY), hold=True))
    assert (await runs.state()).due_count == 5
    begun = await runs.begin(scope=BillRun.DUE)
    assert (begun.customer_count, begun.progress.waiting_count) == (5, 5)
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY)))
    await suite.travel(FEBRUARY)
    done = await runs.get(begun)
    assert (done.state, done.progress.billed_count) == (BillRun.DONE, 5)
    [total] = done.totals
    assert (total.invoice_count, total.line_count, total.total.units) == (5, 5, 50)
    new = {each.id for each in (await business.invoices())[5:]}
    assert {each.invoice_ids[0] for each in await runs.results(begun)} == new
    state = await runs.state()
    assert (state.due_count, dict(state.parked_counts), state.draft_count) == (0, {}, 0)
    assert wire.parse_timestamp(state.next_due_time, field="next_due_time") == MARCH


async def test_who_cannot_be_billed_is_parked_with_the_reason_and_nobody_waits(
    suite: Suite, business: Business, runs: Runs, contradiction: Any
) -> None:
    """Then the cause is removed, and the run tries those again who were parked: each is billed once."""
    customers = await paying(business, 6)
    await suite.travel(FEBRUARY + HOUR)
    bad = customers[0].id
    assert not await dead_letters(suite)
    assert {each.customer_id for each in await business.invoices()} == {each.id for each in customers[1:]}
    [parked] = await runs.parked()
    assert (parked.customer_id, parked.reason) == (bad, "USAGE_TOO_DETAILED")
    assert "TOO_MANY_VALUES" in parked.message
    assert dict((await runs.state()).parked_counts) == {"USAGE_TOO_DETAILED": 1}
    run = await runs.begin(*customers)
    await suite.quiet()
    done = await runs.get(run)
    assert (done.state, done.progress.parked_count, done.progress.nothing_owed_count) == (BillRun.DONE, 1, 5)
    [result] = await runs.results(run, outcome=BillRunResult.PARKED)
    assert (result.customer_id, result.reason, result.message) == (bad, parked.reason, parked.message)
    contradiction()
    again = await runs.stub.RetryBillRun(pb.RetryBillRunRequest(id=run.id, request_id="again"))
    assert (again.state, again.progress.waiting_count) == (BillRun.RUNNING, 1)
    await suite.quiet()
    assert Counter((await runs.outcomes(run)).values()) == {"NOTHING_OWED": 5, "BILLED": 1}
    assert await runs.parked() == []
    await suite.travel(FEBRUARY + 3 * HOUR)
    assert Counter(each.customer_id for each in await business.invoices()) == {each.id: 1 for each in customers}
    assert [pence(each) for each in await business.invoices(customers[0])] == [90 + 87]


async def test_whatever_comes_to_be_known_of_a_parked_customer_has_it_tried_again(
    suite: Suite, business: Business, runs: Runs, contradiction: Any
) -> None:
    """Nobody has to ask: the end of the next period is enough, and both months are billed."""
    customers = await paying(business, 1)
    await suite.travel(FEBRUARY + HOUR)
    assert [each.customer_id for each in await runs.parked()] == [customers[0].id]
    contradiction()
    await suite.travel(FEBRUARY + timedelta(days=3))
    assert await business.invoices() == []
    await suite.travel(MARCH + HOUR)
    assert await runs.parked() == []
    lines = [line for invoice in await business.invoices() for line in invoice.line_items]
    assert len(lines) == len({line.period.start_time.seconds for line in lines}) == 2


async def test_all_who_are_parked_are_tried_together(
    suite: Suite, business: Business, runs: Runs, contradiction: Any
) -> None:
    """Whatever run or moment parked them."""
    customers = await paying(business, 3)
    await suite.travel(FEBRUARY + HOUR)
    contradiction()
    run = await runs.begin(scope=BillRun.PARKED)
    await suite.quiet()
    assert await runs.outcomes(run) == {customers[0].id: "BILLED"}


async def test_what_nobody_foresaw_is_parked_too_and_can_be_tried_again(
    suite: Suite, business: Business, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug is a dead letter of the service; whoever asked for the run learns who is concerned and nothing of its
    inside, and to try again clears the letter.
    """
    monkeypatch.setattr("common.jobs.RETRY_SECONDS", (0.01,))
    seats = await business.plan(await business.price("Seats", **flat("10")))
    ada, bob = [await business.customer() for _ in range(2)]
    await business.subscribe(ada, seats, start=utc(2026, 1, 10))
    await business.subscribe(bob, seats, start=utc(2026, 1, 10))
    gather = facts.gather

    async def failing(desk: Any, since: Any, **more: Any) -> Any:  # Any: as the function itself
        if ada.id in since:
            raise ZeroDivisionError("somewhere inside")
        return await gather(desk, since, **more)

    monkeypatch.setattr("invoicing.usecases.facts.gather", failing)
    run = await runs.begin(ada, bob)
    await suite.quiet()
    [letter] = await dead_letters(suite)
    assert letter.id == f"job:bill customers:{ada.id}"
    done = await runs.get(run)
    assert (done.state, done.progress.parked_count) == (BillRun.DONE, 1)
    [result] = await runs.results(run, outcome=BillRunResult.PARKED)
    assert (result.customer_id, result.reason, result.message) == (ada.id, "INTERNAL", "")
    assert [(each.customer_id, each.reason) for each in await runs.parked()] == [(ada.id, "INTERNAL")]
    monkeypatch.setattr("invoicing.usecases.facts.gather", gather)
    await runs.stub.RetryBillRun(pb.RetryBillRunRequest(id=run.id, request_id="again"))
    await suite.quiet()
    assert await runs.outcomes(run) == {ada.id: "NOTHING_OWED", bob.id: "NOTHING_OWED"}
    assert await runs.parked() == [] == await dead_letters(suite)
    await suite.travel(utc(2026, 1, 10))
    assert len(await business.invoices(ada)) == 1


async def test_whose_draft_cannot_be_finalized_is_parked_until_something_is_known(
    suite: Suite, business: Business, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the reason, and nobody else waits; each bill run of those who are parked has it tried again, none of them
    for ever, and one is enough when the cause is removed. The customer stays as due as it was.
    """
    await business.meter("kwh")
    power = await business.plan(await business.price("Power", meter="kwh", **flat("10")))
    ada, bob = [await business.customer() for _ in range(2)]
    for customer in (ada, bob):
        await business.subscribe(customer, power)
    await suite.travel(FEBRUARY)
    [bad] = await business.invoices(ada)
    pull, tries = drafts.pull, 0

    async def failing(desk: Any, invoice_ids: Any, **more: Any) -> Any:  # Any: as the function itself
        nonlocal tries
        if bad.id in invoice_ids:
            tries += len(invoice_ids) == 1
            raise UsageTooDetailed("more than can be looked at", invoice=bad.id)
        return await pull(desk, invoice_ids, **more)

    monkeypatch.setattr(drafts, "pull", failing)
    due = (await runs.state()).next_due_time
    await suite.travel(FEBRUARY + HOUR)
    assert [each.state for each in await business.invoices(bob)] == [invoice_pb2.Invoice.OPEN]
    for again in range(1, 4):
        assert await dead_letters(suite) == []
        assert tries == again
        [parked] = await runs.parked()
        assert (parked.customer_id, parked.reason) == (ada.id, "USAGE_TOO_DETAILED")
        assert [each.state for each in await business.invoices(ada)] == [invoice_pb2.Invoice.DRAFT]
        assert (await runs.state()).next_due_time == due
        await runs.begin(scope=BillRun.PARKED)
        await suite.quiet()
    monkeypatch.setattr(drafts, "pull", pull)
    await runs.begin(scope=BillRun.PARKED)
    await suite.quiet()
    assert [(each.state, pence(each)) for each in await business.invoices(ada)] == [(invoice_pb2.Invoice.OPEN, 10_00)]
    assert await runs.parked() == [] == await dead_letters(suite)


@pytest.mark.own_services
async def test_what_is_put_right_while_it_is_looked_at_is_not_parked(
    suite: Suite, business: Business, runs: Runs, contradiction: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is marked while the last try is under way, which still fails: it stays due, and the next one finds it well."""
    [ada] = await paying(business, 1)
    clock: Any = suite.stub(OperationsServiceStub, "invoicing")  # Any: grpc stubs are generated
    current_caller.set(service_caller("invoicing", suite.seller))
    desk = suite.running["invoicing"].desk()
    gather = facts.gather
    tries = 0

    async def marked(mine: Any, since: Any, **more: Any) -> Any:  # Any: as the function itself
        nonlocal tries
        tries += 1
        if tries == 2:
            async with desk.transaction() as tx:
                await bill_run.mark_customer_due(tx, ada.id)
        return await gather(mine, since, **more)

    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY), hold=True))
    for name in ("catalog", "subscriptions", "metering"):
        other: Any = suite.stub(OperationsServiceStub, name)  # Any: as above
        await other.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY)))
    monkeypatch.setattr("invoicing.usecases.facts.gather", marked)
    await bill_run.bill_customers(desk, [ada.id], grace=HOUR, taxes=RatesByHand())
    assert tries == 2
    assert await runs.parked() == []
    assert (await runs.state()).due_count == 1
    contradiction()
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY)))
    await suite.quiet()
    assert [pence(each) for each in await business.invoices()] == [90 + 87]


async def test_a_cancelled_bill_run_takes_back_what_it_asked_for(suite: Suite, business: Business, runs: Runs) -> None:
    """Of those that are not looked at yet: they are due when they were, and billed then."""
    seats = await business.plan(await business.price("Seats", **flat("10")))
    ada = await business.customer()
    await business.subscribe(ada, seats)
    clock: Any = suite.stub(OperationsServiceStub, "invoicing")  # Any: grpc stubs are generated
    middle = utc(2026, 1, 15)
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(middle), hold=True))
    run = await runs.begin(ada)
    cancelled = await runs.stub.CancelBillRun(pb.CancelBillRunRequest(id=run.id, request_id="c"))
    assert (cancelled.state, cancelled.progress.cancelled_count) == (BillRun.CANCELLED, 1)
    assert wire.parse_timestamp((await runs.state()).next_due_time, field="t") == FEBRUARY
    with refused("BILL_RUN_ENDED"):
        await runs.stub.CancelBillRun(pb.CancelBillRunRequest(id=run.id))
    with refused("BILL_RUN_ENDED"):
        await runs.stub.RetryBillRun(pb.RetryBillRunRequest(id=run.id))
    await suite.travel(FEBRUARY)
    assert len(await business.invoices(ada)) == 2
    assert await runs.outcomes(run) == {ada.id: "CANCELLED"}


async def test_several_bill_runs_hear_of_the_same_customer(suite: Suite, business: Business, runs: Runs) -> None:
    """Each knows in the end what became of it."""
    seats = await business.plan(await business.price("Seats", **flat("10")))
    ada = await business.customer()
    await business.subscribe(ada, seats)
    clock: Any = suite.stub(OperationsServiceStub, "invoicing")  # Any: grpc stubs are generated
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY), hold=True))
    both = [await runs.begin(ada), await runs.stub.CreateBillRun(pb.CreateBillRunRequest(scope=BillRun.ALL))]
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY)))
    await suite.travel(FEBRUARY)
    [first, second] = [await runs.results(each) for each in both]
    assert first == second
    [invoice_id] = first[0].invoice_ids
    assert invoice_id == (await business.invoices())[-1].id
    listed = (await runs.stub.ListBillRuns(pb.ListBillRunsRequest(page_size=1))).bill_runs
    assert [(each.id, each.HasField("progress")) for each in listed] == [(both[1].id, False)]


async def test_who_is_paid_for_is_told_of_the_invoice_of_the_payer(
    suite: Suite, business: Business, runs: Runs
) -> None:
    """It has the lines, whoever gets it. Where all lines together are too many for one invoice, each has its own."""
    payer, *children = [await business.customer() for _ in range(3)]
    paid: Any = suite.stub(CustomersServiceStub, "subscriptions")  # Any: grpc stubs are generated
    contract = await business.price("Contract", billing_timing=price_pb2.Price.IN_ARREARS, **flat("25"))
    plan = await business.plan(contract)
    for child in children:
        await paid.SetCustomerPayer(customers_service.SetCustomerPayerRequest(id=child.id, payer_id=payer.id))
        await business.subscribe(child, plan)
    clock: Any = suite.stub(OperationsServiceStub, "invoicing")  # Any: as above
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY), hold=True))
    run = await runs.begin(*children)
    await clock.AdvanceClock(operations.AdvanceClockRequest(time=wire.timestamp(FEBRUARY)))
    await suite.travel(FEBRUARY)
    [invoice] = await business.invoices()
    assert invoice.customer_id == payer.id
    assert {(each.customer_id, *each.invoice_ids) for each in await runs.results(run)} == {
        (child.id, invoice.id) for child in children
    }
    [total] = (await runs.get(run)).totals
    assert (total.invoice_count, total.line_count, total.total.units) == (1, 2, 50)


async def test_what_is_too_much_for_the_invoice_of_a_payer_is_on_several(
    suite: Suite, business: Business, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits because somebody else uses much, too."""
    monkeypatch.setattr("invoicing.domain.invoice.LINES_MAX", 1)
    payer, *children = [await business.customer() for _ in range(3)]
    paid: Any = suite.stub(CustomersServiceStub, "subscriptions")  # Any: grpc stubs are generated
    contract = await business.price("Contract", billing_timing=price_pb2.Price.IN_ARREARS, **flat("25"))
    plan = await business.plan(contract)
    for child in children:
        await paid.SetCustomerPayer(customers_service.SetCustomerPayerRequest(id=child.id, payer_id=payer.id))
        await business.subscribe(child, plan)
    await suite.travel(FEBRUARY)
    assert [(each.customer_id, pence(each)) for each in await business.invoices()] == [(payer.id, 25_00)] * 2
    assert await runs.parked() == []


async def test_one_with_more_lines_than_an_invoice_may_have_is_parked(
    suite: Suite, business: Business, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is billed in part; and once there is room, all of it is billed."""
    monkeypatch.setattr("invoicing.domain.invoice.LINES_MAX", 2)
    prices = [await business.price(f"Part {n}", **flat("1")) for n in range(3)]
    few, many = await business.customer(), await business.customer()
    await business.subscribe(few, await business.plan(*prices[:2]))
    await business.subscribe(many, await business.plan(*prices))
    assert [each.customer_id for each in await business.invoices()] == [few.id]
    [parked] = await runs.parked()
    assert (parked.customer_id, parked.reason) == (many.id, "INVOICE_TOO_LONG")
    monkeypatch.setattr("invoicing.domain.invoice.LINES_MAX", 3)
    await runs.begin(many)
    await suite.quiet()
    [invoice] = await business.invoices(many)
    assert (len(invoice.line_items), invoice.state) == (3, invoice_pb2.Invoice.OPEN)


async def test_bad_orders_are_refused_and_mark_nobody(suite: Suite, business: Business, runs: Runs) -> None:
    """Before anything is stored."""
    unknown = ids.mint("cus", utc(2026, 1, 1))
    with refused("CUSTOMER_NOT_FOUND"):
        await runs.stub.CreateBillRun(pb.CreateBillRunRequest(scope=BillRun.CUSTOMERS, customer_ids=[unknown]))
    for wrong in (
        pb.CreateBillRunRequest(),
        pb.CreateBillRunRequest(scope=BillRun.CUSTOMERS),
        pb.CreateBillRunRequest(scope=BillRun.ALL, customer_ids=[unknown]),
        pb.CreateBillRunRequest(scope=BillRun.CUSTOMERS, customer_ids=["cus_x"]),
        pb.CreateBillRunRequest(scope=BillRun.CUSTOMERS, customer_ids=[unknown] * 1_001),
    ):
        with refused("INVALID_ARGUMENT"):
            await runs.stub.CreateBillRun(wrong)
    for call in (
        runs.stub.GetBillRun(pb.GetBillRunRequest(id=ids.mint("brun", utc(2026, 1, 1)))),
        runs.stub.ListBillRunResults(pb.ListBillRunResultsRequest(id=ids.mint("brun", utc(2026, 1, 1)))),
        runs.stub.RetryBillRun(pb.RetryBillRunRequest(id=ids.mint("brun", utc(2026, 1, 1)))),
        runs.stub.CancelBillRun(pb.CancelBillRunRequest(id=ids.mint("brun", utc(2026, 1, 1)))),
    ):
        with refused("BILL_RUN_NOT_FOUND"):
            await call
    nobody = await runs.begin(scope=BillRun.ALL)
    assert (nobody.state, nobody.customer_count) == (BillRun.DONE, 0)


async def test_more_customers_than_a_bill_run_may_have_are_refused(
    suite: Suite, business: Business, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody is due because of it."""
    monkeypatch.setattr("invoicing.domain.bill_run.CUSTOMERS_MAX", 1)
    seats = await business.plan(await business.price("Seats", **flat("10")))
    for _ in range(2):
        await business.subscribe(await business.customer(), seats)
    with refused("BILL_RUN_TOO_LARGE"):
        await runs.begin(scope=BillRun.ALL)
    assert (await runs.state()).due_count == 0
