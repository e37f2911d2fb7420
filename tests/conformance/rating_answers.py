"""Answers the cases of rating.jsonl: a price and a usage, put to `RatingService.Rate` as an inline price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from google.type.decimal_pb2 import Decimal as DecimalPb

from saldo.catalog.v1 import price_pb2
from saldo.catalog.v1.price_pb2 import Price
from saldo.invoicing.v1 import rating_pb2
from saldo.invoicing.v1 import rating_service_pb2 as pb
from tests.conformance.case import Amount, Answer, Case, Json, Unsupported, check_fields
from tests.conformance.money_answers import currencies, decimal_of, money
from tests.conformance.system import Refused, System, attempt

METER: Final = "meter"
QUOTIENT_DECIMALS: Final = 12
ROUNDINGS: Final = {"ceil": "UP", "floor": "DOWN", "half_up": "HALF_UP", "round": "HALF_UP"}

# What the fields of a case's input are for. One that is not here is not ignored: the case is then unsupported.
MODEL_FIELDS: Final = frozenset(
    [
        "model",
        "currency",
        "tiers",
        "percent",
        "unit_amount",
        "fixed_fee_per_transaction",
        "package_size",
        "package_price",
        "free_amount",
        "free_transactions",
        "per_transaction_min",
        "per_transaction_max",
        "flat_amount",
        "due",
        "multiplier",
        "meters",
    ]
)
OPERATOR_FIELDS: Final = frozenset(
    ["free_units", "free_units_after_conversion", "conversion", "discount_percent", "minimum_amount", "maximum_amount"]
)
USAGE_FIELDS: Final = frozenset(
    [
        "quantity",
        "transactions",
        "changes",
        "peaks",
        "records",
        "groups",
        "cost",
        "precomputed_amount",
        "tier_selection_quantity",
        "already_billed_quantity",
        "already_used_quantity",
        "already_billed_amount",
        "last_part_of_period",
    ]
)
TIER_FIELDS: Final = frozenset(
    ["up_to", "unit_amount", "flat_amount", "percent", "package_size", "blocks_in_tier", "block_size", "block_price"]
)
CONVERSION_FIELDS: Final = frozenset(["divide_by", "multiply_by", "rounding", "decimals"])
NOT_RATINGS: Final = frozenset({"tax_percent"})
"""Tax is added by whoever makes an invoice of it; the amount without it is what a case is judged by."""


async def answer(case: Case, saldo: System) -> Answer:
    given = case.given
    check_fields(given, MODEL_FIELDS | OPERATOR_FIELDS | USAGE_FIELDS | NOT_RATINGS)
    if given.keys() & {"meters", "groups"} and given.keys() & {"minimum_amount", "maximum_amount"}:
        raise Unsupported("a bound of several ratings together")
    if "meters" in given:
        parts = [{**given, **each} for each in given["meters"]]
        return _together([await _rated(_without(part, "meters", "meter"), case, saldo) for part in parts])
    if "groups" in given:
        groups = [(each["group"], {**given, **each}) for each in given["groups"]]
        rated = [await _rated(_without(part, "groups", "group"), case, saldo) for _, part in groups]
        told = [{"group": group, "amount": each["amount"]} for (group, _), each in zip(groups, rated, strict=True)]
        return {**_together(rated), "groups": told}
    return await _rated(given, case, saldo)


async def _rated(given: Json, case: Case, saldo: System) -> Answer:
    request = pb.RateRequest(
        price=price_of(given, case.conventions),
        usage=usage_of(given),
        already_billed=_already_billed(given),
        period_under_way=given.get("last_part_of_period") is False,
    )
    found = await attempt(saldo.rating.Rate(request))
    if isinstance(found, Refused):
        is_beyond_the_end = found.field.endswith("].up_to") and _ends_too_early(given)
        return {"error": _error_of_end(case) if is_beyond_the_end else found.reason.lower()}
    places = (await currencies(saldo))[given["currency"]]
    exact = Decimal(found.exact_amount.value)
    amount, of_period = decimal_of(found.amount), decimal_of(found.period_amount)
    return {
        "amount": Amount(amount, exact, places),
        "cumulative_amount": Amount(of_period, exact + of_period - amount, places),
    }


def _error_of_end(case: Case) -> str:
    """Where peers fail at a quantity beyond the last tier, we have refused the price; whatever they call it."""
    errors = [each["error"] for each in (case.expected, *case.alternatives.values()) if "error" in each]
    return str(errors[0]) if errors else "last_tier_has_an_end"


def _together(rated: Sequence[Answer]) -> Answer:
    amounts = [each["amount"] for each in rated if "amount" in each]
    if len(amounts) < len(rated):
        return next(each for each in rated if "amount" not in each)
    exact = sum((amount.exact for amount in amounts), Decimal(0))
    due = sum((amount.due for amount in amounts), Decimal(0))
    return {"amount": Amount(due, exact, amounts[0].places)}


def price_of(given: Json, conventions: Sequence[str]) -> Price:
    """The price of a case. It is metered, unless the case is about a quantity that somebody typed in."""
    licensed = given["model"] == "flat" or any(each.startswith("negative_quantity:") for each in conventions)
    in_arrears = not licensed or given.get("due") == "in_arrears"
    price = Price(
        currency=given["currency"],
        meter="" if licensed else METER,
        billing_timing=Price.IN_ARREARS if in_arrears else Price.IN_ADVANCE,
        free_units=_decimal(given, "free_units", "free_units_after_conversion"),
        discount_percent=_decimal(given, "discount_percent"),
        minimum_amount=_decimal(given, "minimum_amount"),
        maximum_amount=_decimal(given, "maximum_amount"),
        unit_conversion=_conversion(given["conversion"]) if "conversion" in given else None,
    )
    charged_at_zero = "zero_usage:first_tier_flat_charged" in conventions
    match given["model"]:
        case "flat":
            price.flat.amount.value = given["flat_amount"]
        case "per_unit":
            price.per_unit.unit_price.value = given["unit_amount"]
        case "package":
            price.package.size.value = given["package_size"]
            price.package.price.value = given["package_price"]
        case "graduated" | "graduated_percentage" | "graduated_prorated" | "graduated_blocks":
            price.graduated.tiers.extend(_tiers(given))
            price.graduated.flat_without_usage = charged_at_zero
        case "volume" | "volume_blocks":
            price.volume.tiers.extend(_tiers(given))
            price.volume.flat_without_usage = charged_at_zero
        case "percentage":
            price.percentage.CopyFrom(_percentage(given))
        case "dynamic":
            if "multiplier" in given:
                price.dynamic.multiplier.value = given["multiplier"]
            else:
                price.dynamic.SetInParent()
        case "capacity":
            price.capacity.tiers.extend(_capacity_tiers(given["tiers"]))
            price.meter = price.capacity.tiers[0].limits[0].meter
        case other:
            raise Unsupported(f"model {other}")
    return price


def usage_of(given: Json) -> rating_pb2.UsageToRate:
    amounts = given.get("transactions") or given.get("records") or []
    amounts = [*amounts, *(given[name] for name in ("cost", "precomputed_amount") if name in given)]
    # A dynamic price takes the amounts that come with the units; how many units is for people to know.
    quantity = None if amounts or "changes" in given else given.get("quantity")
    return rating_pb2.UsageToRate(
        quantity=DecimalPb(value=quantity) if quantity is not None else None,
        tier_quantity=_decimal(given, "tier_selection_quantity"),
        amounts=[DecimalPb(value=each) for each in amounts],
        changes=[
            rating_pb2.QuantityChange(
                quantity=DecimalPb(value=each["quantity_change"]),
                prorated_quantity=DecimalPb(value=each["weighted_change"]),
            )
            for each in given.get("changes", ())
        ],
        meter_quantities=[
            rating_pb2.MeterQuantity(meter=meter, quantity=DecimalPb(value=peak))
            for meter, peak in given.get("peaks", {}).items()
        ],
    )


def _already_billed(given: Json) -> rating_pb2.AlreadyBilled | None:
    quantity = _decimal(given, "already_billed_quantity", "already_used_quantity")
    amount = given.get("already_billed_amount")
    if quantity is None and amount is None:
        return None
    return rating_pb2.AlreadyBilled(
        quantity=quantity, amount=None if amount is None else money(amount, given["currency"])
    )


def _tiers(given: Json) -> list[price_pb2.Tier]:
    tiers = given["tiers"]
    for tier in tiers:
        check_fields(tier, TIER_FIELDS)
    if given["model"].endswith("_blocks"):
        tiers = _tiers_of_blocks(tiers)
    found = [
        price_pb2.Tier(
            up_to=_decimal(tier, "up_to"),
            unit_price=_decimal(tier, "unit_amount"),
            flat_amount=_decimal(tier, "flat_amount"),
            percent=_decimal(tier, "percent"),
            package_size=_decimal(tier, "package_size"),
        )
        for tier in tiers
    ]
    # Some peers end the last tier. Ours is open, or the price is refused; what lies inside costs the same either way.
    if not _ends_too_early(given):
        found[-1].ClearField("up_to")
    return found


def _ends_too_early(given: Json) -> bool:
    """Whether the last tier has an end, and what was used goes beyond it."""
    end = None if given["model"].endswith("_blocks") else given["tiers"][-1].get("up_to")
    told = ("quantity", "already_billed_quantity", "already_used_quantity")
    return end is not None and sum(Decimal(given.get(name) or 0) for name in told) > Decimal(end)


def _tiers_of_blocks(tiers: Sequence[Json]) -> list[dict[str, Any]]:  # Any: as in the cases
    """Kill Bill sizes a tier by how many of its blocks it has; the last one goes on without end."""
    found: list[dict[str, Any]] = []  # Any: as above
    reached = Decimal(0)
    for position, tier in enumerate(tiers):
        blocks = tier["blocks_in_tier"]
        is_open = blocks is None or position == len(tiers) - 1
        reached += 0 if is_open else Decimal(blocks) * Decimal(tier["block_size"])
        found.append(
            {
                "up_to": None if is_open else str(reached),
                "unit_amount": tier["block_price"],
                "package_size": tier["block_size"],
            }
        )
    return found


def _capacity_tiers(tiers: Sequence[Json]) -> list[price_pb2.CapacityTier]:
    """As above: where the last tier has limits, it goes on without them."""
    return [
        price_pb2.CapacityTier(
            limits=[]
            if position == len(tiers) - 1
            else [
                price_pb2.CapacityLimit(meter=meter, up_to=DecimalPb(value=up_to))
                for meter, up_to in tier["limits"].items()
            ],
            amount=DecimalPb(value=tier["price"]),
        )
        for position, tier in enumerate(tiers)
    ]


def _percentage(given: Json) -> price_pb2.PercentageModel:
    return price_pb2.PercentageModel(
        percent=DecimalPb(value=given["percent"]),
        fixed_fee=_decimal(given, "fixed_fee_per_transaction"),
        free_transactions=int(given.get("free_transactions") or 0),
        free_amount=_decimal(given, "free_amount"),
        transaction_minimum=_decimal(given, "per_transaction_min"),
        transaction_maximum=_decimal(given, "per_transaction_max"),
    )


def _conversion(told: Json) -> price_pb2.UnitConversion:
    check_fields(told, CONVERSION_FIELDS)
    rounding = told.get("rounding")
    if rounding is None and not _ends(Fraction(told.get("divide_by", 1))):
        # A quotient without a last decimal needs a stated rounding. Ours is far below what money shows.
        told = {**told, "rounding": "half_up", "decimals": QUOTIENT_DECIMALS}
        rounding = "half_up"
    if rounding is not None and rounding not in ROUNDINGS:
        raise Unsupported(f"conversion rounded {rounding}")
    return price_pb2.UnitConversion(
        divide_by=_decimal(told, "divide_by"),
        multiply_by=_decimal(told, "multiply_by"),
        rounding=price_pb2.UnitConversion.Rounding.Value(ROUNDINGS[rounding] if rounding else "ROUNDING_UNSPECIFIED"),
        decimals=int(told.get("decimals", 0)),
    )


def _ends(divisor: Fraction) -> bool:
    """Whether everything divided by it has a last decimal."""
    rest = divisor.numerator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def _decimal(given: Mapping[str, Any], *names: str) -> DecimalPb | None:  # Any: as in the cases
    found = [given[name] for name in names if given.get(name) is not None]
    return DecimalPb(value=found[0]) if found else None


def _without(given: Json, *names: str) -> dict[str, Any]:  # Any: as in the cases
    return {name: each for name, each in given.items() if name not in names}
