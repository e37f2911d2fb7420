"""Knows how what the catalog holds looks on the wire, and what callers may ask for."""

from catalog.convert.contract_price import contract_price_from_proto
from catalog.convert.coupon import (
    coupon_code_to_proto,
    coupon_to_proto,
    redemption_for_events,
    redemption_place,
    redemption_to_proto,
    redemption_token,
    terms_from_proto,
)
from catalog.convert.feature import feature_to_proto
from catalog.convert.limits import NAME_LENGTH_MAX, TEXT_LENGTH_MAX, UNIT_LABEL_LENGTH_MAX, announceable
from catalog.convert.page import place, shown
from catalog.convert.plan import plan_terms_from_proto, plan_to_proto
from catalog.convert.price import checked_price, price_from_proto, price_to_proto, priced_product_to_proto
from catalog.convert.product import product_to_proto, tax_code_to_proto
from catalog.convert.seller import address_bytes, numbering_from_proto, seller_to_proto

__all__ = [
    "NAME_LENGTH_MAX",
    "TEXT_LENGTH_MAX",
    "UNIT_LABEL_LENGTH_MAX",
    "address_bytes",
    "announceable",
    "checked_price",
    "contract_price_from_proto",
    "coupon_code_to_proto",
    "coupon_to_proto",
    "feature_to_proto",
    "numbering_from_proto",
    "place",
    "plan_terms_from_proto",
    "plan_to_proto",
    "price_from_proto",
    "price_to_proto",
    "priced_product_to_proto",
    "product_to_proto",
    "redemption_for_events",
    "redemption_place",
    "redemption_to_proto",
    "redemption_token",
    "seller_to_proto",
    "shown",
    "tax_code_to_proto",
    "terms_from_proto",
]
