"""Changes of plan, prices, quantities and items: tried out, and carried out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from common import wire
from common.db import Tx
from subscriptions import store
from subscriptions.domain.amendment import Amendment, Wish
from subscriptions.domain.billable_periods import BillablePeriod, schedule
from subscriptions.domain.change import Action, Change, SetPayer, Timing
from subscriptions.domain.errors import PreviewOutdated
from subscriptions.domain.plan import Plan
from subscriptions.domain.subscription import Decision, Subscription
from subscriptions.domain.terms import ItemId, PlanId
from subscriptions.usecases import entitlements, seats, subscriptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a change would do."""

    subscription: Subscription
    change: Change
    added: Sequence[BillablePeriod]
    removed: Sequence[BillablePeriod]
    token: str


async def apply(
    tx: Tx,
    before: Subscription,
    wishes: Sequence[Wish],
    plans: Mapping[PlanId, Plan],
    decision: Decision,
    *,
    what: bytes,
    token: str,
) -> Subscription:
    """Carry out a change, exactly as it was previewed if there is a token."""
    if token:
        previewed = _previewed_time(token, before, what)
        if previewed < before.earliest_change(tx.now):
            raise PreviewOutdated(f"a period of subscription {before.id} has begun since", subscription=before.id)
        decision = replace(decision, timing=Timing.AT_TIME, effective_time=previewed)
    return await subscriptions.change(tx, before, await actions(tx, before, wishes, plans, decision), decision)


async def preview(
    tx: Tx,
    before: Subscription,
    wishes: Sequence[Wish],
    plans: Mapping[PlanId, Plan],
    decision: Decision,
    *,
    what: bytes,
    through: datetime | None,
) -> Preview:
    """What a change would do, without doing it."""
    after = subscriptions.decided(tx, before, await actions(tx, before, wishes, plans, decision), decision)
    await seats.check_room(tx, before, after)
    known = {change.id for change in before.changes}
    change = next(each for each in after.changes if each.id not in known)
    if through is None:
        under_way = after.periods_under_way(change.effective_time)
        through = max([change.effective_time, *(period.end for period in under_way)])
    since = min(change.effective_time, tx.now)
    through = max(through, since)
    with_it = schedule([after], after=since, through=through).periods
    without = schedule([before], after=since, through=through).periods
    there, new = set(without), set(with_it)
    return Preview(
        subscription=after,
        change=change,
        added=[each for each in with_it if each not in there],
        removed=[each for each in without if each not in new],
        token=wire.encode_page_token(change.effective_time.isoformat(), _digest(before, what, change.effective_time)),
    )


async def actions(
    tx: Tx, before: Subscription, wishes: Sequence[Wish], plans: Mapping[PlanId, Plan], decision: Decision
) -> list[Action]:
    """What the wishes come to. What the plans entitle to is kept from now on."""
    effective = before.effective_time(decision, tx.now)
    amendment = Amendment(before, plans, effective=effective, at=tx.now, new_id=lambda: ItemId(tx.new_id("subi")))
    for wish in wishes:
        if isinstance(wish, SetPayer) and wish.payer_id is not None:
            customer = await store.customer(tx, before.as_of(effective).customer_id)
            await subscriptions.check_payer_of(tx, customer, wish.payer_id)
    found = amendment.actions(wishes)
    await entitlements.remember(tx, plans)
    return found


def _previewed_time(token: str, before: Subscription, what: bytes) -> datetime:
    told, digest = (*wire.parse_page_token(token, field="preview_token"), "", "")[:2]
    try:
        effective = datetime.fromisoformat(told)
    except ValueError:
        effective = None
    if effective is None or effective.tzinfo is None or digest != _digest(before, what, effective):
        raise PreviewOutdated(f"subscription {before.id} is not what was previewed", subscription=before.id)
    return effective


def _digest(before: Subscription, what: bytes, effective: datetime) -> str:
    state = f"{before.id}\n{before.revision}\n{effective.isoformat()}\n".encode()
    return hashlib.sha256(state + what).hexdigest()
