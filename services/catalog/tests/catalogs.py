"""Sound catalogs of every kind, as documents that somebody might write: in JSON, which is YAML too."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

Json = Any  # Any: what can be said in JSON
Keys = st.SearchStrategy[dict[str, Json]]

CODES = st.from_regex(r"[a-z0-9_-]{1,8}", fullmatch=True)
SEEN = st.characters(exclude_categories=["Cs", "Cc", "Cn", "Zl", "Zp"])
TEXTS = st.text(SEEN, max_size=30).map(str.strip).filter(bool)
PRICES = st.decimals(min_value=0, max_value=10**6, places=6).map(str)
SIZES = st.decimals(min_value=1, max_value=10**4, places=3).map(str)
PERCENTS = st.decimals(min_value=1, max_value=100, places=2).map(str)
COUNTS = st.integers(min_value=1, max_value=10**6).map(str)
WHEN = st.sampled_from(["2026-03-01", "2027-01-01T12:30:00+02:00", "2030-06-15T00:00:00.5Z"])
EVERY = st.sampled_from(["DAY", "WEEK", "MONTH", "QUARTER", "YEAR", {"unit": "MONTH", "count": "5"}])

TAX_CODES = ("digital", "null")
PRODUCTS = ("calls", "seats", "123")
FEATURES = {"members": "LIMIT", "sso": "SWITCH", "storage": "QUOTA"}


def some(**keys: st.SearchStrategy[Json]) -> Keys:
    return st.fixed_dictionaries({}, optional=keys)


def all_of(**keys: st.SearchStrategy[Json]) -> Keys:
    return st.fixed_dictionaries(keys)


def one(name: str, value: st.SearchStrategy[Json]) -> Keys:
    return value.map(lambda drawn: {name: drawn})


def joined(*parts: Keys) -> Keys:
    return st.tuples(*parts).map(lambda drawn: {key: value for part in drawn for key, value in part.items()})


def _with_ends(tiers: list[dict[str, Json]], ends: list[str]) -> list[dict[str, Json]]:
    ascending = sorted(set(ends), key=Decimal)[: len(tiers) - 1]
    return [{"up_to": end, **tier} for end, tier in zip(ascending, tiers, strict=False)] + tiers[-1:]


def _tiers(tier: Keys) -> st.SearchStrategy[Json]:
    listed = st.builds(_with_ends, st.lists(tier, min_size=1, max_size=4), st.lists(SIZES, max_size=4))
    return listed | listed.map(lambda tiers: {"tiers": tiers, "flat_without_usage": True})


COUNTED = joined(one("unit_price", PRICES), some(flat_amount=PRICES | st.just("0"), package_size=SIZES))
TIERS = _tiers(COUNTED) | _tiers(one("flat_amount", PRICES)) | _tiers(joined(one("percent", PERCENTS)))
TARIFFS = (
    one("per_unit", PRICES)
    | one("graduated", TIERS)
    | one("volume", TIERS)
    | one("package", all_of(size=SIZES, price=PRICES))
)
CELLS = st.lists(st.tuples(TEXTS | st.just(""), TARIFFS), min_size=1, max_size=3, unique_by=lambda cell: cell[0]).map(
    lambda cells: [{"values": [value], **tariff} for value, tariff in cells]
)
CAPACITIES = st.lists(st.integers(1, 99), max_size=3, unique=True).map(
    lambda sizes: [*({"limits": {"calls": str(n)}, "amount": str(n)} for n in sorted(sizes)), {"amount": "1000"}]
)
AROUND = some(discount_percent=PERCENTS, minimum_amount=st.just("1.5"), maximum_amount=st.just("1000000"))
CONVERSION = (
    joined(one("divide_by", st.just("3600")), one("rounding", st.sampled_from(["UP", "HALF_UP"])))
    | one("multiply_by", SIZES)
    | all_of(rounding=st.just("DOWN"), decimals=st.just("-2"))
)
HEAD = all_of(product=st.sampled_from(PRODUCTS), currency=st.sampled_from(["EUR", "JPY", "KWD"]))
METERED = all_of(meter=st.just("calls"), every=EVERY)
LICENSED = some(every=EVERY, timing=st.sampled_from(["IN_ADVANCE", "IN_ARREARS"]))
USAGE_MODELS = (
    one("dynamic", st.just(True) | one("multiplier", PRICES))
    | one("matrix", all_of(dimensions=st.just(["region"]), cells=CELLS, default=TARIFFS))
    | one("capacity", CAPACITIES)
    | one(
        "percentage",
        joined(one("percent", PERCENTS), some(fixed_fee=PRICES, free_transactions=COUNTS, free_amount=PRICES)),
    )
)
PRICE = joined(
    HEAD,
    AROUND,
    joined(METERED, USAGE_MODELS)
    | joined(METERED | LICENSED, TARIFFS, some(free_units=SIZES, unit_conversion=CONVERSION))
    | joined(LICENSED | one("every", st.just("ONCE")), one("flat", PRICES)),
)
ENTITLEMENTS = some(
    members=SIZES | st.just("unlimited"),
    sso=st.booleans(),
    storage=all_of(quota=SIZES | st.just("unlimited"), every=EVERY) | st.just("unlimited"),
)
TERMS = joined(
    one("display_name", TEXTS),
    some(kind=st.sampled_from(["BASE", "ADD_ON"]), trial_days=st.integers(0, 730), entitlements=ENTITLEMENTS),
    one(
        "prices",
        st.dictionaries(CODES, PRICE, min_size=1, max_size=3).map(
            lambda prices: [{"code": code, **price} for code, price in prices.items()]
        ),
    ),
)
VERSIONS = (
    st.tuples(TERMS)
    | st.tuples(joined(TERMS, one("state", st.sampled_from(["DRAFT", "ARCHIVED"]))))
    | st.tuples(TERMS, joined(TERMS, one("effective", WHEN)))
    | st.tuples(joined(TERMS, some(state=st.just("ARCHIVED"))), joined(TERMS, one("state", st.just("DRAFT"))))
)
COUPON = joined(
    one("display_name", TEXTS),
    one("percent_off", PERCENTS)
    | one("amount_off", st.just({"EUR": "5.25", "JPY": "600"}))
    | one("free_units", all_of(product=st.just("calls"), quantity=SIZES)),
    all_of(duration=st.sampled_from(["ONCE", "FOREVER"])) | all_of(duration=st.just("REPEATING"), periods=st.just("3")),
    some(
        state=st.sampled_from(["ACTIVE", "ARCHIVED"]),
        redemptions_max=COUNTS,
        redemptions_per_customer_max=COUNTS,
        valid_from=st.just("2026-02-01"),
        valid_until=WHEN,
        products=st.just(["seats", "calls"]),
    ),
)


def _catalog(plans: dict[str, tuple[Json, ...]], coupons: dict[str, Json], texts: list[str]) -> str:
    name, description, label = texts
    return json.dumps(
        {
            "tax_codes": [{"code": code, "display_name": name, "description": description} for code in TAX_CODES],
            "products": [
                {"code": code, "display_name": name, "unit_label": label, "tax_code": TAX_CODES[1]} for code in PRODUCTS
            ],
            "features": [
                {"code": code, "display_name": description, "kind": kind}
                | ({"meter": "storage"} if kind == "QUOTA" else {})
                for code, kind in FEATURES.items()
            ],
            "plans": [{"code": code, **version} for code, versions in plans.items() for version in versions],
            "coupons": [
                {"code": code, **coupon} | ({"plans": [next(iter(plans))]} if plans else {})
                for code, coupon in coupons.items()
            ],
        },
        ensure_ascii=False,
    )


DOCUMENTS: st.SearchStrategy[str] = st.builds(
    _catalog,
    st.dictionaries(CODES, VERSIONS, max_size=3),
    st.dictionaries(CODES, COUPON, max_size=2),
    st.lists(TEXTS, min_size=3, max_size=3),
)
"""Everything there can be in a catalog, in no particular order and not in the way in which it is exported."""
