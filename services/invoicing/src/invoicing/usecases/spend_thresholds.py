"""Declares how much usage may stay unbilled, and takes that back."""

from __future__ import annotations

from common.db import Tx
from common.money import Money
from common.rpc import Desk
from invoicing import clients, store
from invoicing.domain.consolidation_policy import Scope
from invoicing.domain.spend_threshold import SpendThreshold, ThresholdId


async def customer_concerned(desk: Desk, scope: Scope, scope_id: str) -> str:
    """Whose usage a threshold is about, empty for everybody; fails unless there is such a customer or subscription."""
    match scope:
        case Scope.SELLER:
            return ""
        case Scope.CUSTOMER:
            await clients.customer(desk, scope_id)
            return scope_id
        case Scope.SUBSCRIPTION:
            return await clients.customer_of_subscription(desk, scope_id)


async def declare(tx: Tx, scope: Scope, scope_id: str, amount: Money, *, customer_id: str) -> SpendThreshold:
    """It counts for what is unbilled by now."""
    new = SpendThreshold(
        id=ThresholdId(tx.new_id("sthr")), scope=scope, scope_id=scope_id, amount=amount, create_time=tx.now
    )
    declared = await store.declare_threshold(tx, new)
    if customer_id:
        await store.look_now(tx, customer_id)
    else:
        await store.look_at_all_now(tx)
    return declared
