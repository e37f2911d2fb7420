"""What may be corrupted of coupons and their redemptions, as no catalog would let it happen."""

from __future__ import annotations

from typing import Final

COUPON_CORRUPTIONS: Final = {
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
