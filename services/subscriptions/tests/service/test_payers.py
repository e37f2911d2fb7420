"""Who gets the invoices of whom, since when: told with every billable period, and the same whenever it is asked."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from common import wire
from common.testing import Suite, refused
from saldo.subscriptions.v1 import customer_pb2, events_pb2, subscription_pb2
from saldo.subscriptions.v1 import customers_service_pb2 as customers_pb
from saldo.subscriptions.v1 import personal_data_service_pb2 as personal_pb
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.personal_data_service_pb2_grpc import PersonalDataServiceStub

pytestmark = pytest.mark.patched_when_used

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
Action = subscription_pb2.SubscriptionAction
Change = subscription_pb2.SubscriptionChange


def day(month: int, number: int = 1) -> datetime:
    return datetime(2026, month, number, tzinfo=UTC)


def names(payer_id: str) -> subscription_pb2.SubscriptionAction:
    return Action(set_payer=Action.SetPayer(payer_id=payer_id))


async def pay(shop: Any, customer: customer_pb2.Customer, payer_id: str) -> None:
    await shop.customers.SetCustomerPayer(customers_pb.SetCustomerPayerRequest(id=customer.id, payer_id=payer_id))


async def merge(shop: Any, source: customer_pb2.Customer, target: customer_pb2.Customer) -> None:
    await shop.customers.MergeCustomers(customers_pb.MergeCustomersRequest(source_id=source.id, target_id=target.id))


async def erase(suite: Suite, customer: customer_pb2.Customer) -> customer_pb2.Customer:
    door: Any = suite.stub(PersonalDataServiceStub, "subscriptions")  # Any: grpc stubs are generated
    erased: customer_pb2.Customer = await door.ErasePersonalData(
        personal_pb.ErasePersonalDataRequest(customer_id=customer.id)
    )
    return erased


async def payers(shop: Any, customer: customer_pb2.Customer, through: datetime) -> list[str]:
    """Of each period, one by one and asked with others; both ways must say the same."""
    schedule = await shop.due(customer, through=through)
    batch = await shop.api.BatchListBillablePeriods(
        pb.BatchListBillablePeriodsRequest(customer_ids=[customer.id], through_time=wire.timestamp(through))
    )
    assert batch.schedules[0].periods == schedule.periods
    return [period.payer_id for period in schedule.periods]


async def test_a_new_payer_gets_what_is_due_from_then_on(suite: Suite, shop: Any) -> None:
    """What was due before goes to whom it went, whoever asks when."""
    ada, eve, bob = [await shop.customer() for _ in range(3)]
    await shop.subscribe(ada, await shop.plan(shop.price("seats")))
    await suite.travel(day(2, 15))
    assert await payers(shop, ada, day(2, 15)) == ["", ""]
    await pay(shop, ada, eve.id)
    assert await payers(shop, ada, day(2, 15)) == ["", ""]
    assert await payers(shop, ada, day(4)) == ["", "", eve.id, eve.id]
    await suite.travel(day(3, 15))
    await pay(shop, ada, bob.id)
    await suite.travel(day(4, 15))
    await pay(shop, ada, "")
    assert await payers(shop, ada, day(5)) == ["", "", eve.id, bob.id, ""]


async def test_what_was_due_in_the_very_moment_stays(suite: Suite, shop: Any) -> None:
    """Time may stand still between a bill and a new payer, and between a payer and the first bill."""
    ada, new, eve, bob = [await shop.customer() for _ in range(4)]
    plan = await shop.plan(shop.price("seats"))
    await shop.subscribe(ada, plan)
    assert await payers(shop, ada, day(1)) == [""]
    for payer in (bob, eve):
        await pay(shop, ada, payer.id)
        assert await payers(shop, ada, day(2)) == ["", payer.id]
    for payer in (bob, eve):
        await pay(shop, new, payer.id)
    await shop.subscribe(new, plan)
    await pay(shop, new, "")
    assert await payers(shop, new, day(2)) == [eve.id, ""]
    await suite.travel(day(2))
    assert await payers(shop, ada, day(2)) == ["", eve.id]
    await pay(shop, ada, "")
    assert await payers(shop, ada, day(3)) == ["", eve.id, ""]


async def test_whom_a_subscription_names_comes_first(suite: Suite, shop: Any) -> None:
    """Before the customer's payer, for as long as it names somebody; a preview tells it as well."""
    ada, eve, bob = [await shop.customer() for _ in range(3)]
    await pay(shop, ada, eve.id)
    plan = await shop.plan(shop.price("seats"))
    subscription = await shop.subscribe(ada, plan, payer_id=bob.id)
    through = {"through_time": wire.timestamp(day(3))}
    change = shop.change_request(subscription, names(""), at=day(2))
    preview = await shop.api.PreviewChange(pb.PreviewChangeRequest(change=change, **through))
    assert [each.payer_id for each in preview.removed] == [bob.id, bob.id]
    assert [each.payer_id for each in preview.added] == [eve.id, eve.id]
    await shop.change(subscription, names(""), at=day(2, 15))
    assert await payers(shop, ada, day(3)) == [bob.id, bob.id, eve.id]


async def test_where_the_source_paid_the_target_pays_from_then_on(suite: Suite, shop: Any) -> None:
    """For customers and for subscriptions, also by what is only to come; told of each, and nothing before it moves."""
    source, target, paid, ada = [await shop.customer() for _ in range(4)]
    plan = await shop.plan(shop.price("seats"))
    await pay(shop, paid, source.id)
    await shop.subscribe(paid, plan)
    named = await shop.subscribe(ada, plan, payer_id=source.id)
    to_come = await shop.subscribe(ada, plan)
    await shop.change(to_come, names(source.id), at=day(3, 15))
    await suite.travel(day(2, 15))
    await suite.quiet()
    before = len(suite.announced(events_pb2.SubscriptionChanged))
    await merge(shop, source, target)
    assert await payers(shop, paid, day(3)) == [source.id, source.id, target.id]
    schedule = await shop.due(ada, through=day(4))
    found = {
        each.id: [period.payer_id for period in schedule.periods if period.subscription_id == each.id]
        for each in (named, to_come)
    }
    assert found == {named.id: [source.id, source.id, target.id, target.id], to_come.id: ["", "", "", target.id]}
    assert (await shop.find(named)).payer_id == target.id
    await suite.quiet()
    told = suite.announced(events_pb2.SubscriptionChanged)[before:]
    assert [(each.subscription.id, each.change.state) for each in told] == [
        (named.id, Change.IN_EFFECT),
        (to_come.id, Change.REVOKED),
        (to_come.id, Change.SCHEDULED),
    ]
    # As a whole it can be taken back as before.
    await shop.api.RevokeSubscriptionChange(
        pb.RevokeSubscriptionChangeRequest(subscription_id=to_come.id, change_id=told[-1].change.id)
    )
    schedule = await shop.due(ada, through=day(4))
    assert [each.payer_id for each in schedule.periods if each.subscription_id == to_come.id] == [""] * 4


async def test_nobody_pays_for_itself_after_a_merge(suite: Suite, shop: Any) -> None:
    """Neither for what was the target's, nor for what has come to it; what ends with the source goes where it went."""
    source, target, eve = [await shop.customer() for _ in range(3)]
    plan = await shop.plan(shop.price("seats"))
    await pay(shop, target, source.id)
    theirs = await shop.subscribe(target, plan)
    own = await shop.subscribe(target, plan, payer_id=source.id)
    await suite.travel(day(1, 15))
    await merge(shop, source, target)
    assert (await shop.find(theirs)).payer_id == ""
    assert (await shop.find(own)).payer_id == ""
    assert await payers(shop, target, day(2)) == [source.id, source.id, "", ""]
    await pay(shop, target, eve.id)
    assert await payers(shop, target, day(2)) == [source.id, source.id, eve.id, eve.id]


async def test_what_is_left_of_the_source_goes_to_who_paid_for_it(suite: Suite, shop: Any) -> None:
    """Usage before the merge is billed after it, still to the source; its payer may be merged in its turn."""
    source, target, eve, last = [await shop.customer() for _ in range(4)]
    await pay(shop, source, eve.id)
    subscription = await shop.subscribe(source, await shop.plan(shop.metered("calls")), payer_id=target.id)
    await shop.change(subscription, names(""))
    await suite.travel(day(1, 15))
    await merge(shop, source, target)
    assert await payers(shop, source, day(2)) == [eve.id]
    assert await payers(shop, target, day(2)) == [""]
    await merge(shop, eve, last)
    assert await payers(shop, source, day(2)) == [last.id]


async def test_a_target_that_is_paid_for_cannot_pay(suite: Suite, shop: Any) -> None:
    """For subscriptions no more than for customers; and who is named by one gets its own invoices itself."""
    source, target, third, ada = [await shop.customer() for _ in range(4)]
    subscription = await shop.subscribe(ada, await shop.plan(shop.price("seats")), payer_id=source.id)
    await pay(shop, target, third.id)
    with refused("PAYER_HAS_PAYER", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await merge(shop, source, target)
    assert refusal.metadata == {"customer": target.id, "payer": third.id}
    assert (await shop.find(subscription)).payer_id == source.id
    with refused("PAYER_HAS_PAYER"):
        await pay(shop, source, third.id)
    await shop.change(subscription, names(""))
    await pay(shop, source, third.id)


async def test_so_many_subscriptions_follow_and_no_more(shop: Any, monkeypatch: Any) -> None:  # Any: pytest's own
    """Each is changed and announced."""
    source, target, ada = [await shop.customer() for _ in range(3)]
    monkeypatch.setattr("subscriptions.usecases.subscriptions.SUBSCRIPTIONS_OF_CUSTOMER_MAX", 0)
    await shop.subscribe(ada, await shop.plan(shop.price("seats")), payer_id=source.id)
    with refused("MERGE_TOO_LARGE", grpc.StatusCode.FAILED_PRECONDITION):
        await merge(shop, source, target)


async def test_who_pays_for_a_living_subscription_is_not_erased(suite: Suite, shop: Any) -> None:
    """Its invoices need a name: as the payer of the customer, of the subscription, or of one from some day on."""
    ada, eve, bob, rob = [await shop.customer() for _ in range(4)]
    await pay(shop, ada, eve.id)
    plan = await shop.plan(shop.price("seats"))
    subscription = await shop.subscribe(ada, plan, payer_id=bob.id)
    await shop.change(subscription, names(rob.id), at=day(3))
    for payer in (bob, rob):
        with refused("CUSTOMER_PAYS_FOR_OTHERS", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
            await erase(suite, payer)
        assert refusal.metadata == {"customer": payer.id}
        assert await shop.api.GetCustomer(pb.GetCustomerRequest(id=payer.id)) == payer
    await suite.travel(day(3))
    # Named no more, and overruled for good.
    assert (await erase(suite, bob)).HasField("erase_time")
    await shop.change(subscription, names(""), at=day(4))
    with refused("CUSTOMER_PAYS_FOR_OTHERS"):
        await erase(suite, eve)
    await shop.api.CancelSubscription(
        pb.CancelSubscriptionRequest(id=subscription.id, timing=pb.CancelSubscriptionRequest.NOW)
    )
    for payer in (eve, rob):
        assert (await erase(suite, payer)).HasField("erase_time")


async def test_who_is_overruled_can_be_erased_and_pays_no_more(suite: Suite, shop: Any) -> None:
    """Nothing is agreed any more that an erased customer would pay for, by whatever way it would come to that."""
    ada, eve, bob = [await shop.customer() for _ in range(3)]
    await pay(shop, ada, eve.id)
    plan = await shop.plan(shop.price("seats"))
    subscription = await shop.subscribe(ada, plan, payer_id=bob.id)
    other = await shop.subscribe(bob, plan)
    await erase(suite, eve)
    with refused("PERSONAL_DATA_ERASED", grpc.StatusCode.FAILED_PRECONDITION):
        await shop.subscribe(ada, plan)
    with refused("PERSONAL_DATA_ERASED"):
        await shop.change(subscription, names(""))
    with refused("PERSONAL_DATA_ERASED"):
        await shop.api.TransferSubscription(pb.TransferSubscriptionRequest(id=other.id, customer_id=ada.id))
    await pay(shop, ada, "")
    await shop.subscribe(ada, plan)


async def test_what_is_taken_up_again_is_paid_by_who_the_payer_is_now(suite: Suite, shop: Any) -> None:
    """What had ended did not follow a merge; nor does it come back to somebody who was erased."""
    source, target, ada = [await shop.customer() for _ in range(3)]
    subscription = await shop.subscribe(ada, await shop.plan(shop.price("seats")), payer_id=source.id)
    now = pb.CancelSubscriptionRequest.NOW
    await shop.api.CancelSubscription(pb.CancelSubscriptionRequest(id=subscription.id, timing=now))
    await merge(shop, source, target)
    assert (await shop.find(subscription)).payer_id == source.id
    taken_up = await shop.api.ReactivateSubscription(pb.ReactivateSubscriptionRequest(id=subscription.id))
    assert taken_up.payer_id == target.id
    await shop.api.CancelSubscription(pb.CancelSubscriptionRequest(id=subscription.id, timing=now))
    await erase(suite, target)
    with refused("PERSONAL_DATA_ERASED"):
        await shop.api.ReactivateSubscription(pb.ReactivateSubscriptionRequest(id=subscription.id))


async def test_an_erasure_and_an_agreement_at_once_cannot_both_be(suite: Suite, shop: Any) -> None:
    """Each alone would be right: whoever comes second is told why it may not."""
    plan = await shop.plan(shop.price("seats"))
    ada = await shop.customer()
    await shop.subscribe(ada, plan)
    for n in range(6):
        eve = await shop.customer()
        agreement = pay(shop, ada, eve.id) if n % 2 else shop.subscribe(ada, plan, payer_id=eve.id)
        outcomes = await asyncio.gather(agreement, erase(suite, eve), return_exceptions=True)
        [refusal] = [each for each in outcomes if isinstance(each, BaseException)]
        with refused("PERSONAL_DATA_ERASED" if refusal is outcomes[0] else "CUSTOMER_PAYS_FOR_OTHERS"):
            raise refusal


async def test_nothing_comes_to_a_target_whose_payer_was_erased(suite: Suite, shop: Any) -> None:
    """Nobody could be billed for what it takes over."""
    source, target, eve = [await shop.customer() for _ in range(3)]
    await shop.subscribe(source, await shop.plan(shop.price("seats")))
    await pay(shop, target, eve.id)
    await erase(suite, eve)
    with refused("PERSONAL_DATA_ERASED", grpc.StatusCode.FAILED_PRECONDITION):
        await merge(shop, source, target)
    await pay(shop, target, "")
    await merge(shop, source, target)


async def paid_by(shop: Any, *payers: customer_pb2.Customer, page_size: int = 0) -> list[tuple[str, str]]:
    """Who is paid for, by whom, of all pages."""
    found: list[tuple[str, str]] = []
    token = ""
    while True:
        request = customers_pb.ListPaidCustomersRequest(
            payer_ids=[each.id for each in payers], page_size=page_size, page_token=token
        )
        answer = await shop.customers.ListPaidCustomers(request)
        found += [(each.customer_id, each.payer_id) for each in answer.paid_customers]
        token = answer.next_page_token
        if not token:
            return found


async def test_for_whom_somebody_pays_is_known(suite: Suite, shop: Any) -> None:
    """For customers as a whole and for single subscriptions, each once; not for those it pays for no longer, nor for
    itself where a subscription of its own says so."""
    ada, bob, eve, zoe = [await shop.customer() for _ in range(4)]
    plan = await shop.plan(shop.price("seats"))
    assert await paid_by(shop, eve, zoe) == []
    await pay(shop, ada, eve.id)
    for _ in range(2):
        await shop.subscribe(bob, plan, payer_id=eve.id)
    named = await shop.subscribe(ada, plan, payer_id=zoe.id)
    await shop.subscribe(eve, plan, payer_id=eve.id)
    assert await paid_by(shop, eve) == [(ada.id, eve.id), (bob.id, eve.id)]
    assert await paid_by(shop, zoe, eve) == [(ada.id, eve.id), (ada.id, zoe.id), (bob.id, eve.id)]
    assert await paid_by(shop, zoe, eve, page_size=1) == await paid_by(shop, eve, zoe)
    both = customers_pb.ListPaidCustomersRequest(payer_ids=[zoe.id], customer_ids=[bob.id, eve.id])
    found = (await shop.customers.ListPaidCustomers(both)).paid_customers
    assert [(each.customer_id, each.payer_id) for each in found] == [(ada.id, zoe.id), (bob.id, eve.id)]
    await suite.travel(day(1, 10))
    await pay(shop, ada, "")
    await shop.change(named, names(""))
    await suite.travel(day(1, 11))
    assert await paid_by(shop, eve, zoe) == [(bob.id, eve.id)]


async def test_who_had_a_subscription_is_told_with_whom_it_names(suite: Suite, shop: Any) -> None:
    """Something of it may still come back to the one who gave it away, by way of the payer of both."""
    ada, bob, eve = [await shop.customer() for _ in range(3)]
    named = await shop.subscribe(ada, await shop.plan(shop.price("seats")), payer_id=eve.id)
    await suite.travel(day(1, 10))
    await shop.api.TransferSubscription(pb.TransferSubscriptionRequest(id=named.id, customer_id=bob.id))
    assert await paid_by(shop, eve) == [(ada.id, eve.id), (bob.id, eve.id)]


async def test_what_has_ended_is_still_paid_for(suite: Suite, shop: Any) -> None:
    """Its last bill may be yet to come; of a payer that is to come it is known before."""
    ada, bob, eve = [await shop.customer() for _ in range(3)]
    plan = await shop.plan(shop.price("seats"))
    ended = await shop.subscribe(ada, plan, payer_id=eve.id)
    later = await shop.subscribe(bob, plan)
    await shop.change(later, names(eve.id), at=day(1, 20))
    await shop.api.CancelSubscription(
        pb.CancelSubscriptionRequest(id=ended.id, timing=pb.CancelSubscriptionRequest.NOW)
    )
    assert await paid_by(shop, eve) == [(ada.id, eve.id), (bob.id, eve.id)]


async def test_payers_are_asked_about_by_their_ids(shop: Any) -> None:
    """At least one of either, at most a thousand of each, and nothing else."""
    ada = await shop.customer()
    wrong = [
        customers_pb.ListPaidCustomersRequest(),
        customers_pb.ListPaidCustomersRequest(payer_ids=[ada.id] * 1_001),
        customers_pb.ListPaidCustomersRequest(payer_ids=[ada.id, "ada"]),
        customers_pb.ListPaidCustomersRequest(customer_ids=[ada.id] * 1_001),
        customers_pb.ListPaidCustomersRequest(customer_ids=["ada"]),
        customers_pb.ListPaidCustomersRequest(payer_ids=[ada.id], page_size=-1),
        customers_pb.ListPaidCustomersRequest(payer_ids=[ada.id], page_token=wire.encode_page_token("x")),
    ]
    for request in wrong:
        with refused("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT):
            await shop.customers.ListPaidCustomers(request)
