"""Asks what plans are called; never inside a transaction."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

from common.ids import SellerId
from common.rpc import Desk
from invoicing import clients
from saldo.catalog.v1 import plan_pb2

PLANS_KEPT_MAX: Final = 5_000


class PlanName(NamedTuple):
    """What a plan is called on paper."""

    display_name: str
    is_add_on: bool


# What a plan is called never changes once somebody has subscribed to it.
_plans: Final[OrderedDict[tuple[SellerId, str], PlanName]] = OrderedDict()


async def plan_names(desk: Desk, plan_ids: Iterable[str]) -> dict[str, PlanName]:
    """By id. There are few, and each is asked for once; or PLAN_NOT_FOUND."""
    seller_id = desk.caller.seller_id
    found: dict[str, PlanName] = {}
    for each in sorted({plan_id for plan_id in plan_ids if plan_id}):
        known = _plans.get((seller_id, each))
        if known is None:
            plan = await clients.plan(desk, each)
            known = PlanName(plan.display_name, plan.kind == plan_pb2.Plan.ADD_ON)
            _plans[seller_id, each] = known
        found[each] = known
    while len(_plans) > PLANS_KEPT_MAX:
        _plans.popitem(last=False)
    return found
