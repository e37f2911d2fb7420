"""Knows how schedules look on the wire: for invoicing, which pulls them in large numbers."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from common import wire
from saldo.subscriptions.v1 import subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from subscriptions.convert.customer import customer_to_proto
from subscriptions.domain.billable_periods import BillablePeriod, Schedule
from subscriptions.domain.commitments import CommittedPeriod
from subscriptions.domain.customer import Customer, CustomerId

_KINDS = subscription_pb2.BillablePeriod.Kind


def schedule_to_proto(
    customer_id: CustomerId,
    customer: Customer | None,
    schedule: Schedule,
    commitments: Sequence[CommittedPeriod],
    *,
    under_way: Sequence[BillablePeriod] = (),
) -> pb.CustomerSchedule:
    """With the customer itself, if it is wanted."""
    return pb.CustomerSchedule(
        customer=None if customer is None else customer_to_proto(customer),
        customer_id=customer_id,
        periods=billable_periods_to_proto(schedule.periods),
        next_bill_time=wire.timestamp(schedule.next_bill_time) if schedule.next_bill_time else None,
        commitments=committed_periods_to_proto(commitments),
        under_way=billable_periods_to_proto(under_way),
    )


def billable_periods_to_proto(periods: Sequence[BillablePeriod]) -> list[subscription_pb2.BillablePeriod]:
    return [_billable_to_proto(each) for each in periods]


def committed_periods_to_proto(periods: Sequence[CommittedPeriod]) -> list[subscription_pb2.CommittedPeriod]:
    return [_committed_to_proto(each) for each in periods]


def _billable_to_proto(billable: BillablePeriod) -> subscription_pb2.BillablePeriod:
    terms, period = billable.terms, wire.interval(billable.period)
    return subscription_pb2.BillablePeriod(
        subscription_id=billable.subscription_id,
        item_id=billable.item_id,
        customer_id=billable.customer_id,
        price_id=terms.price_id,
        quantity=None if terms.quantity is None else wire.decimal(terms.quantity),
        meter=terms.meter,
        period=period,
        full_period=period if billable.full_period == billable.period else wire.interval(billable.full_period),
        proration=_fraction(billable.proration),
        bill_time=wire.timestamp(billable.bill_time),
        currency=billable.currency,
        kind=_KINDS.Value(billable.kind.name),
        change_id=billable.change_id,
        payer_id=billable.payer_id or "",
        plan_id=terms.plan_id,
        coupon_ids=billable.coupon_ids,
    )


def _committed_to_proto(committed: CommittedPeriod) -> subscription_pb2.CommittedPeriod:
    return subscription_pb2.CommittedPeriod(
        subscription_id=committed.subscription_id,
        customer_id=committed.customer_id,
        period=wire.interval(committed.period),
        full_period=wire.interval(committed.full_period),
        proration=_fraction(committed.proration),
        minimum=wire.money(committed.minimum),
        bill_time=wire.timestamp(committed.bill_time),
        time_zone=committed.time_zone,
    )


def _fraction(value: Fraction) -> subscription_pb2.Fraction:
    return subscription_pb2.Fraction(numerator=value.numerator, denominator=value.denominator)
