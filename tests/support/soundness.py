"""Knows what the contract calls a sound price: written from the comments of price.proto, not from the catalog's code.

`complaints` are the paths of all that is wrong with a price, so that a refusal can be compared with them, and an
acceptance with there being none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Final

from google.protobuf.message import Message

from saldo.catalog.v1 import price_pb2

CURRENCIES: Final = frozenset({"EUR", "USD", "JPY", "KWD"})
"""Of the texts that the tests use, those that ISO 4217 knows."""

_NUMBER: Final = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,3}))?")
_CODE: Final = re.compile(r"[a-z0-9_-]{1,64}")
_PRODUCT: Final = re.compile(r"prod_[0-7][0-9a-hjkmnp-tv-z]{25}")
_LARGEST: Final = 10**15
_LONGEST: Final = {
    price_pb2.BillingInterval.DAY: 366,
    price_pb2.BillingInterval.WEEK: 366,
    price_pb2.BillingInterval.MONTH: 120,
    price_pb2.BillingInterval.YEAR: 10,
    price_pb2.BillingInterval.QUARTER: 40,
    price_pb2.BillingInterval.ONCE: 1,
}
_OF_USAGE: Final = frozenset({"percentage", "matrix", "dynamic", "capacity"})
_WITHOUT_QUANTITY: Final = frozenset({"flat", "percentage", "dynamic", "capacity"})


def complaints(price: price_pb2.Price, *, path: str = "price", in_plan: bool = False) -> set[str]:
    """The paths of everything that is wrong; what does not matter for an amount may be missing, but not in a plan."""
    return _Judgement(price, path, in_plan).found


class _Judgement:
    def __init__(self, price: price_pb2.Price, path: str, in_plan: bool) -> None:
        self.found: set[str] = set()
        self._terms(price, path, in_plan)
        self._model(price, path)
        self._operators(price, path)

    def _check(self, sound: bool, path: str) -> None:
        if not sound:
            self.found.add(path)

    def _number(
        self,
        message: Message,
        name: str,
        path: str,
        *,
        required: bool = False,
        places: int = 12,
        most: int = _LARGEST,
        positive: bool = False,
    ) -> Fraction | None:
        where = f"{path}.{name}"
        if not message.HasField(name):
            self._check(not required, where)
            return None
        number = _parsed(getattr(message, name).value)
        sound = (
            number is not None
            and 0 <= number <= most
            and (number * 10**places).denominator == 1
            and not (positive and number == 0)
        )
        self._check(sound, where)
        return number if sound else None

    def _terms(self, price: price_pb2.Price, path: str, in_plan: bool) -> None:
        model = price.WhichOneof("model")
        given = _given(price)
        self._check(price.currency in CURRENCIES, f"{path}.currency")
        if in_plan or "code" in given:
            self._check(bool(_CODE.fullmatch(price.code)), f"{path}.code")
        if in_plan or "product_id" in given:
            self._check(bool(_PRODUCT.fullmatch(price.product_id)), f"{path}.product_id")
        self._check(not price.meter or bool(_CODE.fullmatch(price.meter)), f"{path}.meter")
        if in_plan and model in _OF_USAGE:
            self._check(bool(price.meter), f"{path}.meter")
        metered = bool(price.meter) or model in _OF_USAGE
        once = price.billing_interval.unit == price_pb2.BillingInterval.ONCE
        if in_plan or "billing_interval" in given:
            longest = _LONGEST.get(price.billing_interval.unit)
            self._check(longest is not None and not (once and metered), f"{path}.billing_interval.unit")
            self._check(1 <= price.billing_interval.count <= (longest or 366), f"{path}.billing_interval.count")
        if in_plan or "billing_timing" in given:
            timings = {price_pb2.Price.IN_ADVANCE, price_pb2.Price.IN_ARREARS}
            timings -= {price_pb2.Price.IN_ADVANCE} if metered else set()
            timings -= {price_pb2.Price.IN_ARREARS} if once else set()
            self._check(price.billing_timing in timings, f"{path}.billing_timing")

    def _model(self, price: price_pb2.Price, path: str) -> None:
        match price.WhichOneof("model"):
            case "flat":
                self._number(price.flat, "amount", f"{path}.flat", required=True, places=18)
            case "percentage":
                self._percentage(price.percentage, f"{path}.percentage")
            case "matrix":
                self._matrix(price.matrix, f"{path}.matrix")
            case "dynamic":
                self._number(price.dynamic, "multiplier", f"{path}.dynamic", places=18)
            case "capacity":
                self._capacity(price.capacity, f"{path}.capacity", price.meter, f"{path}.meter")
            case _:
                self._tariff(price, path, missing=f"{path}.model")

    def _tariff(self, priced: price_pb2.Price | price_pb2.Tariff, path: str, *, missing: str) -> None:
        match priced.WhichOneof("model"):
            case "per_unit":
                self._number(priced.per_unit, "unit_price", f"{path}.per_unit", required=True, places=18)
            case "graduated":
                self._tiers(priced.graduated.tiers, f"{path}.graduated.tiers")
            case "volume":
                self._tiers(priced.volume.tiers, f"{path}.volume.tiers")
            case "package":
                self._number(priced.package, "size", f"{path}.package", required=True, positive=True)
                self._number(priced.package, "price", f"{path}.package", required=True, places=18)
            case _:
                self._check(False, missing)

    def _tiers(self, tiers: Sequence[price_pb2.Tier], path: str) -> None:
        self._check(1 <= len(tiers) <= 100, path)
        shares = any(tier.HasField("percent") for tier in tiers)
        counts = any(tier.HasField("unit_price") or tier.HasField("package_size") for tier in tiers)
        reached: Fraction | None = Fraction(0)
        for n, tier in enumerate(tiers):
            where = f"{path}[{n}]"
            last = n == len(tiers) - 1
            self._check(tier.HasField("up_to") != last, f"{where}.up_to")
            up_to = self._number(tier, "up_to", where)
            if up_to is not None:
                self._check(reached is None or up_to > reached, f"{where}.up_to")
            reached = up_to
            self._check(bool({"unit_price", "flat_amount", "percent"} & _given(tier)), where)
            self._number(tier, "unit_price", where, places=18)
            self._number(tier, "flat_amount", where)
            self._number(tier, "percent", where, most=100)
            self._number(tier, "package_size", where, positive=True)
            self._check(not (tier.HasField("percent") and shares and counts), f"{where}.percent")

    def _percentage(self, model: price_pb2.PercentageModel, path: str) -> None:
        self._number(model, "percent", path, required=True, most=100)
        self._number(model, "fixed_fee", path)
        self._number(model, "free_amount", path)
        self._check(0 <= model.free_transactions <= 1_000_000, f"{path}.free_transactions")
        self._ordered(model, "transaction_minimum", "transaction_maximum", path)

    def _ordered(self, message: Message, low: str, high: str, path: str) -> None:
        least, most = self._number(message, low, path), self._number(message, high, path)
        self._check(least is None or most is None or least <= most, f"{path}.{high}")

    def _matrix(self, model: price_pb2.MatrixModel, path: str) -> None:
        self._check(1 <= len(model.dimensions) <= 2, f"{path}.dimensions")
        for n, dimension in enumerate(model.dimensions):
            sound = bool(_CODE.fullmatch(dimension)) and dimension not in model.dimensions[:n]
            self._check(sound, f"{path}.dimensions[{n}]")
        tariffs = [model.default_tariff, *(cell.tariff for cell in model.cells)]
        in_all = sum(len(each.graduated.tiers) + len(each.volume.tiers) or 1 for each in tariffs)
        self._check(1 <= len(model.cells) <= 1000 and in_all <= 2000, f"{path}.cells")
        seen: set[tuple[str, ...]] = set()
        for n, cell in enumerate(model.cells):
            where = f"{path}.cells[{n}]"
            values = tuple(cell.values)
            self._check(len(values) == len(model.dimensions) and values not in seen, f"{where}.values")
            seen.add(values)
            for m, value in enumerate(values):
                self._check(_is_text(value), f"{where}.values[{m}]")
            self._tariff(cell.tariff, f"{where}.tariff", missing=f"{where}.tariff")
        self._tariff(model.default_tariff, f"{path}.default_tariff", missing=f"{path}.default_tariff")

    def _capacity(self, model: price_pb2.CapacityModel, path: str, own_meter: str, meter_path: str) -> None:
        self._check(1 <= len(model.tiers) <= 100, f"{path}.tiers")
        below: dict[str, Fraction | None] | None = None
        for n, tier in enumerate(model.tiers):
            where = f"{path}.tiers[{n}]"
            self._number(tier, "amount", where, required=True)
            last = n == len(model.tiers) - 1
            self._check(len(tier.limits) == 0 if last else 1 <= len(tier.limits) <= 10, f"{where}.limits")
            limits = self._limits(tier.limits, f"{where}.limits")
            if last:
                break
            if own_meter and own_meter not in limits:
                self.found.add(meter_path)
            if below is not None:
                self._higher(tier.limits, limits, below, f"{where}.limits")
            below = limits

    def _limits(self, limits: Iterable[price_pb2.CapacityLimit], path: str) -> dict[str, Fraction | None]:
        found: dict[str, Fraction | None] = {}
        for n, limit in enumerate(limits):
            self._check(bool(_CODE.fullmatch(limit.meter)) and limit.meter not in found, f"{path}[{n}].meter")
            found[limit.meter] = self._number(limit, "up_to", f"{path}[{n}]", required=True)
        return found

    def _higher(
        self,
        limits: Iterable[price_pb2.CapacityLimit],
        these: dict[str, Fraction | None],
        below: dict[str, Fraction | None],
        path: str,
    ) -> None:
        higher = these.keys() == below.keys() and any(these[meter] != below[meter] for meter in these)
        self._check(higher, path)
        for n, limit in enumerate(limits):
            up_to, least = these[limit.meter], below.get(limit.meter)
            self._check(up_to is None or least is None or up_to >= least, f"{path}[{n}].up_to")

    def _operators(self, price: price_pb2.Price, path: str) -> None:
        model = price.WhichOneof("model")
        if price.HasField("unit_conversion"):
            self._check(model not in _WITHOUT_QUANTITY, f"{path}.unit_conversion")
            self._conversion(price.unit_conversion, f"{path}.unit_conversion")
        if price.HasField("free_units"):
            self._check(model not in _WITHOUT_QUANTITY | {"matrix"}, f"{path}.free_units")
            self._number(price, "free_units", path)
        self._number(price, "discount_percent", path, most=100, positive=True)
        self._ordered(price, "minimum_amount", "maximum_amount", path)

    def _conversion(self, conversion: price_pb2.UnitConversion, path: str) -> None:
        divisor = self._number(conversion, "divide_by", path, positive=True)
        self._number(conversion, "multiply_by", path, positive=True)
        self._check(
            not (conversion.HasField("divide_by") and conversion.HasField("multiply_by")), f"{path}.multiply_by"
        )
        self._check(conversion.rounding in price_pb2.UnitConversion.Rounding.values(), f"{path}.rounding")
        rounds = conversion.rounding != price_pb2.UnitConversion.ROUNDING_UNSPECIFIED
        self._check(-12 <= conversion.decimals <= 12 and (rounds or not conversion.decimals), f"{path}.decimals")
        converts = conversion.HasField("divide_by") or conversion.HasField("multiply_by")
        self._check(rounds or converts, path)
        label = conversion.unit_label
        self._check(len(label) <= 32 and _is_text(label), f"{path}.unit_label")
        if divisor is not None and not rounds:
            # A quotient has a last decimal when some power of ten is a multiple of the divisor, which has 27 digits.
            self._check(10**100 % divisor.numerator == 0, f"{path}.divide_by")


def _given(message: Message) -> set[str]:
    return {field.name for field, _ in message.ListFields()}


def _parsed(text: str) -> Fraction | None:
    """The number a text says in ASCII digits, at most 100 characters of them."""
    match = _NUMBER.fullmatch(text)
    if match is None or len(text) > 100:
        return None
    sign, whole, fraction, exponent = match.groups()
    if not whole and not fraction:
        return None
    number = Fraction(int(whole + (fraction or "")), 10 ** len(fraction or "")) * Fraction(10) ** int(exponent or 0)
    return -number if sign == "-" else number


def _is_text(value: str) -> bool:
    """Up to 128 characters that can be seen, without spaces around them."""
    unseen = any(unicodedata.category(each) in ("Cc", "Zl", "Zp") for each in value)
    return len(value) <= 128 and not unseen and value == value.strip()
