"""Knows how the catalog is stored: tables, and functions named by the question they answer."""

from catalog.store.coupon_codes import add_codes, list_codes, locked_coupon_of, save_code
from catalog.store.coupons import (
    add_coupon,
    coupon,
    coupon_by_code,
    list_coupons,
    save_coupon,
    unknown_plans,
    unknown_products,
)
from catalog.store.features import add_feature, features_by_code, list_features
from catalog.store.plans import (
    SUPERSEDED_DUE,
    active_version_before,
    add_plan,
    list_plans,
    lock_last_version,
    lock_plan,
    plan,
    plan_by_code,
    plan_version,
    save_plan,
    save_rewritten,
)
from catalog.store.prices import add_contract_price, list_contract_prices, list_price, prices_by_id
from catalog.store.products import (
    add_product,
    add_tax_code,
    check_tax_code,
    list_products,
    list_tax_codes,
    product,
    products_by_id,
    save_product,
)
from catalog.store.redemptions import (
    add_redemption,
    list_redemptions,
    locked_redemption,
    redemptions_of_customer,
    save_release,
)
from catalog.store.sellers import add_seller, save_seller, seller
from catalog.store.tables import metadata
from catalog.store.whole import lock_catalog, standing_versions

__all__ = [
    "SUPERSEDED_DUE",
    "active_version_before",
    "add_codes",
    "add_contract_price",
    "add_coupon",
    "add_feature",
    "add_plan",
    "add_product",
    "add_redemption",
    "add_seller",
    "add_tax_code",
    "check_tax_code",
    "coupon",
    "coupon_by_code",
    "features_by_code",
    "list_codes",
    "list_contract_prices",
    "list_coupons",
    "list_features",
    "list_plans",
    "list_price",
    "list_products",
    "list_redemptions",
    "list_tax_codes",
    "lock_catalog",
    "lock_last_version",
    "lock_plan",
    "locked_coupon_of",
    "locked_redemption",
    "metadata",
    "plan",
    "plan_by_code",
    "plan_version",
    "prices_by_id",
    "product",
    "products_by_id",
    "redemptions_of_customer",
    "save_code",
    "save_coupon",
    "save_plan",
    "save_product",
    "save_release",
    "save_rewritten",
    "save_seller",
    "seller",
    "standing_versions",
    "unknown_plans",
    "unknown_products",
]
