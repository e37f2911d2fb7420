"""Answers the cases of invoice.jsonl that are about discounts and credits."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from google.type.decimal_pb2 import Decimal as DecimalPb

from saldo.catalog.v1 import coupon_pb2
from saldo.invoicing.v1 import rating_service_pb2 as pb
from tests.conformance import credit_answers, wallet_answers
from tests.conformance.case import Answer, Case, Json, Unsupported, check_fields
from tests.conformance.money_answers import decimal_of, money
from tests.conformance.system import System

COUPONS_FIELDS: Final = frozenset(["kind", "currency", "base", "coupons"])
CREDITS_FIELDS: Final = frozenset(["kind", "currency", "lines", "credits"])
SPLIT_FIELDS: Final = frozenset(["kind", "currency", "lines", "discount"])
COUPON_FIELDS: Final = frozenset(["type", "value", "already_used"])


async def answer(case: Case, saldo: System) -> Answer:
    given = case.given
    match given["kind"]:
        case "coupons":
            check_fields(given, COUPONS_FIELDS)
            found = await discounted([given["base"]], given["coupons"], given["currency"], saldo)
            amounts = [decimal_of(each.amount) for each in found.discounts]
            return {
                "coupons": sum(amounts, Decimal(0)),
                "remaining": decimal_of(found.remaining_amounts[0]),
                "coupons_used": sum(amount > 0 for amount in amounts),
            }
        case "split_discount":
            check_fields(given, SPLIT_FIELDS)
            found = await discounted(given["lines"], [given["discount"]], given["currency"], saldo)
            [discount] = found.discounts
            return {
                "line_discounts": [decimal_of(each) for each in discount.line_amounts],
                "discount": decimal_of(discount.amount),
            }
        case "apply_credits":
            check_fields(given, CREDITS_FIELDS)
            return await credit_answers.applied(given, saldo.rooms)
        case "prepaid":
            return await wallet_answers.prepaid(given, saldo.rooms)
    raise Unsupported(given["kind"])


async def discounted(lines: Sequence[str], coupons: Sequence[Json], currency: str, saldo: System) -> Any:
    # Any: a generated response
    request = pb.PreviewDiscountsRequest(
        lines=[pb.LineToDiscount(amount=money(line, currency)) for line in lines],
        coupons=[_coupon(coupon, currency) for coupon in coupons],
    )
    return await saldo.rating.PreviewDiscounts(request)


def _coupon(told: Json, currency: str) -> pb.CouponToApply:
    check_fields(told, COUPON_FIELDS)
    coupon = coupon_pb2.Coupon(duration=coupon_pb2.Coupon.ONCE)
    if told["type"] == "percent":
        coupon.percent_off.percent.CopyFrom(DecimalPb(value=told["value"]))
    elif told["type"] == "amount":
        coupon.amount_off.amounts.append(money(told["value"], currency))
    else:
        raise Unsupported(f"coupon of type {told['type']}")
    used = told.get("already_used")
    return pb.CouponToApply(coupon=coupon, used_amount=None if used is None else money(used, currency))
