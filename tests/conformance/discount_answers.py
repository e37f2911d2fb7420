"""Answers the cases of invoice.jsonl that are about discounts and credits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from saldo.invoicing.v1 import rating_service_pb2 as pb
from saldo.invoicing.v1.invoice_pb2 import Invoice
from tests.conformance import coupon_answers, credit_answers, wallet_answers
from tests.conformance.case import Answer, Case, Json, Unsupported, check_fields
from tests.conformance.money_answers import decimal_of, money
from tests.conformance.system import System

COUPONS_FIELDS: Final = frozenset(["kind", "currency", "base", "coupons"])
CREDITS_FIELDS: Final = frozenset(["kind", "currency", "lines", "credits"])
SPLIT_FIELDS: Final = frozenset(["kind", "currency", "lines", "discount"])


async def answer(case: Case, saldo: System) -> Answer:
    given = case.given
    match given["kind"]:
        case "coupons":
            check_fields(given, COUPONS_FIELDS)
            lines, coupons, currency = [given["base"]], given["coupons"], given["currency"]
            invoice = await _discounted(lines, coupons, currency, saldo)
            return {
                "coupons": decimal_of(invoice.discount_total),
                "remaining": decimal_of(invoice.total),
                "coupons_used": len({each.discount_id for line in invoice.line_items for each in line.discounts}),
            }
        case "split_discount":
            check_fields(given, SPLIT_FIELDS)
            invoice = await _discounted(given["lines"], [given["discount"]], given["currency"], saldo)
            return {
                "line_discounts": [
                    decimal_of(line.amount) - decimal_of(line.net_amount) for line in invoice.line_items
                ],
                "discount": decimal_of(invoice.discount_total),
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
        coupons=[_coupon(told, currency) for told in coupons],
    )
    return await saldo.rating.PreviewDiscounts(request)


async def _discounted(lines: Sequence[str], coupons: Sequence[Json], currency: str, saldo: System) -> Invoice:
    """By an invoice, which is what the preview of it said."""
    foreseen = await discounted(lines, coupons, currency, saldo)
    invoice = await coupon_answers.billed(lines, coupons, currency, saldo.rooms)
    left = [line.net_amount for line in invoice.line_items]
    if left != list(foreseen.remaining_amounts):
        raise AssertionError(f"{left} is left on the invoice, {foreseen.remaining_amounts} was foreseen")
    return invoice


def _coupon(told: Json, currency: str) -> pb.CouponToApply:
    used = told.get("already_used")
    return pb.CouponToApply(
        coupon=coupon_answers.coupon_of(told, currency), used_amount=None if used is None else money(used, currency)
    )
