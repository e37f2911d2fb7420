"""The checker counts redemptions anew, and names what no catalog would have let happen."""

from __future__ import annotations

import pytest

from tests.check.conftest import World
from tools.check.coupons import INVARIANTS
from tools.check.records import read_records
from tools.check.report import Finding, examine

CORRUPTIONS = {
    "a coupon counts too many": ("UPDATE coupons SET redemption_count = redemption_count + 1 WHERE code = 'spring'",),
    "a code counts too few": ("UPDATE coupon_codes SET redemption_count = 0 WHERE code = 'HELLO'",),
    "a redemption was lost": ("DELETE FROM redemptions WHERE coupon_code = ''",),
    "what was taken back counts": ("UPDATE redemptions SET release_time = NULL WHERE release_time IS NOT NULL",),
    "a coupon was redeemed too often": ("UPDATE coupons SET redemptions_max = 1 WHERE code = 'spring'",),
    "a code was redeemed too often": ("UPDATE coupon_codes SET redemptions_max = 1 WHERE code = 'HELLO'",),
    "a customer redeemed too often": ("UPDATE coupons SET redemptions_per_customer_max = 1 WHERE code = 'spring'",),
    "a code was another customer's": ("UPDATE coupon_codes SET customer_id = 'cus_x' WHERE code = 'HELLO'",),
    "a code is of another coupon": (
        "UPDATE coupon_codes SET coupon_id = (SELECT id FROM coupons WHERE code = 'autumn') WHERE code = 'HELLO'",
    ),
    "a code does not exist": ("DELETE FROM coupon_codes WHERE code = 'HELLO'",),
    "a coupon does not exist": ("DELETE FROM coupons WHERE code = 'spring'",),
    "a coupon was redeemed before it was valid": (
        "UPDATE coupons SET valid_from_time = '2026-02-01' WHERE code = 'spring'",
    ),
    "a coupon was redeemed when it was over": (
        "UPDATE coupons SET valid_until_time = (SELECT min(redeem_time) FROM redemptions) WHERE code = 'spring'",
    ),
}


async def finding_in(world: World, *statements: str) -> Finding:
    (invariant,) = INVARIANTS
    sources = await world.corrupted("catalog", *statements) if statements else world.sources
    return examine(invariant, await read_records(sources))


async def test_a_true_story_adds_up(world: World) -> None:
    """Two coupons, a code, four redemptions and one of them taken back: nothing to object to."""
    finding = await finding_in(world)
    assert (finding.holds, finding.offenders) == (True, ())
    assert finding.checked is not None
    assert finding.checked > 10


@pytest.mark.parametrize("statements", CORRUPTIONS.values(), ids=[name.replace(" ", "-") for name in CORRUPTIONS])
async def test_a_corruption_is_named(world: World, statements: tuple[str, ...]) -> None:
    """Whatever is counted or promised, in any of the three tables."""
    finding = await finding_in(world, *statements)
    assert not finding.holds
    assert finding.offenders
    assert not any("HELLO" in offender for offender in finding.offenders)


async def test_a_limit_that_is_reached_is_respected(world: World) -> None:
    """Three of three, two of two: that is what a limit is for."""
    finding = await finding_in(
        world,
        "UPDATE coupons SET redemptions_max = 3, redemptions_per_customer_max = 2 WHERE code = 'spring'",
        "UPDATE coupon_codes SET redemptions_max = 2 WHERE code = 'HELLO'",
    )
    assert finding.holds, finding.offenders
