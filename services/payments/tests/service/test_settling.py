"""What nobody knew for a while is found out, and captured once: lost answers, slow gateways, processes that die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from common import wire
from common.caller import service_caller
from common.money import Money
from common.rpc import Desk
from common.testing import SANDBOX_START, Suite, refused
from payments import usecases
from payments.domain.errors import CapturedAfterFailure
from payments.domain.payment import AttemptId
from payments.gateways import Captured, CaptureOrder, Gateways, Outcome
from payments.gateways.simulated import SimulatedGateway
from saldo.payments.v1.payment_pb2 import Payment, PaymentAttempt

from .conftest import Collecting

SETTLED = timedelta(days=3)


async def test_a_lost_answer_is_settled_without_a_second_capture(collecting: Collecting) -> None:
    """The gateway captured and nobody heard: asked by our id, it says so; meanwhile nobody may try again."""
    await collecting.attach("sim:lost,ok")
    invoice_id = await collecting.owe()
    unknown = await collecting.payment(invoice_id)
    assert (unknown.state, unknown.attempts[0].state) == (Payment.PROCESSING, PaymentAttempt.UNKNOWN)
    assert not collecting.succeeded()
    with refused("PAYMENT_NOT_FAILED"):
        await collecting.retry(invoice_id)
    await collecting.suite.travel(SANDBOX_START + timedelta(minutes=5))
    payment = await collecting.payment(invoice_id)
    assert (payment.state, len(payment.attempts)) == (Payment.SUCCEEDED, 1)
    assert payment.attempts[0].settle_time == wire.timestamp(SANDBOX_START + timedelta(minutes=5))
    assert await collecting.captured() == [(payment.attempts[0].id, 6416)]
    assert len(collecting.succeeded()) == 1


async def test_what_never_reached_the_gateway_is_called_again_under_the_same_key(collecting: Collecting) -> None:
    """The call itself was lost: once the gateway cannot be at work on it any more, the same attempt is sent again."""
    await collecting.attach("sim:timeout,ok")
    invoice_id = await collecting.owe()
    await collecting.suite.travel(SANDBOX_START + timedelta(minutes=9))
    assert (await collecting.payment(invoice_id)).attempts[0].state == PaymentAttempt.UNKNOWN
    assert not await collecting.captures()
    await collecting.suite.travel(SANDBOX_START + timedelta(hours=1))
    payment = await collecting.payment(invoice_id)
    [attempt] = payment.attempts
    assert payment.state == Payment.SUCCEEDED
    assert await collecting.captured() == [(attempt.id, 6416)]


async def test_what_the_gateway_never_hears_of_is_lost_in_the_end(collecting: Collecting) -> None:
    """Past the life of the key nothing was captured and nothing will be: failed, and a new attempt is allowed."""
    await collecting.attach("sim:timeout")
    invoice_id = await collecting.owe()
    await collecting.suite.travel(SANDBOX_START + SETTLED)
    lost = await collecting.payment(invoice_id)
    assert (lost.state, lost.failure_code, lost.retryable) == (Payment.FAILED, "lost", True)
    assert collecting.failed() == [lost]
    await collecting.attach("sim:ok")
    await collecting.retry(invoice_id)
    payment = await collecting.payment(invoice_id)
    assert len(payment.attempts) == 2
    assert await collecting.captured() == [(payment.attempts[1].id, 6416)]


async def test_a_slow_gateway_captures_after_its_caller_has_hung_up(suite: Suite) -> None:
    """A deadline ends our waiting and not their work: unknown until asked, then found, captured once."""
    collecting = await Collecting(suite).start(gateway_timeout_seconds=0.2)
    await collecting.attach("sim:delay=600+ok")
    invoice_id = await collecting.owe()
    assert (await collecting.payment(invoice_id)).attempts[0].state == PaymentAttempt.UNKNOWN
    assert not await collecting.captures()
    await asyncio.sleep(0.6)
    await suite.travel(SANDBOX_START + timedelta(minutes=5))
    payment = await collecting.payment(invoice_id)
    assert payment.state == Payment.SUCCEEDED
    assert await collecting.captured() == [(payment.attempts[0].id, 6416)]


async def test_an_attempt_that_is_under_way_is_never_called_lost(suite: Suite) -> None:
    """A sandbox's days pass in milliseconds; the gateway says that it is still at work, and that is believed."""
    collecting = await Collecting(suite).start(gateway_timeout_seconds=0.2)
    await collecting.attach("sim:delay=1500+ok")
    invoice_id = await collecting.owe()
    await suite.travel(SANDBOX_START + SETTLED)
    assert (await collecting.payment(invoice_id)).attempts[0].state == PaymentAttempt.UNKNOWN
    await asyncio.sleep(1.5)
    await suite.travel(SANDBOX_START + SETTLED + timedelta(days=2))
    payment = await collecting.payment(invoice_id)
    assert (payment.state, len(payment.attempts)) == (Payment.SUCCEEDED, 1)
    assert len(await collecting.captured()) == 1


class Died(Exception):
    """Stands in for the end of the process: what has been committed stays, and nothing else happens."""


@pytest.mark.parametrize("point", [usecases.RECORDED, usecases.CALLED])
async def test_a_process_that_dies_between_record_and_record(
    collecting: Collecting, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Before the call nothing was captured, after it everything was; either way it is captured once in the end."""
    await collecting.attach("sim:ok")
    deaths: list[str] = []

    def die(name: str) -> None:
        if name == point and not deaths:
            deaths.append(name)
            raise Died

    monkeypatch.setattr(usecases, "crashpoint", die)
    invoice_id = await collecting.owe()
    assert deaths == [point]
    pending = await collecting.payment(invoice_id)
    assert (pending.state, pending.attempts[0].state) == (Payment.PROCESSING, PaymentAttempt.PENDING)
    assert len(await collecting.captured()) == (1 if point == usecases.CALLED else 0)
    await collecting.suite.travel(SANDBOX_START + timedelta(hours=1))
    payment = await collecting.payment(invoice_id)
    assert payment.state == Payment.SUCCEEDED
    assert await collecting.captured() == [(payment.attempts[0].id, 6416)]
    assert len(collecting.succeeded()) == 1


@pytest.mark.own_services
async def test_settling_while_the_call_is_still_under_way_doubles_nothing(suite: Suite) -> None:
    """The settling job may overtake the call it doubts: the gateway knows the key, and says that it is at work."""
    collecting = await Collecting(suite).start()
    await collecting.attach("sim:delay=400+ok")
    invoice = collecting.invoice()
    owing = asyncio.create_task(collecting.owe(invoice))
    async with _doubting(suite) as (gateways, desk, doubt):
        attempt_id = ""
        for _ in range(500):
            if attempt_id := await doubt():
                break
            await asyncio.sleep(0.01)
        await asyncio.gather(*(usecases.settle_attempt(gateways, desk, attempt_id) for _ in range(3)))
        await owing
    await suite.travel(SANDBOX_START + timedelta(minutes=5))
    payment = await collecting.payment(invoice.id)
    assert (payment.state, len(payment.attempts)) == (Payment.SUCCEEDED, 1)
    assert len(await collecting.captured()) == len(collecting.succeeded()) == 1


@pytest.mark.own_services
async def test_whoever_learns_the_outcome_later_changes_nothing(suite: Suite) -> None:
    """Several may ask the gateway at once, and each hears that it captured: told once, and nobody fails."""
    collecting = await Collecting(suite).start()
    await collecting.attach("sim:lost")
    invoice_id = await collecting.owe()
    async with _doubting(suite) as (gateways, desk, doubt):
        attempt_id = await doubt()
        await asyncio.gather(*(usecases.settle_attempt(gateways, desk, attempt_id) for _ in range(6)))
    await suite.quiet()
    payment = await collecting.payment(invoice_id)
    assert payment.state == Payment.SUCCEEDED
    assert len(await collecting.captured()) == len(collecting.succeeded()) == 1


@asynccontextmanager
async def _doubting(suite: Suite) -> AsyncIterator[tuple[Gateways, Desk, Callable[[], Awaitable[str]]]]:
    """What the settling job works with, and a way to make the one attempt due for asking; "" while there is none."""
    gateway = SimulatedGateway(suite.urls["simulated_gateway"])
    service = suite.running["payments"]
    desk = Desk(service.database, service_caller("payments", suite.seller), service.neighbours)

    async def attempt_id() -> str:
        async with desk.transaction() as tx:
            found: str | None = await tx.driver.fetchval(
                "UPDATE payment_attempts SET ask_time = create_time WHERE ask_time IS NOT NULL RETURNING id"
            )
            return found or ""

    try:
        yield {gateway.name: gateway}, desk, attempt_id
    finally:
        await gateway.close()


async def test_an_unknown_attempt_of_an_invoice_paid_otherwise_is_not_sent_again(collecting: Collecting) -> None:
    """It is followed to its end, but nobody wants the money twice."""
    await collecting.attach("sim:timeout,ok")
    invoice = collecting.invoice()
    await collecting.owe(invoice)
    await collecting.pay_otherwise(invoice)
    await collecting.suite.travel(SANDBOX_START + SETTLED)
    payment = await collecting.payment(invoice.id)
    assert (payment.state, payment.attempts[0].failure_code) == (Payment.CANCELLED, "lost")
    assert collecting.cancelled() == [payment]
    assert not collecting.failed()
    assert not await collecting.captured()


@pytest.mark.own_services
async def test_money_that_comes_in_for_a_failed_attempt_is_not_passed_over(collecting: Collecting) -> None:
    """It cannot be; should it happen all the same, it is told with both ids, and nothing on record changes."""
    await collecting.attach("sim:decline")
    before = await collecting.payment(await collecting.owe())
    service = collecting.suite.running["payments"]
    desk = Desk(service.database, service_caller("payments", collecting.suite.seller), service.neighbours)
    order = CaptureOrder(
        attempt_id=AttemptId(before.attempts[0].id),
        seller_id=collecting.suite.seller,
        invoice_id=before.invoice_id,
        token="sim:ok",
        amount=Money(6416, "GBP"),
        record_time=SANDBOX_START,
    )
    with pytest.raises(CapturedAfterFailure) as told:
        await usecases._capture(desk, LateGateway(), order)  # as a job that was held up would go on
    assert told.value.metadata == {"attempt": order.attempt_id, "gateway_reference": "late_1"}
    assert await collecting.payment(before.invoice_id) == before


class LateGateway(SimulatedGateway):
    """One whose answer comes when nobody counts on it any more."""

    def __init__(self) -> None:
        super().__init__("")

    async def capture(self, order: CaptureOrder) -> Outcome:
        return Captured("late_1")
