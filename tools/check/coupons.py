"""Invariants of coupons: what is counted was redeemed, and nothing more often, or by others, than was promised."""

from __future__ import annotations

from collections import Counter
from typing import Final

from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally


def redemptions_add_up(records: Records, tally: Tally) -> None:
    """What was taken back counts against no limit; everything else does, against all of them."""
    redeemed = [row for row in records.rows("catalog", "redemptions") if row["release_time"] is None]
    by_coupon = Counter(row["coupon_id"] for row in redeemed)
    by_customer = Counter((row["coupon_id"], row["customer_id"]) for row in redeemed)
    by_code = Counter((row["seller_id"], row["coupon_code"]) for row in redeemed if row["coupon_code"])
    coupons = {row["id"]: row for row in records.rows("catalog", "coupons")}
    codes = {(row["seller_id"], row["code"]): row for row in records.rows("catalog", "coupon_codes")}
    for coupon_id, coupon in coupons.items():
        _check_count(coupon, by_coupon[coupon_id], coupon_id, tally)
    for key, code in codes.items():
        # The code itself is not told: whoever reads it could redeem it.
        _check_count(code, by_code[key], f"a code of {code['coupon_id']}", tally)
    for (coupon_id, customer_id), count in by_customer.items():
        most = coupons[coupon_id]["redemptions_per_customer_max"] if coupon_id in coupons else 0
        tally.check(_within(count, most), f"{coupon_id}: {count} times by {customer_id}, at most {most}")
    for row in records.rows("catalog", "redemptions"):
        _check_redemption(row, coupons.get(row["coupon_id"]), codes.get((row["seller_id"], row["coupon_code"])), tally)


def _check_count(row: Row, count: int, name: str, tally: Tally) -> None:
    told, most = row["redemption_count"], row["redemptions_max"]
    tally.check(told == count, f"{name}: counts {told}, redeemed {count} times")
    tally.check(_within(count, most), f"{name}: redeemed {count} times, at most {most}")


def _check_redemption(row: Row, coupon: Row | None, code: Row | None, tally: Tally) -> None:
    """It was this customer's to redeem, at that time."""
    if coupon is None:
        tally.check(False, f"{row['id']}: there is no coupon {row['coupon_id']}")
        return
    start, end = coupon["valid_from_time"], coupon["valid_until_time"]
    valid = (start is None or start <= row["redeem_time"]) and (end is None or row["redeem_time"] < end)
    tally.check(valid, f"{row['id']}: {coupon['id']} was not valid at {row['redeem_time'].isoformat()}")
    if row["coupon_code"]:
        fits = (
            code is not None and code["coupon_id"] == coupon["id"] and code["customer_id"] in ("", row["customer_id"])
        )
        tally.check(fits, f"{row['id']}: the code is not one of {coupon['id']} for {row['customer_id']}")


def _within(count: int, most: int) -> bool:
    """0 is as often as wanted."""
    return most == 0 or count <= most


INVARIANTS: Final = (
    Invariant(
        name="redemption counts equal redemptions and respect limits", needs=("catalog",), verify=redemptions_add_up
    ),
)
