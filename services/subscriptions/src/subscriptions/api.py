"""The door of subscriptions: parse, call, answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common import ids, wire
from common.db import Database, Tx
from common.errors import InvalidArgument
from common.period import EARLIEST
from common.rpc import Desk, transactional
from saldo.subscriptions.v1 import customer_pb2, subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from saldo.subscriptions.v1.subscriptions_service_pb2_grpc import SubscriptionsServiceServicer
from subscriptions import clients, store, usecases
from subscriptions.convert import (
    billing_profile_from_proto,
    contact_from_proto,
    customer_to_proto,
    item_specs_from_proto,
    schedule_to_proto,
    subscription_to_proto,
)
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.plan import ITEMS_MAX, Plan
from subscriptions.domain.subscription import PlanId, SubscriptionId
from subscriptions.usecases import Order

EXTERNAL_ID_LENGTH_MAX = 128
CUSTOMERS_PER_BATCH_MAX = 1000
CUSTOMERS_PER_SCHEDULE_MAX = 100


class SubscriptionsApi(SubscriptionsServiceServicer):
    def __init__(self, database: Database, desk: Callable[[], Desk]) -> None:
        self.database = database
        self.desk = desk

    @transactional
    async def CreateCustomer(self, request: pb.CreateCustomerRequest, tx: Tx) -> customer_pb2.Customer:
        customer = await usecases.create_customer(
            tx,
            external_id=_own_key(request.external_id),
            contact=contact_from_proto(request.contact),
            billing_profile=billing_profile_from_proto(request.billing_profile),
        )
        return customer_to_proto(customer)

    @transactional
    async def GetCustomer(self, request: pb.GetCustomerRequest, tx: Tx) -> customer_pb2.Customer:
        if bool(request.id) == bool(request.external_id):
            raise InvalidArgument("must be given, or an external id instead", field="id")
        if request.external_id:
            external_id = _external_id(request.external_id, required=True)
            return customer_to_proto(await store.customer_by_external_id(tx, external_id))
        return customer_to_proto(await store.customer(tx, _customer_id(request.id, field="id")))

    @transactional
    async def UpdateCustomer(self, request: pb.UpdateCustomerRequest, tx: Tx) -> customer_pb2.Customer:
        customer = await usecases.update_customer(
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
        order = _order(request)
        # More items than there may be are refused later; the catalog is not asked about them.
        wanted = [spec.price_id for spec in order.items[:ITEMS_MAX]]
        plan = await clients.get_plan(self.desk(), plan_id, customer_id=order.customer_id, wanted=wanted)
        return await _Subscribing(self.database, plan, order).CreateSubscription(request, context)

    @transactional
    async def GetSubscription(self, request: pb.GetSubscriptionRequest, tx: Tx) -> subscription_pb2.Subscription:
        return subscription_to_proto(await store.subscription(tx, _subscription_id(request.id)))

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
            subscriptions=[subscription_to_proto(subscription) for subscription in found[: page.size]],
            next_page_token=_next([subscription.id for subscription in found], page.size),
        )

    @transactional
    async def CancelSubscription(self, request: pb.CancelSubscriptionRequest, tx: Tx) -> subscription_pb2.Subscription:
        timing = wire.enum_name(pb.CancelSubscriptionRequest.Timing, request.timing, field="timing")
        cancel = usecases.cancel_subscription if timing == "NOW" else usecases.cancel_subscription_at_period_end
        return subscription_to_proto(await cancel(tx, _subscription_id(request.id)))

    @transactional
    async def PauseSubscription(self, request: pb.PauseSubscriptionRequest, tx: Tx) -> subscription_pb2.Subscription:
        return subscription_to_proto(await usecases.pause_subscription(tx, _subscription_id(request.id)))

    @transactional
    async def ResumeSubscription(self, request: pb.ResumeSubscriptionRequest, tx: Tx) -> subscription_pb2.Subscription:
        return subscription_to_proto(await usecases.resume_subscription(tx, _subscription_id(request.id)))

    @transactional
    async def ListBillablePeriods(
        self, request: pb.ListBillablePeriodsRequest, tx: Tx
    ) -> pb.ListBillablePeriodsResponse:
        wanted = _customer_ids(request.customer_ids, field="customer_ids", maximum=CUSTOMERS_PER_SCHEDULE_MAX)
        through = wire.parse_timestamp(request.through_time, field="through_time")
        after = EARLIEST
        if request.HasField("after_time"):
            after = wire.parse_timestamp(request.after_time, field="after_time")
        if after > through:
            raise InvalidArgument("must not be after through_time", field="after_time")
        found = await usecases.schedules(tx, wanted, after=after, through=through)
        return pb.ListBillablePeriodsResponse(schedules=[schedule_to_proto(*each) for each in found])


@dataclass(frozen=True, slots=True)
class _Subscribing:
    """The part of CreateSubscription that is a transaction, once the catalog has said what the plan consists of."""

    database: Database
    plan: Plan
    order: Order

    @transactional
    async def CreateSubscription(self, request: pb.CreateSubscriptionRequest, tx: Tx) -> subscription_pb2.Subscription:
        return subscription_to_proto(await usecases.create_subscription(tx, self.plan, self.order))


def _order(request: pb.CreateSubscriptionRequest) -> Order:
    start = None
    if request.HasField("start_time"):
        start = wire.parse_timestamp(request.start_time, field="start_time")
    return Order(
        customer_id=_customer_id(request.customer_id, field="customer_id"),
        items=item_specs_from_proto(request.items),
        start_time=start,
        billing_day=request.billing_day,
        trial_days=request.trial_days if request.HasField("trial_days") else None,
    )


def _own_key(text: str) -> str:
    """Usage names a customer by id or by external id: one that is another customer's id would count its usage twice."""
    if text.startswith("cus_"):
        raise InvalidArgument("must not look like a customer's id", field="external_id")
    return _external_id(text, required=False)


def _external_id(text: str, *, required: bool) -> str:
    return wire.text(text, field="external_id", max_length=EXTERNAL_ID_LENGTH_MAX, required=required)


def _customer_id(text: str, *, field: str) -> CustomerId:
    return CustomerId(ids.check(text, "cus", field=field))


def _customer_ids(texts: Sequence[str], *, field: str, maximum: int) -> list[CustomerId]:
    """In the order given, each once."""
    if not 1 <= len(texts) <= maximum:
        raise InvalidArgument(f"must have 1 to {maximum} ids", field=field)
    return list(dict.fromkeys(_customer_id(text, field=f"{field}[{n}]") for n, text in enumerate(texts)))


def _subscription_id(text: str) -> SubscriptionId:
    return SubscriptionId(ids.check(text, "sub", field="id"))


def _next(found: Sequence[str], size: int) -> str:
    """The token of the next page, when one row more than the page was found."""
    return wire.encode_page_token(found[size - 1]) if len(found) > size else ""
