"""Knows how credit looks on the wire, and what requests about it say."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money as MoneyPb

from common import ids, wire
from common.errors import InvalidArgument
from common.money import Money, minor_units
from invoicing.domain.credit import (
    Balance,
    Grant,
    GrantId,
    GrantKind,
    HoldingKey,
    Recorded,
    Scope,
    Source,
    Use,
)
from invoicing.domain.errors import CreditAmountNotPositive, CreditTimesContradict
from invoicing.domain.reservation import Reservation, ReservationId
from invoicing.domain.top_ups import Calendar, RuleId, TopUpRule
from saldo.invoicing.v1 import credit_pb2
from saldo.invoicing.v1 import credit_service_pb2 as pb

AMOUNT_MINOR_MAX: Final = 10**14
"""Of one grant or reservation: a thousand of them can still be added up."""
PRIORITY: Final = 100
"""Of what nobody said anything about."""
PRIORITY_MAX: Final = 1_000
SCOPE_MAX: Final = 100
NOTE_LENGTH_MAX: Final = 500
REFERENCE_LENGTH_MAX: Final = 200
METER_LENGTH_MAX: Final = 64
TIME_TO_LIVE_SECONDS_MAX: Final = 31 * 86_400
EXPIRES_AFTER_DAYS_MAX: Final = 3_660
PER_DAY_MAX: Final = 24
MONTHS_MAX: Final = 12


# Out


def grant_to_proto(grant: Grant, *, at: datetime) -> credit_pb2.CreditGrant:
    return credit_pb2.CreditGrant(
        id=grant.id,
        customer_id=grant.customer_id,
        amount=wire.money(grant.amount),
        kind=credit_pb2.CreditGrant.Kind.Value(grant.kind.name),
        priority=grant.priority,
        effective_time=wire.timestamp(grant.effective_time),
        expire_time=_time(grant.expire_time),
        scope=credit_pb2.CreditScope(
            product_ids=sorted(grant.scope.product_ids),
            price_ids=sorted(grant.scope.price_ids),
            meters=sorted(grant.scope.meters),
            subscription_ids=sorted(grant.scope.subscription_ids),
        ),
        source=credit_pb2.CreditGrant.Source.Value(grant.source.name),
        document_id=grant.document_id,
        note=grant.note,
        remaining=wire.money(grant.remaining),
        reserved=wire.money(grant.reserved),
        state=credit_pb2.CreditGrant.State.Value(grant.state(at).name),
        expired_time=_time(grant.expired_time),
        revoked_time=_time(grant.revoked_time),
        revision=grant.revision,
        create_time=wire.timestamp(grant.create_time),
    )


def movement_to_proto(movement: Recorded) -> credit_pb2.CreditMovement:
    return credit_pb2.CreditMovement(
        id=movement.id,
        grant_id=movement.grant_id,
        customer_id=movement.customer_id,
        kind=credit_pb2.CreditMovement.Kind.Value(movement.kind.name),
        amount=wire.money(movement.amount),
        remaining=wire.money(movement.remaining),
        reserved=wire.money(movement.reserved),
        document_id=movement.document_id,
        ordinal=movement.ordinal,
        create_time=wire.timestamp(movement.create_time),
    )


def balance_to_proto(balance: Balance) -> credit_pb2.CreditBalance:
    holding = balance.holding
    return credit_pb2.CreditBalance(
        id=holding.id,
        customer_id=holding.key.customer_id,
        available=wire.money(balance.available),
        reserved=wire.money(balance.reserved),
        paid=wire.money(balance.paid),
        promotional=wire.money(balance.promotional),
        pending=wire.money(balance.pending),
        next_expire_time=_time(balance.next_expire_time),
        low_threshold=None if holding.low_threshold is None else wire.money(holding.low_threshold),
        is_low=holding.is_low,
        revision=holding.revision,
    )


def reservation_to_proto(reservation: Reservation) -> credit_pb2.CreditReservation:
    return credit_pb2.CreditReservation(
        id=reservation.id,
        customer_id=reservation.customer_id,
        amount=wire.money(reservation.amount),
        committed_amount=wire.money(reservation.committed),
        state=credit_pb2.CreditReservation.State.Value(reservation.state.name),
        expire_time=wire.timestamp(reservation.expire_time),
        end_time=_time(reservation.end_time),
        reference=reservation.reference,
        revision=reservation.revision,
        create_time=wire.timestamp(reservation.create_time),
    )


def rule_to_proto(rule: TopUpRule) -> credit_pb2.CreditTopUpRule:
    calendar = rule.trigger if isinstance(rule.trigger, Calendar) else None
    return credit_pb2.CreditTopUpRule(
        id=rule.id,
        customer_id=rule.customer_id,
        amount=wire.money(rule.amount),
        threshold=None if rule.threshold is None else wire.money(rule.threshold),
        schedule=None
        if calendar is None
        else credit_pb2.CreditTopUpRule.Schedule(
            start_time=wire.timestamp(calendar.start_time), months=calendar.months
        ),
        priority=rule.priority,
        expires_after_days=rule.expires_after_days,
        top_ups_per_day_max=rule.per_day_max,
        next_time=_time(rule.next_time),
        time_zone=rule.time_zone,
        revision=rule.revision,
        create_time=wire.timestamp(rule.create_time),
    )


def _time(at: datetime | None) -> Timestamp | None:
    return None if at is None else wire.timestamp(at)


# In


def parse_customer(text: str) -> str:
    return ids.check(text, "cus", field="customer_id")


def parse_grant_id(text: str, *, field: str = "id") -> GrantId:
    return GrantId(ids.check(text, "grant", field=field))


def parse_reservation_id(text: str) -> ReservationId:
    return ReservationId(ids.check(text, "cres"))


def parse_key(customer_id: str, currency: str) -> HoldingKey:
    minor_units(currency, field="currency")
    return HoldingKey(parse_customer(customer_id), currency)


def parse_grant(request: pb.GrantCreditRequest, *, id: str, at: datetime) -> Grant:  # noqa: A002
    """A new one, of which nothing has been used."""
    amount = parse_amount(request.amount)
    effective, expiry = _effective(request, at), _expiry(request)
    if expiry is not None and expiry <= max(effective, at):
        raise CreditTimesContradict("must be after now and effective_time", field="expire_time")
    return Grant(
        id=GrantId(id),
        customer_id=parse_customer(request.customer_id),
        amount=amount,
        kind=GrantKind[wire.enum_name(credit_pb2.CreditGrant.Kind, request.kind, field="kind")],
        priority=_priority(request.priority),
        effective_time=effective,
        expire_time=expiry,
        scope=_scope(request.scope),
        source=Source.MANUAL,
        document_id="",
        note=wire.text(request.note, field="note", max_length=NOTE_LENGTH_MAX, required=False, multiline=True),
        remaining=amount,
        reserved=Money.zero(amount.currency),
        expired_time=None,
        expire_count=0,
        revoked_time=None,
        revision=1,
        create_time=at,
    )


def parse_threshold(request: pb.SetLowCreditThresholdRequest) -> Money | None:
    if not request.HasField("threshold"):
        return None
    threshold = parse_amount(request.threshold, field="threshold")
    _must_be_in(request.currency, threshold, field="threshold.currency_code")
    return threshold


def parse_rule(request: pb.SetTopUpRuleRequest, *, id: str, time_zone: str, at: datetime) -> TopUpRule:  # noqa: A002
    """A new one, that has not been looked at."""
    amount = parse_amount(request.amount)
    trigger: Money | Calendar
    match request.WhichOneof("trigger"):
        case "threshold":
            trigger = parse_amount(request.threshold, field="threshold")
            _must_be_in(amount.currency, trigger, field="threshold.currency_code")
        case "schedule":
            trigger = Calendar(
                wire.parse_timestamp(request.schedule.start_time, field="schedule.start_time"),
                _within(request.schedule.months, 1, MONTHS_MAX, field="schedule.months"),
            )
        case _:
            raise InvalidArgument("is required: threshold or schedule", field="trigger")
    return TopUpRule(
        id=RuleId(id),
        customer_id=parse_customer(request.customer_id),
        amount=amount,
        trigger=trigger,
        time_zone=time_zone,
        priority=_priority(request.priority),
        expires_after_days=_within(request.expires_after_days, 0, EXPIRES_AFTER_DAYS_MAX, field="expires_after_days"),
        per_day_max=_within(request.top_ups_per_day_max or 1, 1, PER_DAY_MAX, field="top_ups_per_day_max"),
        next_time=None,
        delete_time=None,
        revision=1,
        create_time=at,
    )


def parse_use(use: pb.CreditUse) -> Use:
    def known(text: str, prefix: str, field: str) -> str:
        return ids.check(text, prefix, field=f"use.{field}") if text else ""

    return Use(
        product_id=known(use.product_id, "prod", "product_id"),
        price_id=known(use.price_id, "price", "price_id"),
        meter=wire.text(use.meter, field="use.meter", max_length=METER_LENGTH_MAX, required=False),
        subscription_id=known(use.subscription_id, "sub", "subscription_id"),
    )


def parse_time_to_live(seconds: int) -> timedelta:
    return timedelta(seconds=_within(seconds, 1, TIME_TO_LIVE_SECONDS_MAX, field="time_to_live_seconds"))


def parse_reference(text: str) -> str:
    return wire.text(text, field="reference", max_length=REFERENCE_LENGTH_MAX, required=False)


def parse_amount(pb_amount: MoneyPb, *, field: str = "amount") -> Money:
    amount = wire.parse_money(pb_amount, field=field)
    if amount.minor <= 0:
        raise CreditAmountNotPositive("must be greater than 0", field=field)
    if amount.minor > AMOUNT_MINOR_MAX:
        raise InvalidArgument(f"must have at most {len(str(AMOUNT_MINOR_MAX)) - 1} digits", field=field)
    return amount


def _effective(request: pb.GrantCreditRequest, at: datetime) -> datetime:
    if not request.HasField("effective_time"):
        return at
    return wire.parse_timestamp(request.effective_time, field="effective_time")


def _expiry(request: pb.GrantCreditRequest) -> datetime | None:
    if not request.HasField("expire_time"):
        return None
    return wire.parse_timestamp(request.expire_time, field="expire_time")


def _scope(scope: credit_pb2.CreditScope) -> Scope:
    named = (scope.product_ids, scope.price_ids, scope.meters, scope.subscription_ids)
    if sum(map(len, named)) > SCOPE_MAX:
        raise InvalidArgument(f"must name at most {SCOPE_MAX} things", field="scope")

    def known(texts: Iterable[str], prefix: str, field: str) -> frozenset[str]:
        return frozenset(ids.check(text, prefix, field=f"scope.{field}[{n}]") for n, text in enumerate(texts))

    return Scope(
        product_ids=known(scope.product_ids, "prod", "product_ids"),
        price_ids=known(scope.price_ids, "price", "price_ids"),
        meters=frozenset(
            wire.text(text, field=f"scope.meters[{n}]", max_length=METER_LENGTH_MAX)
            for n, text in enumerate(scope.meters)
        ),
        subscription_ids=known(scope.subscription_ids, "sub", "subscription_ids"),
    )


def _priority(told: int) -> int:
    return _within(told or PRIORITY, 1, PRIORITY_MAX, field="priority")


def _within(number: int, least: int, most: int, *, field: str) -> int:
    if not least <= number <= most:
        raise InvalidArgument(f"must be {least} to {most}", field=field)
    return number


def _must_be_in(currency: str, amount: Money, *, field: str) -> None:
    if amount.currency != currency:
        raise InvalidArgument(f"must be {currency}", field=field)
