"""The door of subscriptions: parse, call, answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from common import ids, wire
from common.auth import READERS
from common.db import Database, Tx
from common.errors import InvalidArgument
from common.period import EARLIEST
from common.rpc import Desk, open_to, transactional
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import SubscriptionsServiceServicer
from subscriptions import clients, store
from subscriptions.convert.customer import billing_profile_from_proto, contact_from_proto, customer_to_proto
from subscriptions.convert.customer_parts import key, own_key
from subscriptions.convert.requests import (
    BILLING_DAY_MAX,
    cancel_decision,
    change_decision,
    order_from_proto,
    pause_decision,
    pause_scope,
    resume_scope,
    transfer_unused,
    wishes_from_proto,
)
from subscriptions.convert.schedule import billable_periods_to_proto, committed_periods_to_proto, schedule_to_proto
from subscriptions.convert.subscription import change_to_proto, subscription_to_proto
from subscriptions.domain.amendment import SwitchPlan, TakeAddOn, Wish, plans_asked
from subscriptions.domain.change import ApplyDiscount
from subscriptions.domain.coupon import Coupon
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.order import Order
from subscriptions.domain.plan import Plan
from subscriptions.domain.terms import ITEMS_MAX, ChangeId, CouponId, PlanId, SubscriptionId
from subscriptions.usecases import amendments, customers, reads
from subscriptions.usecases import subscriptions as usecases

CUSTOMERS_PER_BATCH_MAX = 1000
CUSTOMERS_PER_SCHEDULE_MAX = 100
POSITION_DIGITS_MAX = 6


class SubscriptionsApi(SubscriptionsServiceServicer):
    def __init__(self, database: Database, desk: Callable[[], Desk]) -> None:
        self.database = database
        self.desk = desk

    @transactional
    async def CreateCustomer(self, request: pb.CreateCustomerRequest, tx: Tx) -> customer_pb2.Customer:
        customer = await customers.create_customer(
            tx,
            external_id=own_key(request.external_id, field="external_id", required=False),
            contact=contact_from_proto(request.contact),
            billing_profile=billing_profile_from_proto(request.billing_profile),
        )
        return customer_to_proto(customer)

    @transactional
    async def GetCustomer(self, request: pb.GetCustomerRequest, tx: Tx) -> customer_pb2.Customer:
        if bool(request.id) == bool(request.external_id):
            raise InvalidArgument("must be given, or an external id instead", field="id")
        if request.external_id:
            found = await store.customer_by_external_id(tx, key(request.external_id, field="external_id"))
        else:
            found = await store.customer(tx, _customer_id(request.id, field="id"))
        if request.HasField("names_known_time"):
            known = wire.parse_timestamp(request.names_known_time, field="names_known_time")
            found = replace(found, names=await store.names_known(tx, found.id, known))
        return customer_to_proto(found)

    @transactional
    async def UpdateCustomer(self, request: pb.UpdateCustomerRequest, tx: Tx) -> customer_pb2.Customer:
        customer = await customers.update_customer(
            tx,
            _customer_id(request.id, field="id"),
            contact=contact_from_proto(request.contact) if request.HasField("contact") else None,
            billing_profile=(
                billing_profile_from_proto(request.billing_profile) if request.HasField("billing_profile") else None
            ),
        )
        return customer_to_proto(customer)

    @transactional
    async def BatchGetCustomers(self, request: pb.BatchGetCustomersRequest, tx: Tx) -> pb.BatchGetCustomersResponse:
        wanted = _customer_ids(request.ids, field="ids", maximum=CUSTOMERS_PER_BATCH_MAX)
        found = await store.customers_by_id(tx, wanted)
        return pb.BatchGetCustomersResponse(customers=[customer_to_proto(customer) for customer in found])

    @transactional
    async def ListCustomers(self, request: pb.ListCustomersRequest, tx: Tx) -> pb.ListCustomersResponse:
        page = wire.page(request)
        found = await store.list_customers(tx, after=page.after[0] if page.after else "", limit=page.size + 1)
        return pb.ListCustomersResponse(
            customers=[customer_to_proto(customer) for customer in found[: page.size]],
            next_page_token=_next([customer.id for customer in found], page.size),
        )

    async def CreateSubscription(
        self, request: pb.CreateSubscriptionRequest, context: object
    ) -> subscription_pb2.Subscription:
        plan_id = PlanId(ids.check(request.plan_id, "plan", field="plan_id"))
        order = order_from_proto(request)
        # More items than there may be are refused later; the catalog is not asked about them.
        named = [spec.price_id for spec in order.items[:ITEMS_MAX]]
        later = [new for step in order.ramp for _, new in step.prices]
        desk = self.desk()
        # Who names no items gets what was negotiated, of what is agreed for later as well.
        plan = await clients.get_plan(
            desk, plan_id, customer_id=order.customer_id, wanted=[*named, *later] if named else []
        )
        add_ons = await clients.get_plans(
            desk,
            {each.plan_id: [spec.price_id for spec in each.specs] for each in order.add_ons},
            customer_id=order.customer_id,
        )
        coupons = await clients.get_coupons(
            desk, [each.coupon_id for each in order.discounts], customer_id=order.customer_id
        )
        return await _Subscribing(self.database, plan, add_ons, coupons, order).CreateSubscription(request, context)

    @transactional
    async def GetSubscription(self, request: pb.GetSubscriptionRequest, tx: Tx) -> subscription_pb2.Subscription:
        subscription = await store.subscription(tx, _subscription_id(request.id))
        at, known = tx.now, tx.now
        if request.HasField("known_time"):
            known = wire.parse_timestamp(request.known_time, field="known_time")
            at = known
        if request.HasField("effective_time"):
            at = wire.parse_timestamp(request.effective_time, field="effective_time")
        answer = subscription_to_proto(reads.as_of(subscription, at=at, known=known, now=tx.now), at=at)
        if known < tx.now:
            # They count also what happened by itself, of which nothing says when it was noticed.
            answer.ClearField("revision")
            answer.ClearField("update_time")
        return answer

    @transactional
    async def ListSubscriptions(self, request: pb.ListSubscriptionsRequest, tx: Tx) -> pb.ListSubscriptionsResponse:
        page = wire.page(request)
        found = await store.list_subscriptions(
            tx,
            customer_id=_customer_id(request.customer_id, field="customer_id") if request.customer_id else "",
            after=page.after[0] if page.after else "",
            limit=page.size + 1,
        )
        return pb.ListSubscriptionsResponse(
            subscriptions=[subscription_to_proto(subscription, at=tx.now) for subscription in found[: page.size]],
            next_page_token=_next([subscription.id for subscription in found], page.size),
        )

    async def ChangeSubscription(
        self, request: pb.ChangeSubscriptionRequest, context: object
    ) -> subscription_pb2.Subscription:
        return await (await self._changing(request)).ChangeSubscription(request, context)

    async def PreviewChange(self, request: pb.PreviewChangeRequest, context: object) -> pb.ChangePreview:
        return await (await self._changing(request.change)).PreviewChange(request, context)

    @transactional
    async def ListSubscriptionChanges(
        self, request: pb.ListSubscriptionChangesRequest, tx: Tx
    ) -> pb.ListSubscriptionChangesResponse:
        page = wire.page(request)
        subscription = await store.subscription(tx, _subscription_id(request.subscription_id, field="subscription_id"))
        found = [change_to_proto(change, subscription, at=tx.now) for change in subscription.changes]
        if request.state:
            wire.enum_name(subscription_pb2.SubscriptionChange.State, request.state, field="state")
            found = [change for change in found if change.state == request.state]
        start = _position(page.after[0]) if page.after else 0
        return pb.ListSubscriptionChangesResponse(
            changes=found[start : start + page.size],
            next_page_token=(wire.encode_page_token(str(start + page.size)) if len(found) > start + page.size else ""),
        )

    @transactional
    async def RevokeSubscriptionChange(
        self, request: pb.RevokeSubscriptionChangeRequest, tx: Tx
    ) -> subscription_pb2.Subscription:
        subscription_id = _subscription_id(request.subscription_id, field="subscription_id")
        change_id = ChangeId(ids.check(request.change_id, "chg", field="change_id"))
        return subscription_to_proto(await usecases.revoke_change(tx, subscription_id, change_id), at=tx.now)

    @transactional
    async def ActivateSubscription(
        self, request: pb.ActivateSubscriptionRequest, tx: Tx
    ) -> subscription_pb2.Subscription:
        return subscription_to_proto(await usecases.activate(tx, _subscription_id(request.id)), at=tx.now)

    @transactional
    async def ExtendTrial(self, request: pb.ExtendTrialRequest, tx: Tx) -> subscription_pb2.Subscription:
        subscription_id = _subscription_id(request.id)
        to = wire.parse_timestamp(request.trial_end_time, field="trial_end_time")
        if to <= tx.now:
            raise InvalidArgument("must be later than now", field="trial_end_time")
        return subscription_to_proto(await usecases.move_trial_end(tx, subscription_id, to), at=tx.now)

    @transactional
    async def EndTrial(self, request: pb.EndTrialRequest, tx: Tx) -> subscription_pb2.Subscription:
        moved = await usecases.move_trial_end(tx, _subscription_id(request.id), tx.now)
        return subscription_to_proto(moved, at=tx.now)

    @transactional
    async def CancelSubscription(self, request: pb.CancelSubscriptionRequest, tx: Tx) -> subscription_pb2.Subscription:
        decision = cancel_decision(request)
        return subscription_to_proto(await usecases.cancel(tx, _subscription_id(request.id), decision), at=tx.now)

    @transactional
    async def RevokeCancellation(self, request: pb.RevokeCancellationRequest, tx: Tx) -> subscription_pb2.Subscription:
        return subscription_to_proto(await usecases.revoke_cancellation(tx, _subscription_id(request.id)), at=tx.now)

    @transactional
    async def ReactivateSubscription(
        self, request: pb.ReactivateSubscriptionRequest, tx: Tx
    ) -> subscription_pb2.Subscription:
        return subscription_to_proto(await usecases.reactivate(tx, _subscription_id(request.id)), at=tx.now)

    @transactional
    async def PauseSubscription(self, request: pb.PauseSubscriptionRequest, tx: Tx) -> subscription_pb2.Subscription:
        service, billing = pause_scope(request)
        resume_time = None
        if request.HasField("resume_time"):
            resume_time = wire.parse_timestamp(request.resume_time, field="resume_time")
        paused = await usecases.pause(
            tx,
            _subscription_id(request.id),
            service=service,
            billing=billing,
            decision=pause_decision(request),
            resume_time=resume_time,
        )
        return subscription_to_proto(paused, at=tx.now)

    @transactional
    async def ResumeSubscription(self, request: pb.ResumeSubscriptionRequest, tx: Tx) -> subscription_pb2.Subscription:
        service, billing = resume_scope(request)
        resumed = await usecases.resume(tx, _subscription_id(request.id), service=service, billing=billing)
        return subscription_to_proto(resumed, at=tx.now)

    @transactional
    async def TransferSubscription(
        self, request: pb.TransferSubscriptionRequest, tx: Tx
    ) -> subscription_pb2.Subscription:
        transferred = await usecases.transfer(
            tx,
            _subscription_id(request.id),
            _customer_id(request.customer_id, field="customer_id"),
            unused=transfer_unused(request),
        )
        return subscription_to_proto(transferred, at=tx.now)

    @transactional
    async def AlignSubscriptions(self, request: pb.AlignSubscriptionsRequest, tx: Tx) -> pb.AlignSubscriptionsResponse:
        if not 0 <= request.billing_day <= BILLING_DAY_MAX:
            raise InvalidArgument(f"must be 1 to {BILLING_DAY_MAX}, or 0", field="billing_day")
        customer_id = _customer_id(request.customer_id, field="customer_id")
        aligned = await usecases.align(tx, customer_id, request.billing_day)
        return pb.AlignSubscriptionsResponse(subscriptions=[subscription_to_proto(each, at=tx.now) for each in aligned])

    @transactional
    async def ListBillablePeriods(
        self, request: pb.ListBillablePeriodsRequest, tx: Tx
    ) -> pb.ListBillablePeriodsResponse:
        wanted = _customer_ids(request.customer_ids, field="customer_ids", maximum=CUSTOMERS_PER_SCHEDULE_MAX)
        after, through = _bill_times(request)
        found, told_through = await reads.schedules(
            tx,
            wanted,
            after=after,
            through=through,
            with_customers=True,
            with_under_way=request.with_under_way,
            through_next=request.through_next_bill_time,
        )
        return pb.ListBillablePeriodsResponse(
            through_time=wire.timestamp(told_through),
            schedules=[
                schedule_to_proto(
                    each.customer_id, each.customer, each.schedule, each.commitments, under_way=each.under_way
                )
                for each in found
            ],
        )

    @open_to(READERS)
    @transactional
    async def BatchListBillablePeriods(
        self, request: pb.BatchListBillablePeriodsRequest, tx: Tx
    ) -> pb.BatchListBillablePeriodsResponse:
        wanted = _customer_ids(request.customer_ids, field="customer_ids", maximum=CUSTOMERS_PER_BATCH_MAX)
        after, through = _bill_times(request)
        found, _ = await reads.schedules(tx, wanted, after=after, through=through, with_customers=False)
        return pb.BatchListBillablePeriodsResponse(
            schedules=[
                schedule_to_proto(each.customer_id, each.customer, each.schedule, each.commitments) for each in found
            ]
        )

    async def _changing(self, request: pb.ChangeSubscriptionRequest) -> _Changing:
        """With what the catalog must say before the change can be decided, by what the subscription is now, and by what
        it will be when the change takes effect.
        """
        wishes = wishes_from_proto(request.actions)
        subscription_id = _subscription_id(request.id)
        desk = self.desk()
        async with desk.transaction() as tx:
            subscription = await store.subscription(tx, subscription_id)
            asked = plans_asked(wishes, subscription, at=tx.now)
            then = subscription.effective_time(change_decision(request), tx.now)
            for plan_id, prices in plans_asked(wishes, subscription, at=then).items():
                asked[plan_id] = [*asked.get(plan_id, ()), *prices]
            # Of a plan that is taken whole all counts that was negotiated, whatever is named beside it.
            whole = [wish for wish in wishes if isinstance(wish, SwitchPlan | TakeAddOn) and not wish.specs]
            asked |= {wish.plan_id: [] for wish in whole}
            customer_id = subscription.as_of(tx.now).customer_id
        applied = [wish.coupon_id for wish in wishes if isinstance(wish, ApplyDiscount)]
        return _Changing(
            self.database,
            wishes,
            await clients.get_plans(desk, asked, customer_id=customer_id),
            await clients.get_coupons(desk, applied, customer_id=customer_id),
        )


@dataclass(frozen=True, slots=True)
class _Subscribing:
    """The part of CreateSubscription that is a transaction, once the catalog has said what the plans consist of."""

    database: Database
    plan: Plan
    add_ons: Mapping[PlanId, Plan]
    coupons: Mapping[CouponId, Coupon]
    order: Order

    @transactional
    async def CreateSubscription(self, request: pb.CreateSubscriptionRequest, tx: Tx) -> subscription_pb2.Subscription:
        created = await usecases.create_subscription(
            tx, self.plan, self.order, add_ons=self.add_ons, coupons=self.coupons
        )
        return subscription_to_proto(created, at=tx.now)


@dataclass(frozen=True, slots=True)
class _Changing:
    """The part of a change that is a transaction, once the catalog has said what the plans consist of."""

    database: Database
    wishes: Sequence[Wish]
    plans: Mapping[PlanId, Plan]
    coupons: Mapping[CouponId, Coupon]

    @transactional
    async def ChangeSubscription(self, request: pb.ChangeSubscriptionRequest, tx: Tx) -> subscription_pb2.Subscription:
        before = await store.subscription(tx, _subscription_id(request.id), lock=True)
        changed = await amendments.apply(
            tx,
            before,
            self.wishes,
            self.plans,
            change_decision(request),
            coupons=self.coupons,
            what=_what(request),
            token=request.preview_token,
        )
        return subscription_to_proto(changed, at=tx.now)

    @transactional
    async def PreviewChange(self, request: pb.PreviewChangeRequest, tx: Tx) -> pb.ChangePreview:
        before = await store.subscription(tx, _subscription_id(request.change.id))
        preview = await amendments.preview(
            tx,
            before,
            self.wishes,
            self.plans,
            change_decision(request.change),
            coupons=self.coupons,
            what=_what(request.change),
            through=(
                wire.parse_timestamp(request.through_time, field="through_time")
                if request.HasField("through_time")
                else None
            ),
        )
        change = change_to_proto(preview.change, preview.subscription, at=tx.now)
        change.ClearField("id")
        return pb.ChangePreview(
            subscription=subscription_to_proto(preview.subscription, at=max(tx.now, preview.change.effective_time)),
            change=change,
            added=billable_periods_to_proto(preview.added),
            removed=billable_periods_to_proto(preview.removed),
            added_commitments=committed_periods_to_proto(preview.added_commitments),
            removed_commitments=committed_periods_to_proto(preview.removed_commitments),
            token=preview.token,
        )


def _what(request: pb.ChangeSubscriptionRequest) -> bytes:
    """What is asked for, without who asks and with which preview."""
    bare = pb.ChangeSubscriptionRequest()
    bare.CopyFrom(request)
    bare.ClearField("preview_token")
    bare.ClearField("request_id")
    return bare.SerializeToString(deterministic=True)


def _bill_times(
    request: pb.ListBillablePeriodsRequest | pb.BatchListBillablePeriodsRequest,
) -> tuple[datetime, datetime]:
    through = wire.parse_timestamp(request.through_time, field="through_time")
    after = EARLIEST
    if request.HasField("after_time"):
        after = wire.parse_timestamp(request.after_time, field="after_time")
    if after > through:
        raise InvalidArgument("must not be after through_time", field="after_time")
    return after, through


def _position(text: str) -> int:
    if not text.isdecimal() or len(text) > POSITION_DIGITS_MAX:
        raise InvalidArgument("is not a token of this list", field="page_token")
    return int(text)


def _customer_id(text: str, *, field: str) -> CustomerId:
    return CustomerId(ids.check(text, "cus", field=field))


def _customer_ids(texts: Sequence[str], *, field: str, maximum: int) -> list[CustomerId]:
    """In the order given, each once."""
    if not 1 <= len(texts) <= maximum:
        raise InvalidArgument(f"must have 1 to {maximum} ids", field=field)
    return list(dict.fromkeys(_customer_id(text, field=f"{field}[{n}]") for n, text in enumerate(texts)))


def _subscription_id(text: str, *, field: str = "id") -> SubscriptionId:
    return SubscriptionId(ids.check(text, "sub", field=field))


def _next(found: Sequence[str], size: int) -> str:
    """The token of the next page, when one row more than the page was found."""
    return wire.encode_page_token(found[size - 1]) if len(found) > size else ""
