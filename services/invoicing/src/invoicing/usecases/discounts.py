"""Knows which coupons apply to what is to be billed, by what the catalog says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from common.rpc import Desk
from invoicing import clients
from invoicing.domain.coupons import Coupon
from invoicing.domain.lines_due import BillablePeriod
from invoicing.domain.price import Price


async def applicable(
    desk: Desk, schedules: Mapping[str, clients.CustomerSchedule], prices: Mapping[str, Price]
) -> tuple[dict[str, clients.CustomerSchedule], dict[str, Coupon]]:
    """The schedules, of however many customers, with those coupons only that discount a period's product and plan."""
    discounted = [each for found in schedules.values() for each in found.all_periods if each.coupon_ids]
    coupons = await clients.coupons(desk, {coupon_id for each in discounted for coupon_id in each.coupon_ids})
    restricted = {each.plan_id for each in discounted if any(coupons[one].plans for one in each.coupon_ids)}
    plans = await clients.plan_codes(desk, restricted)

    def of(each: BillablePeriod) -> BillablePeriod:
        product, plan = prices[each.price_id].product_code, plans.get(each.plan_id, "")
        fitting = (one for one in each.coupon_ids if coupons[one].applies_to(product=product, plan=plan))
        return replace(each, coupon_ids=tuple(fitting))

    found = {
        customer_id: replace(
            schedule,
            periods=[of(each) if each.coupon_ids else each for each in schedule.periods],
            under_way=[of(each) if each.coupon_ids else each for each in schedule.under_way],
        )
        for customer_id, schedule in schedules.items()
    }
    return found, coupons
