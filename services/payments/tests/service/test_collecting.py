"""Money is collected once: what is owed, what was refused, and what is settled otherwise."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from google.type import money_pb2
from opentelemetry.trace import SpanKind

from common import ids, wire
from common.money import Money
from common.telemetry import Telemetry
from common.testing import SANDBOX_START, Suite, refused
from saldo.invoicing.v1 import events_pb2 as invoicing
from saldo.invoicing.v1.invoice_pb2 import Invoice
from saldo.payments.v1.payment_pb2 import Payment, PaymentAttempt

from .conftest import GBP_64_16, Collecting


async def test_an_invoice_is_collected_when_it_is_final(collecting: Collecting) -> None:
    """The main job: owed, captured once, told once, and the gateway's record agrees to the penny."""
    method = await collecting.attach("sim:ok")
    payment = await collecting.payment(await collecting.owe())
    assert (payment.state, payment.amount, payment.failure_code) == (Payment.SUCCEEDED, GBP_64_16, "")
    [attempt] = payment.attempts
    assert (attempt.state, attempt.payment_method_id) == (PaymentAttempt.SUCCEEDED, method.id)
    assert attempt.settle_time == wire.timestamp(SANDBOX_START)
    assert collecting.succeeded() == [payment]
    [row] = await collecting.captures()
    assert (row["attempt_id"], row["amount_minor"], row["currency"]) == (attempt.id, 6416, "GBP")
    assert (row["invoice_id"], row["seller_id"]) == (payment.invoice_id, collecting.suite.seller)
    assert attempt.gateway_reference == f"sim_{row['capture_number']:06}"


async def test_the_same_invoice_twice_is_collected_once(collecting: Collecting) -> None:
    """A fact may come again, also as another event; an invoice has one payment. Whoever tells it again, from a backup
    that was restored, has forgotten that it was paid, and is told.
    """
    await collecting.attach("sim:ok")
    invoice = collecting.invoice(number="INV-000007")
    await collecting.owe(invoice)
    payment = await collecting.payment(invoice.id)
    for number in ("INV-000007", "INV-000009"):
        invoice.number = number
        await collecting.owe(invoice)
    assert len(await collecting.captured()) == 1
    assert collecting.succeeded() == [payment] * 3
    async with collecting.suite.own_rows("payments") as rows:
        [known] = await rows.fetch("SELECT invoice_number, told_again_count FROM payments")
    assert tuple(known) == ("INV-000007", 2)


@pytest.mark.parametrize(("told", "then"), [(24_16, 24_16), (84_16, 64_16)])
async def test_an_invoice_that_comes_again_is_not_collected_with_more(
    collecting: Collecting, told: int, then: int
) -> None:
    """Of two announcements nobody knows which is the later one: the next attempt is of the smaller amount."""
    await collecting.attach("sim:decline,ok")
    invoice = collecting.invoice()
    await collecting.owe(invoice)
    invoice.amount_remaining.CopyFrom(money_pb2.Money(currency_code="GBP", units=told // 100, nanos=160_000_000))
    await collecting.owe(invoice)
    assert (await collecting.payment(invoice.id)).state == Payment.FAILED
    await collecting.retry(invoice.id)
    assert [amount for _, amount in await collecting.captured()] == [then]


async def test_what_was_annulled_is_not_collected_when_it_comes_again(collecting: Collecting) -> None:
    """Whoever forgot that annuls it once more."""
    await collecting.attach("sim:decline,ok")
    invoice = collecting.invoice()
    await collecting.owe(invoice)
    await collecting.pay_otherwise(invoice)
    await collecting.owe(invoice)
    assert (await collecting.payment(invoice.id)).state == Payment.CANCELLED
    assert await collecting.captured() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"collection_method": Invoice.SEND_INVOICE},
        {"state": Invoice.PAID},
        {"amount_remaining": money_pb2.Money(currency_code="GBP")},
    ],
)
async def test_what_is_not_to_be_collected_is_not(collecting: Collecting, changes: dict[str, Any]) -> None:
    """Invoices that are paid by hand, or already, or come to nothing."""
    await collecting.attach("sim:ok")
    invoice = collecting.invoice(**changes)
    await collecting.owe(invoice)
    with refused("PAYMENT_NOT_FOUND"):
        await collecting.payment(invoice.id)
    assert not await collecting.captures()


async def test_without_a_payment_method_the_payment_fails_and_can_be_retried(collecting: Collecting) -> None:
    """Nothing to collect from is not the end: a method may come."""
    invoice_id = await collecting.owe()
    failed = await collecting.payment(invoice_id)
    assert (failed.state, failed.failure_code, failed.retryable) == (Payment.FAILED, "NO_PAYMENT_METHOD", True)
    assert (list(failed.attempts), collecting.failed()) == ([], [failed])
    await collecting.retry(invoice_id)
    assert len(collecting.failed()) == 2
    await collecting.attach("sim:ok")
    assert (await collecting.retry(invoice_id)).state == Payment.PROCESSING
    assert (await collecting.payment(invoice_id)).state == Payment.SUCCEEDED


async def test_declines_and_then_success(collecting: Collecting) -> None:
    """Each try is an attempt of its own, told as it ends; only the last one captured."""
    await collecting.attach("sim:decline,decline=do_not_honor,ok")
    invoice_id = await collecting.owe()
    first = await collecting.payment(invoice_id)
    assert (first.state, first.failure_code, first.retryable) == (Payment.FAILED, "insufficient_funds", True)
    await collecting.retry(invoice_id)
    await collecting.retry(invoice_id)
    payment = await collecting.payment(invoice_id)
    assert [attempt.failure_code for attempt in payment.attempts] == ["insufficient_funds", "do_not_honor", ""]
    assert (payment.state, payment.retryable) == (Payment.SUCCEEDED, False)
    assert [event.failure_code for event in collecting.failed()] == ["insufficient_funds", "do_not_honor"]
    assert await collecting.captured() == [(payment.attempts[2].id, 6416)]
    revisions = [event.revision for event in (*collecting.failed(), *collecting.succeeded())]
    assert revisions == sorted(set(revisions))
    with refused("PAYMENT_NOT_FAILED"):
        await collecting.retry(invoice_id)


async def test_a_hard_decline_needs_another_payment_method(collecting: Collecting) -> None:
    """Asking a stolen card again is rude to everyone; asking another card is not."""
    await collecting.attach("sim:decline=stolen_card")
    invoice_id = await collecting.owe()
    assert not (await collecting.payment(invoice_id)).retryable
    with refused("PAYMENT_NOT_RETRYABLE") as refusal:
        await collecting.retry(invoice_id)
    assert refusal.metadata["failure_code"] == "stolen_card"
    await collecting.attach("sim:ok")
    await collecting.retry(invoice_id)
    assert (await collecting.payment(invoice_id)).state == Payment.SUCCEEDED


async def test_many_retries_at_once_make_one_attempt(collecting: Collecting) -> None:
    """Dunning, an operator and a customer may all press the button."""
    await collecting.attach("sim:decline,ok")
    invoice_id = await collecting.owe()
    answers = await asyncio.gather(*(collecting.retry(invoice_id) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(answer, Payment) for answer in answers) == 1
    await collecting.suite.quiet()
    payment = await collecting.payment(invoice_id)
    assert (payment.state, len(payment.attempts)) == (Payment.SUCCEEDED, 2)
    assert len(await collecting.captured()) == 1


@pytest.mark.own_services
async def test_retries_at_a_standing_clock_are_not_taken_for_a_loop(collecting: Collecting) -> None:
    """A sandbox's time stands still between two tries; neither may fail as a job that never ends."""
    await collecting.attach("sim:decline")
    invoice_id = await collecting.owe()
    for _ in range(3):
        await collecting.retry(invoice_id)
    assert len((await collecting.payment(invoice_id)).attempts) == 4
    connection = await asyncpg.connect(collecting.suite.urls["payments"].replace("+asyncpg", ""))
    try:
        await connection.execute(f"SELECT set_config('saldo.seller', '{collecting.suite.seller}', false)")
        assert await connection.fetchval("SELECT count(*) FROM job_failures") == 0
    finally:
        await connection.close()


@pytest.mark.own_services
async def test_the_database_itself_refuses_a_second_open_attempt(collecting: Collecting) -> None:
    """Whatever code runs: the rule that matters most does not rest on code."""
    await collecting.attach("sim:lost")
    await collecting.owe()
    connection = await asyncpg.connect(collecting.suite.urls["payments"].replace("+asyncpg", ""))
    try:
        await connection.execute(f"SELECT set_config('saldo.seller', '{collecting.suite.seller}', false)")
        for change in ("'PENDING', NULL, now(), ''", "'UNKNOWN', NULL, now(), ''"):
            with pytest.raises(asyncpg.UniqueViolationError, match="one_open"):
                await connection.execute(
                    "INSERT INTO payment_attempts (seller_id, id, payment_id, number, state, settle_time, ask_time,"
                    " gateway_reference, payment_method_id, gateway, failure_code, create_time, record_time,"
                    " asked_count, deferred, traceparent)"
                    f" SELECT seller_id, 'att_other', payment_id, 2, {change}, payment_method_id, gateway, '',"
                    " create_time, record_time, 0, false, '' FROM payment_attempts"
                )
    finally:
        await connection.close()


async def test_an_invoice_paid_otherwise_is_not_collected(collecting: Collecting) -> None:
    """A transfer came in after the decline: no button makes us collect it again."""
    await collecting.attach("sim:decline,ok")
    invoice = collecting.invoice()
    await collecting.owe(invoice)
    await collecting.pay_otherwise(invoice)
    payment = await collecting.payment(invoice.id)
    assert (payment.state, payment.failure_code) == (Payment.CANCELLED, "")
    assert collecting.cancelled() == [payment]
    with refused("PAYMENT_NOT_FAILED"):
        await collecting.retry(invoice.id)
    assert not await collecting.captured()


async def test_an_invoice_heard_of_as_paid_before_it_was_final_is_not_collected(collecting: Collecting) -> None:
    """Facts can overtake one another."""
    await collecting.attach("sim:ok")
    invoice = collecting.invoice()
    await collecting.pay_otherwise(invoice)
    await collecting.owe(invoice)
    await collecting.pay_otherwise(invoice)
    payment = await collecting.payment(invoice.id)
    assert (payment.state, list(payment.attempts)) == (Payment.CANCELLED, [])
    assert collecting.cancelled() == [payment]
    assert not await collecting.captures()


async def test_our_own_success_comes_back_as_a_paid_invoice(collecting: Collecting) -> None:
    """Invoicing tells everyone, us too; nothing changes."""
    await collecting.attach("sim:ok")
    invoice = collecting.invoice()
    await collecting.owe(invoice)
    before = await collecting.payment(invoice.id)
    await collecting.pay_otherwise(invoice)
    assert await collecting.payment(invoice.id) == before


@pytest.mark.own_services
@pytest.mark.parametrize(
    ("gateway", "token", "before", "after", "expected"),
    [
        ("simulated", "sim:ok", {}, {"simulated_gateway_url": ""}, "GatewayNotConfigured"),
        (
            "stripe",
            "pm_card_visa",
            {"stripe_api_key": "sk_test_1", "stripe_api_base": "http://127.0.0.1:1"},
            {"stripe_api_key": "sk_live_1", "stripe_api_base": "http://127.0.0.1:1"},
            "RealMoneyInSandbox",
        ),
    ],
)
async def test_a_gateway_that_has_changed_leaves_a_failing_job_and_no_attempt(
    suite: Suite, gateway: str, token: str, before: dict[str, str], after: dict[str, str], expected: str
) -> None:
    """A configuration mistake is for people: nothing is recorded as tried, and a sandbox moves no real money."""
    collecting = await Collecting(suite).start(**before)
    await collecting.attach(token, gateway=gateway)
    await suite.stop("payments")
    await collecting.start(**after)
    invoice = collecting.invoice()
    await suite.announce(invoicing.InvoiceFinalized(invoice=invoice), source="invoicing")
    connection = await asyncpg.connect(suite.urls["payments"].replace("+asyncpg", ""))
    try:
        await connection.execute(f"SELECT set_config('saldo.seller', '{suite.seller}', false)")
        error = None
        for _ in range(100):
            error = await connection.fetchval("SELECT error FROM job_failures")
            if error:
                break
            await asyncio.sleep(0.05)
        assert error is not None
        assert expected in error
        assert await connection.fetchval("SELECT count(*) FROM payment_attempts") == 0
    finally:
        await connection.close()


@pytest.mark.own_services
async def test_one_trace_from_the_invoice_to_the_money(collecting: Collecting) -> None:
    """Also when the answer came later: who looks for where a payment came from finds one trace."""
    await collecting.attach("sim:lost")
    invoice = collecting.invoice()
    tracing = Telemetry("test")
    with tracing.span("finalize", SpanKind.INTERNAL) as span:
        await collecting.suite.announce(invoicing.InvoiceFinalized(invoice=invoice), source="invoicing")
    await collecting.suite.quiet()
    await collecting.suite.travel(SANDBOX_START + timedelta(minutes=5))
    [told] = [
        message for message in collecting.suite.bus.published("PAYMENTS") if message.subject.endswith("Succeeded")
    ]
    assert told.headers["traceparent"].split("-")[1] == f"{span.get_span_context().trace_id:032x}"
    tracing.shutdown()


async def test_payments_of_other_customers_go_on(collecting: Collecting) -> None:
    """One customer's unknown is nobody else's."""
    await collecting.attach("sim:lost")
    await collecting.owe()
    other = Collecting(collecting.suite, stub=collecting.stub, customer=ids.mint("cus", SANDBOX_START))
    await other.attach("sim:ok")
    assert (await other.payment(await other.owe())).state == Payment.SUCCEEDED


async def credited(collecting: Collecting, invoice: Invoice, pence: int) -> None:
    """A credit note leaves so much to be paid."""
    less = Invoice()
    less.CopyFrom(invoice)
    less.amount_remaining.CopyFrom(wire.money(Money(pence, "GBP")))
    await collecting.suite.announce(invoicing.InvoiceCredited(invoice=less), source="invoicing")
    await collecting.suite.quiet()


async def test_only_what_remains_is_collected_after_a_credit_note(collecting: Collecting) -> None:
    """What was refused was refused of the whole; what is captured is the rest."""
    await collecting.attach("sim:decline,ok")
    invoice = collecting.invoice()
    await collecting.owe(invoice)
    await credited(collecting, invoice, 24_16)
    failed = await collecting.payment(invoice.id)
    assert (failed.state, wire.parse_money(failed.amount, field="amount").minor) == (Payment.FAILED, 24_16)
    await collecting.retry(invoice.id)
    payment = await collecting.payment(invoice.id)
    amounts = [wire.parse_money(attempt.amount, field="amount").minor for attempt in payment.attempts]
    assert (payment.state, amounts) == (Payment.SUCCEEDED, [64_16, 24_16])
    assert await collecting.captured() == [(payment.attempts[1].id, 24_16)]
    await credited(collecting, invoice, 14_16)
    assert await collecting.payment(invoice.id) == payment


async def test_a_credit_note_that_is_heard_of_first_counts(collecting: Collecting) -> None:
    """Facts may come in either order, and more than once; less never becomes more again."""
    await collecting.attach("sim:decline,ok")
    invoice = collecting.invoice()
    await credited(collecting, invoice, 24_16)
    await credited(collecting, invoice, 44_16)
    await collecting.owe(invoice)
    await collecting.retry(invoice.id)
    assert [amount for _, amount in await collecting.captured()] == [24_16]


async def test_an_attempt_under_way_is_of_what_it_was_begun_with(collecting: Collecting) -> None:
    """Under one key a gateway is told of one amount. Whoever is told of the money hears how much it really was."""
    await collecting.attach("sim:lost,ok")
    invoice = collecting.invoice()
    await collecting.owe(invoice)
    await credited(collecting, invoice, 24_16)
    await collecting.suite.travel(SANDBOX_START + timedelta(hours=1))
    payment = await collecting.payment(invoice.id)
    assert (payment.state, payment.amount) == (Payment.SUCCEEDED, GBP_64_16)
    assert collecting.succeeded() == [payment]


@pytest.mark.parametrize("event", [invoicing.InvoiceVoided, invoicing.InvoiceMarkedUncollectible])
@pytest.mark.parametrize("heard_first", [False, True])
async def test_what_is_annulled_or_given_up_is_not_collected(
    collecting: Collecting,
    event: Any,
    heard_first: bool,  # Any: a class of message
) -> None:
    """Whichever fact comes first; and no retry brings it back."""
    await collecting.attach("sim:decline,ok")
    invoice = collecting.invoice()
    if not heard_first:
        await collecting.owe(invoice)
    ended = collecting.invoice(id=invoice.id, state=Invoice.VOID, amount_remaining=money_pb2.Money(currency_code="GBP"))
    await collecting.suite.announce(event(invoice=ended), source="invoicing")
    await collecting.suite.quiet()
    await collecting.owe(invoice)
    assert (await collecting.payment(invoice.id)).state == Payment.CANCELLED
    assert [payment.invoice_id for payment in collecting.cancelled()] == [invoice.id]
    with refused("PAYMENT_NOT_FAILED"):
        await collecting.retry(invoice.id)
    assert await collecting.captured() == []


async def test_an_invoice_that_is_announced_again_is_told_what_came_in_otherwise(collecting: Collecting) -> None:
    """Whoever announces it restored a backup, and has forgotten of the transfer: also where nothing is collected."""
    invoice = collecting.invoice(collection_method=Invoice.SEND_INVOICE)
    await collecting.owe(invoice)
    assert collecting.succeeded() == []
    async with collecting.suite.own_rows("payments") as rows:
        await rows.execute(
            "INSERT INTO recorded_payments (seller_id, id, invoice_id, customer_id, amount_minor, currency, means,"
            " reference, paid_time, create_time) VALUES ($1, $2, $3, $4, 1000, 'GBP', 'CASH', 'till-1', $5, $5)",
            collecting.suite.seller,
            payment_id := ids.mint("pay", SANDBOX_START),
            invoice.id,
            invoice.customer_id,
            SANDBOX_START,
        )
    await collecting.owe(invoice)
    [told] = collecting.succeeded()
    assert (told.id, told.invoice_id, told.outside.reference) == (payment_id, invoice.id, "till-1")
    assert wire.parse_money(told.amount, field="amount") == Money(1000, "GBP")
    await collecting.owe(collecting.invoice())
    assert collecting.succeeded() == [told]
