"""Looks a seller over for customers that no event told of: what was missed is billed late, never not at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

from common import ids
from common.ids import SellerId
from common.rpc import Desk
from invoicing import clients, store

SWEEP_EVERY: Final = timedelta(days=7)
SANDBOX_SWEEP_EVERY: Final = timedelta(days=28)
"""Time that is travelled stops at every sweep."""

PAGES_PER_SWEEP: Final = 100
SWEEP_ON_AFTER: Final = timedelta(minutes=1)
"""A seller with more subscriptions than that is looked over in several goes."""


def sweep_every(seller_id: SellerId) -> timedelta:
    return SANDBOX_SWEEP_EVERY if ids.is_sandbox(seller_id) else SWEEP_EVERY


async def sweep(desk: Desk, _seller_id: str) -> None:
    """Mark every customer due that is not known here, or has a subscription made since the last time."""
    async with desk.transaction() as tx:
        found = await store.find_sweep(tx)
        now = tx.now
    if found is None or found.next_time > now:
        return
    token = found.page_token
    for _ in range(PAGES_PER_SWEEP):
        starts, token = await clients.subscription_starts(desk, page_token=token)
        async with desk.transaction() as tx:
            known = await store.known_customers(tx, {start.customer_id for start in starts})
            for start in starts:
                if start.customer_id not in known or start.create_time > found.swept_through_time:
                    await store.mark_due(tx, start.customer_id, look_back_to=start.start_time)
        if not token:
            break
    async with desk.transaction() as tx:
        locked = await store.find_sweep(tx, lock=True)
        assert locked is not None, "a seller once known here stays known"
        if token:
            await store.save_sweep(tx, replace(locked, next_time=tx.now + SWEEP_ON_AFTER, page_token=token))
        else:
            done = replace(locked, next_time=now + sweep_every(tx.seller_id), swept_through_time=now, page_token="")
            await store.save_sweep(tx, done)
