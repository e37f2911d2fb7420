"""Facts that come late, at once or in the wrong order, and neighbours that are away: nobody is cut off by mistake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from common import ids, wire
from common.caller import service_caller
from common.rpc import Desk
from common.testing import SANDBOX_START, Suite, refused
from dunning import clients, usecases
from dunning.consumers import on_invoice_overdue, on_invoice_paid
from dunning.domain.campaign import POSTPONEMENTS_MAX, Refusal
from saldo.dunning.v1 import dunning_service_pb2 as pb
from saldo.dunning.v1 import events_pb2
from saldo.dunning.v1.dunning_campaign_pb2 import DunningCampaign
from saldo.dunning.v1.dunning_policy_pb2 import DunningPolicy
from saldo.invoicing.v1 import events_pb2 as invoicing
from saldo.operations.v1 import operations_service_pb2 as operations
from saldo.operations.v1.operations_service_pb2_grpc import OperationsServiceStub
from services.dunning.tests.service.test_campaigns import ACTIVE, CANCELLED, PAST_DUE, actions, set_policy

from .conftest import DAY, World, invoice, paid


async def looks() -> AsyncIterator[None]:
    """For what is about to come: some seconds long."""
    for _ in range(500):
        yield
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")


async def test_nobody_is_cut_off_whose_invoice_payments_knows_to_be_paid(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fact has reached payments and not yet dunning: giving up waits for it."""

    async def be_late(_tx: object, _invoice_id: str) -> None:
        pass

    await set_policy(world.dunning, final=1, action=DunningPolicy.CANCEL_SUBSCRIPTION)
    await world.pay_with("sim:decline")
    owed = await world.finalize()
    await world.overdue(owed)
    with monkeypatch.context() as slow:
        slow.setattr(usecases, "take_note_of_paid_invoice", be_late)
        await world.settle(owed)
    await world.suite.travel(SANDBOX_START + DAY)
    waiting = await world.campaign(owed)
    assert [step.note for step in waiting.steps] == ["the payment is CANCELLED"]
    assert await world.subscription_states() == [PAST_DUE, PAST_DUE]
    await world.settle(owed)
    assert (await world.campaign(owed)).state == DunningCampaign.RECOVERED


async def test_nobody_is_cut_off_while_the_money_may_be_in(world: World) -> None:
    """Payments has it, and invoicing has not said so yet: giving up waits, day by day, until it does."""
    await set_policy(world.dunning, 1, final=1, action=DunningPolicy.CANCEL_SUBSCRIPTION)
    await world.pay_with("sim:decline,ok")
    owed = await world.finalize()
    await world.overdue(owed)
    await world.suite.travel(SANDBOX_START + 4 * DAY)
    waiting = await world.campaign(owed)
    assert actions(waiting) == ["RETRY_PAYMENT", "POSTPONE", "POSTPONE", "POSTPONE"]
    assert waiting.steps[-1].note == "the payment is SUCCEEDED"
    await world.settle(owed)
    assert (await world.campaign(owed)).state == DunningCampaign.RECOVERED
    assert await world.subscription_states() == [ACTIVE, ACTIVE]


async def test_nobody_is_waited_for_without_end(world: World) -> None:
    """After 30 days of not knowing the campaign stops and says so; nobody is late for what nobody follows up."""
    await set_policy(world.dunning, 1, final=1, action=DunningPolicy.CANCEL_SUBSCRIPTION)
    await world.pay_with("sim:decline,ok")
    owed = await world.finalize()
    await world.overdue(owed)
    await world.suite.travel(SANDBOX_START + 40 * DAY)
    stopped = await world.campaign(owed)
    assert stopped.state == DunningCampaign.CANCELLED
    assert actions(stopped) == ["RETRY_PAYMENT"] + ["POSTPONE"] * POSTPONEMENTS_MAX
    announced = world.suite.announced(events_pb2.DunningCampaignCancelled)
    assert [each.dunning_campaign for each in announced] == [stopped]
    assert await world.subscription_states() == [ACTIVE, ACTIVE]


async def test_a_retry_while_one_is_under_way_is_skipped(world: World) -> None:
    """Two retries without a wait between them: one attempt, since nobody may be charged twice."""
    await set_policy(world.dunning, 0, 0, final=2, action=DunningPolicy.NONE)
    await world.pay_with("sim:decline,delay=400+decline")
    owed = await world.finalize()
    campaign = await world.overdue(owed)
    assert actions(campaign) == ["RETRY_PAYMENT", "SKIP_RETRY"]
    assert campaign.steps[1].note == Refusal.PAYMENT_NOT_FAILED.value
    assert await world.attempts(owed) == 2


async def test_the_facts_may_come_in_either_order(suite: Suite, dunning: Any) -> None:
    """The bus promises no order: an invoice that is known to be paid is never followed up."""
    owed = invoice(customer_id=ids.mint("cus", SANDBOX_START))
    await suite.announce(invoicing.InvoicePaid(invoice=paid(owed)), source="invoicing")
    await suite.quiet()
    await suite.announce(invoicing.InvoiceOverdue(invoice=owed), source="invoicing")
    await suite.quiet()
    with refused("DUNNING_CAMPAIGN_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await dunning.GetDunningCampaign(pb.GetDunningCampaignRequest(invoice_id=owed.id))
    assert not suite.announced(events_pb2.DunningCampaignStarted)


@pytest.mark.own_services
async def test_the_facts_may_come_at_once(suite: Suite, dunning: Any) -> None:
    """Two replicas hear one fact each at the same moment: whoever is first, no campaign goes on."""
    customer = ids.mint("cus", SANDBOX_START)
    service = suite.running["dunning"]

    async def hear(fact: Any, heard: Any) -> None:  # Any: a handler, and its event
        async with service.database.transaction(service_caller("dunning", suite.seller)) as tx:
            await fact(tx, heard)

    for _ in range(25):
        owed = invoice(customer_id=customer)
        overdue, settled = invoicing.InvoiceOverdue(invoice=owed), invoicing.InvoicePaid(invoice=paid(owed))
        async with asyncio.TaskGroup() as group:
            group.create_task(hear(on_invoice_overdue, overdue))
            group.create_task(hear(on_invoice_paid, settled))
    found = await dunning.ListDunningCampaigns(pb.ListDunningCampaignsRequest())
    assert all(each.state == DunningCampaign.RECOVERED for each in found.dunning_campaigns)


async def test_a_payment_that_comes_while_payments_is_asked_stands(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the question and its record the invoice is paid: recovered is recovered, and the retry is told."""
    ask = clients.retry_payment
    await set_policy(world.dunning, 1, final=1, action=DunningPolicy.CANCEL_SUBSCRIPTION)
    await world.pay_with("sim:decline,ok")
    owed = await world.finalize()
    await world.overdue(owed)

    async def ask_slowly(desk: Desk, invoice_id: str, *, request_id: str) -> Refusal | None:
        answer = await ask(desk, invoice_id, request_id=request_id)
        await world.suite.announce(invoicing.InvoicePaid(invoice=paid(owed)), source="invoicing")
        async for _ in looks():
            if (await world.campaign(owed)).state == DunningCampaign.RECOVERED:
                break
        return answer

    monkeypatch.setattr(clients, "retry_payment", ask_slowly)
    await world.suite.travel(SANDBOX_START + 3 * DAY)
    campaign = await world.campaign(owed)
    assert (campaign.state, actions(campaign)) == (DunningCampaign.RECOVERED, ["RETRY_PAYMENT"])
    assert len(world.suite.announced(events_pb2.DunningCampaignRecovered)) == 1


async def test_a_new_card_that_comes_while_payments_is_asked_is_tried_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old card was declined in that very moment: asking for the new one is another question, not a repeated one."""
    ask = clients.retry_payment
    await set_policy(world.dunning, 1, final=1, action=DunningPolicy.CANCEL_SUBSCRIPTION)
    await world.pay_with("sim:decline")
    owed = await world.finalize()
    await world.overdue(owed)

    async def ask_slowly(desk: Desk, invoice_id: str, *, request_id: str) -> Refusal | None:
        answer = await ask(desk, invoice_id, request_id=request_id)
        monkeypatch.setattr(clients, "retry_payment", ask)
        async for _ in looks():
            if await world.attempts(owed) == 2 and not (await world.payment_is_processing(owed)):
                break
        await world.pay_with("sim:ok#new")
        async for _ in looks():
            if (await world.campaign(owed)).steps:
                break
        return answer

    monkeypatch.setattr(clients, "retry_payment", ask_slowly)
    await world.suite.travel(SANDBOX_START + DAY)
    assert actions(await world.campaign(owed)) == ["NEW_PAYMENT_METHOD", "RETRY_PAYMENT"]
    assert await world.attempts(owed) == 3


@pytest.mark.parametrize("point", [usecases.RETRY_ASKED, usecases.GIVEN_UP])
async def test_a_step_that_is_cut_off_is_taken_once(world: World, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """Others have acted and nothing is recorded: the step is done again, and changes nothing for them."""
    reached: list[str] = []

    def cut_off_once(name: str) -> None:
        reached.append(name)
        if name == point and reached.count(name) == 1:
            raise ConnectionResetError("cut off")

    monkeypatch.setattr(usecases, "crashpoint", cut_off_once)
    await set_policy(world.dunning, 1, final=1, action=DunningPolicy.CANCEL_SUBSCRIPTION)
    await world.pay_with("sim:decline")
    owed = await world.finalize()
    await world.overdue(owed)
    await world.suite.travel(SANDBOX_START + 3 * DAY)
    ended = await world.campaign(owed)
    assert reached.count(point) == 2
    assert (ended.state, actions(ended)) == (DunningCampaign.EXHAUSTED, ["RETRY_PAYMENT", "GIVE_UP"])
    assert await world.attempts(owed) == 2
    assert await world.subscription_states() == [CANCELLED, CANCELLED]


async def test_a_neighbour_that_is_away_is_waited_for(world: World) -> None:
    """An outage of payments costs time, and neither a retry nor a customer."""
    await set_policy(world.dunning, 1, final=1, action=DunningPolicy.NONE)
    await world.pay_with("sim:decline")
    owed = await world.finalize()
    await world.overdue(owed)
    await world.suite.stop("payments")
    clock = world.suite.stub(OperationsServiceStub, "dunning")
    due = operations.AdvanceClockRequest(time=wire.timestamp(SANDBOX_START + DAY))
    await clock.AdvanceClock(due)
    async for _ in looks():
        if (await clock.GetClock(operations.GetClockRequest())).failing_count:
            break
    assert not (await world.campaign(owed)).steps
    await world.suite.start("payments")
    await world.suite.travel(SANDBOX_START + DAY)
    assert actions(await world.campaign(owed)) == ["RETRY_PAYMENT"]
    assert await world.attempts(owed) == 2
