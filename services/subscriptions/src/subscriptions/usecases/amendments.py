"""Changes of plan, prices, quantities and items: tried out, and carried out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from common import wire
from common.db import Tx
from common.errors import InvalidArgument
from subscriptions import store
from subscriptions.domain.amendment import Amendment, Wish
from subscriptions.domain.billable_periods import BillablePeriod, schedule
from subscriptions.domain.change import Action, ApplyDiscount, Change, SetPayer, Timing
from subscriptions.domain.commitments import CommittedPeriod, committed_periods
from subscriptions.domain.coupon import Coupon, check_applicable
from subscriptions.domain.errors import PreviewOutdated
from subscriptions.domain.payer import addressed
from subscriptions.domain.plan import Plan
from subscriptions.domain.subscription import Decision, Subscription
from subscriptions.domain.terms import CouponId, ItemId, PlanId
from subscriptions.usecases import entitlements, seats, subscriptions

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a change would do."""

    subscription: Subscription
    change: Change
    added: Sequence[BillablePeriod]
    removed: Sequence[BillablePeriod]
    added_commitments: Sequence[CommittedPeriod]
    removed_commitments: Sequence[CommittedPeriod]
    token: str


async def apply(
    tx: Tx,
    before: Subscription,
    wishes: Sequence[Wish],
    plans: Mapping[PlanId, Plan],
    decision: Decision,
    *,
    coupons: Mapping[CouponId, Coupon],
    what: bytes,
    token: str,
) -> Subscription:
    """Carry out a change, exactly as it was previewed if there is a token."""
    if token:
        previewed = _previewed_time(token, before, what)
        if previewed < before.earliest_change(tx.now):
            message = f"a period of subscription {before.id} has begun since the preview: preview the change again"
            raise PreviewOutdated(message, subscription=before.id)
        decision = replace(decision, timing=Timing.AT_TIME, effective_time=previewed)
    return await subscriptions.change(tx, before, await actions(tx, before, wishes, plans, decision, coupons), decision)


async def preview(
    tx: Tx,
    before: Subscription,
    wishes: Sequence[Wish],
    plans: Mapping[PlanId, Plan],
    decision: Decision,
    *,
    coupons: Mapping[CouponId, Coupon],
    what: bytes,
    through: datetime | None,
) -> Preview:
    """What a change would do, without doing it."""
    after = subscriptions.decided(tx, before, await actions(tx, before, wishes, plans, decision, coupons), decision)
    await seats.check_room(tx, before, after)
    known = {change.id for change in before.changes}
    change = next(each for each in after.changes if each.id not in known)
    if through is None:
        effective = change.effective_time
        # What is no longer to be spent would have been billed at the end of its period.
        under_way = [*after.periods_under_way(effective), *before.period_committed(effective)]
        through = max([effective, *(period.end for period in under_way)])
    since = min(change.effective_time, tx.now)
    through = max(through, since)
    payers = await store.payer_logs(tx, after.customer_ids)
    with_it = addressed(schedule([after], after=since, through=through).periods, payers)
    without = addressed(schedule([before], after=since, through=through).periods, payers)
    to_spend = committed_periods([after], after=since, through=through)
    to_spend_without = committed_periods([before], after=since, through=through)
    return Preview(
        subscription=after,
        change=change,
        added=_those_not_in(without, with_it),
        removed=_those_not_in(with_it, without),
        added_commitments=_those_not_in(to_spend_without, to_spend),
        removed_commitments=_those_not_in(to_spend, to_spend_without),
        token=_token(before, what, change.effective_time),
    )


async def actions(
    tx: Tx,
    before: Subscription,
    wishes: Sequence[Wish],
    plans: Mapping[PlanId, Plan],
    decision: Decision,
    coupons: Mapping[CouponId, Coupon],
) -> list[Action]:
    """What the wishes come to. What the plans entitle to is kept from now on."""
    effective = before.effective_time(decision, tx.now)
    amendment = Amendment(before, plans, effective=effective, at=tx.now, new_id=lambda: ItemId(tx.new_id("subi")))
    for wish in wishes:
        if isinstance(wish, SetPayer):
            customer = await store.customer(tx, before.as_of(effective).customer_id)
            await subscriptions.check_payer_of(tx, customer, wish.payer_id)
        if isinstance(wish, ApplyDiscount):
            check_applicable(wish, coupons, before, effective=effective, at=tx.now)
    found = amendment.actions(wishes)
    await entitlements.remember(tx, plans)
    return found


def _those_not_in(known: Sequence[T], periods: Sequence[T]) -> list[T]:
    there = set(known)
    return [each for each in periods if each not in there]


def _token(before: Subscription, what: bytes, effective: datetime) -> str:
    return wire.encode_page_token(effective.isoformat(), str(before.revision), _digest(before, what, effective))


def _previewed_time(token: str, before: Subscription, what: bytes) -> datetime:
    try:
        told, revision, digest = (*wire.parse_page_token(token), "", "", "")[:3]
        effective = datetime.fromisoformat(told)
    except (InvalidArgument, ValueError):
        effective, revision, digest = None, "", ""
    if effective is None or effective.tzinfo is None:
        message = "must be the token of a preview of this very change, as PreviewChange answered it"
        raise InvalidArgument(message, field="preview_token")
    if revision != str(before.revision):
        message = f"subscription {before.id} has changed since the preview: preview the change again"
        raise PreviewOutdated(message, subscription=before.id)
    if digest != _digest(before, what, effective):
        message = (
            f"another change was previewed, or one of another subscription than {before.id}: "
            "apply the change with the very fields that were previewed, or preview this one"
        )
        raise PreviewOutdated(message, subscription=before.id)
    return effective


def _digest(before: Subscription, what: bytes, effective: datetime) -> str:
    state = f"{before.id}\n{before.revision}\n{effective.isoformat()}\n".encode()
    return hashlib.sha256(state + what).hexdigest()
