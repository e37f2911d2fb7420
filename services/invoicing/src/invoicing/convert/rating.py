"""Knows how what is to be rated or discounted looks on the wire, and what came of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from google.protobuf.message import Message
from google.type import decimal_pb2

from common import wire
from common.errors import InvalidArgument, SaldoError
from common.money import Money
from invoicing.convert.invoice import step_to_proto
from invoicing.convert.price import price_from_proto
from invoicing.domain.discount import AmountOff, Discount, DiscountableLine, PercentOff, TakenOff
from invoicing.domain.exact import NOTHING
from invoicing.domain.explanation import sentences
from invoicing.domain.price import Price
from invoicing.domain.rating import Rating
from invoicing.domain.simulation import BillingInterval, CurrencyOutcome, CustomerBills, PriceToTry, Simulation
from invoicing.domain.usage import AlreadyBilled, MeterQuantity, QuantityChange, UsageGroup, UsageToRate
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.catalog.v1 import coupon_pb2, price_pb2
from saldo.invoicing.v1 import rating_pb2
from saldo.invoicing.v1 import rating_service_pb2 as pb

AMOUNTS_MAX: Final = 10_000
CHANGES_MAX: Final = 10_000
GROUPS_MAX: Final = 10_000
METERS_MAX: Final = 100
DIMENSIONS_MAX: Final = 16
NAME_LENGTH_MAX: Final = 64
VALUE_LENGTH_MAX: Final = 128
PRORATED_PLACES_MAX: Final = 36
PRORATED_DIGITS_MAX: Final = 62
"""A share of a quantity may have no last decimal; steps are written with as many."""

LINES_MAX: Final = 1_000
COUPONS_MAX: Final = 100
RESTRICTIONS_MAX: Final = 100
CODE_LENGTH_MAX: Final = 64
HUNDRED: Final = Decimal(100)

PricedBy = str | price_pb2.Price | None
"""The id of a price, a price that may not exist yet, or neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToRate:
    """What is asked to be rated, and at which price; `field` is where in the request it stands."""

    priced_by: PricedBy
    usage: UsageToRate
    already_billed: AlreadyBilled | None
    period_under_way: bool
    field: str

    @property
    def is_plain(self) -> bool:
        """Whether a quantity is all there is."""
        usage = self.usage
        told = usage.tier_quantity is not None or usage.amounts or usage.changes or usage.groups
        return not (told or usage.meter_quantities or self.already_billed or self.period_under_way)


def to_rate_from_proto(proto: pb.RateRequest, *, field: str = "") -> ToRate:
    """`field` is the path of the request inside of another, with its dot at the end."""
    already = proto.already_billed
    return ToRate(
        priced_by=priced_by(proto),
        usage=_usage(proto.usage, field=f"{field}usage"),
        already_billed=_already_billed(already, field=f"{field}already_billed") if already.ByteSize() else None,
        period_under_way=proto.period_under_way,
        field=field,
    )


def priced_by(proto: pb.RateRequest | pb.BatchRateRequest) -> PricedBy:
    match proto.WhichOneof("priced_by"):
        case "price_id":
            return proto.price_id
        case "price":
            return proto.price
        case _:
            return None


def _usage(proto: rating_pb2.UsageToRate, *, field: str) -> UsageToRate:
    for name, limit in (
        ("amounts", AMOUNTS_MAX),
        ("changes", CHANGES_MAX),
        ("groups", GROUPS_MAX),
        ("meter_quantities", METERS_MAX),
    ):
        if len(getattr(proto, name)) > limit:
            raise InvalidArgument(f"must be at most {limit}", field=f"{field}.{name}")
    for name in ("changes", "groups"):
        if proto.HasField("quantity") and getattr(proto, name):
            raise InvalidArgument(f"must be absent beside {name}", field=f"{field}.quantity")
    return UsageToRate(
        quantity=_quantity(proto, "quantity", field=field) if proto.HasField("quantity") else None,
        tier_quantity=_quantity(proto, "tier_quantity", field=field) if proto.HasField("tier_quantity") else None,
        amounts=tuple(wire.parse_decimal(each, field=f"{field}.amounts[{n}]") for n, each in enumerate(proto.amounts)),
        changes=tuple(_change(each, field=f"{field}.changes[{n}]") for n, each in enumerate(proto.changes)),
        groups=_groups(proto.groups, field=f"{field}.groups"),
        meter_quantities=_meter_quantities(proto.meter_quantities, field=f"{field}.meter_quantities"),
    )


def _change(proto: rating_pb2.QuantityChange, *, field: str) -> QuantityChange:
    quantity = _quantity(proto, "quantity", field=field)
    prorated = wire.parse_decimal(
        proto.prorated_quantity,
        field=f"{field}.prorated_quantity",
        places_max=PRORATED_PLACES_MAX,
        digits_max=PRORATED_DIGITS_MAX,
    )
    if not min(quantity, NOTHING) <= prorated <= max(quantity, NOTHING):
        raise InvalidArgument("must be a part of the quantity", field=f"{field}.prorated_quantity")
    return QuantityChange(quantity=quantity, prorated_quantity=prorated)


def _groups(protos: Sequence[rating_pb2.UsageGroup], *, field: str) -> tuple[UsageGroup, ...]:
    groups: list[UsageGroup] = []
    known: set[frozenset[tuple[str, str]]] = set()
    for n, proto in enumerate(protos):
        dimensions = _dimensions(proto.dimensions, field=f"{field}[{n}].dimensions")
        if frozenset(dimensions.items()) in known:
            raise InvalidArgument(
                "must not be the same as those of a group before it", field=f"{field}[{n}].dimensions"
            )
        known.add(frozenset(dimensions.items()))
        quantity = _quantity(proto, "quantity", field=f"{field}[{n}]")
        groups.append(UsageGroup(dimensions=dimensions, quantity=quantity))
    return tuple(groups)


def _dimensions(told: Mapping[str, str], *, field: str) -> dict[str, str]:
    """Without the empty ones, which say nothing."""
    if len(told) > DIMENSIONS_MAX:
        raise InvalidArgument(f"must be at most {DIMENSIONS_MAX}", field=field)
    found: dict[str, str] = {}
    for name in sorted(told):
        value = wire.text(told[name], field=field, max_length=VALUE_LENGTH_MAX, required=False)
        wire.text(name, field=field, max_length=NAME_LENGTH_MAX)
        if value:
            found[name] = value
    return found


def _meter_quantities(protos: Sequence[rating_pb2.MeterQuantity], *, field: str) -> tuple[MeterQuantity, ...]:
    found: dict[str, MeterQuantity] = {}
    for n, proto in enumerate(protos):
        meter = wire.text(proto.meter, field=f"{field}[{n}].meter", max_length=NAME_LENGTH_MAX)
        if meter in found:
            raise InvalidArgument("must not be told twice", field=f"{field}[{n}].meter")
        found[meter] = MeterQuantity(meter=meter, quantity=_quantity(proto, "quantity", field=f"{field}[{n}]"))
    return tuple(found.values())


def _already_billed(proto: rating_pb2.AlreadyBilled, *, field: str) -> AlreadyBilled:
    return AlreadyBilled(
        quantity=_quantity(proto, "quantity", field=field) if proto.HasField("quantity") else None,
        amount=wire.parse_money(proto.amount, field=f"{field}.amount") if proto.HasField("amount") else None,
    )


def _quantity(proto: Message, name: str, *, field: str) -> Decimal:
    told: decimal_pb2.Decimal = getattr(proto, name)
    return wire.parse_decimal(told, field=f"{field}.{name}")


def rating_to_proto(rating: Rating) -> rating_pb2.Rating:
    return rating_pb2.Rating(
        amount=wire.money(rating.amount),
        exact_amount=wire.decimal(rating.exact_amount),
        rounding=wire.decimal(rating.rounding),
        steps=[step_to_proto(step) for step in rating.steps],
        period_amount=wire.money(rating.period_amount),
    )


def result_to_proto(result: Rating | Money | SaldoError, *, with_steps: bool) -> pb.RatingResult:
    """Without steps, what these add up to is not told either."""
    match result:
        case SaldoError():
            field = result.field if isinstance(result, InvalidArgument) else ""
            return pb.RatingResult(reason=result.reason, field=field, message=result.message)
        case Rating() if with_steps:
            return pb.RatingResult(rating=rating_to_proto(result))
        case Rating():
            due, period_amount = wire.money(result.amount), wire.money(result.period_amount)
            return pb.RatingResult(rating=rating_pb2.Rating(amount=due, period_amount=period_amount))
        case Money():
            amount = wire.money(result)
            return pb.RatingResult(rating=rating_pb2.Rating(amount=amount, period_amount=amount))


def explanation_to_proto(price: Price, rating: Rating, share: str = "") -> pb.Explanation:
    return pb.Explanation(sentences=sentences(rating, price, share=share), rating=rating_to_proto(rating))


def lines_to_discount(protos: Sequence[pb.LineToDiscount]) -> list[DiscountableLine]:
    if not 1 <= len(protos) <= LINES_MAX:
        raise InvalidArgument(f"must be 1 to {LINES_MAX}", field="lines")
    lines: list[DiscountableLine] = []
    for n, proto in enumerate(protos):
        at = f"lines[{n}]"
        amount = wire.parse_money(proto.amount, field=f"{at}.amount")
        if amount.minor < 0:
            raise InvalidArgument("must not be negative", field=f"{at}.amount")
        if lines and amount.currency != lines[0].amount.currency:
            raise InvalidArgument("must be the same for all lines", field=f"{at}.amount.currency_code")
        product = wire.text(proto.product, field=f"{at}.product", max_length=CODE_LENGTH_MAX, required=False)
        plan = wire.text(proto.plan, field=f"{at}.plan", max_length=CODE_LENGTH_MAX, required=False)
        lines.append(DiscountableLine(amount=amount, product=product, plan=plan))
    return lines


def discounts_to_apply(protos: Sequence[pb.CouponToApply]) -> list[Discount]:
    if len(protos) > COUPONS_MAX:
        raise InvalidArgument(f"must be at most {COUPONS_MAX}", field="coupons")
    return [_discount(proto, field=f"coupons[{n}]") for n, proto in enumerate(protos)]


def _discount(proto: pb.CouponToApply, *, field: str) -> Discount:
    return Discount(
        benefit=_benefit(proto, field=field),
        products=_codes(proto.coupon.products, field=f"{field}.coupon.products"),
        plans=_codes(proto.coupon.plans, field=f"{field}.coupon.plans"),
    )


def _benefit(proto: pb.CouponToApply, *, field: str) -> PercentOff | AmountOff:
    used = wire.parse_money(proto.used_amount, field=f"{field}.used_amount") if proto.HasField("used_amount") else None
    if used is not None and used.minor < 0:
        raise InvalidArgument("must not be negative", field=f"{field}.used_amount")
    match proto.coupon.WhichOneof("benefit"):
        case "percent_off":
            if used is not None:
                raise InvalidArgument("must be absent: a percentage is not used up", field=f"{field}.used_amount")
            return _percent_off(proto.coupon.percent_off, field=f"{field}.coupon.percent_off.percent")
        case "amount_off":
            amounts = _amounts(proto.coupon.amount_off, field=f"{field}.coupon.amount_off.amounts")
            if used is not None and used.currency not in {each.currency for each in amounts}:
                message = "must be a currency that the coupon is offered in"
                raise InvalidArgument(message, field=f"{field}.used_amount.currency_code")
            return AmountOff(amounts=amounts, used=used)
        case "free_units":
            message = "must be percent_off or amount_off: free units are taken off a quantity before it is rated"
            raise InvalidArgument(message, field=f"{field}.coupon.free_units")
        case _:
            raise InvalidArgument("must be percent_off or amount_off", field=f"{field}.coupon.benefit")


def _percent_off(proto: coupon_pb2.PercentOff, *, field: str) -> PercentOff:
    percent = wire.parse_decimal(proto.percent, field=field)
    if not 0 < percent <= HUNDRED:
        raise InvalidArgument("must be more than 0, and at most 100", field=field)
    return PercentOff(percent=percent)


def _amounts(proto: coupon_pb2.AmountOff, *, field: str) -> tuple[Money, ...]:
    if not proto.amounts:
        raise InvalidArgument("must be at least one", field=field)
    found: dict[str, Money] = {}
    for n, each in enumerate(proto.amounts):
        amount = wire.parse_money(each, field=f"{field}[{n}]")
        if amount.minor <= 0:
            raise InvalidArgument("must be more than zero", field=f"{field}[{n}]")
        if amount.currency in found:
            raise InvalidArgument("must be of a currency that none before it has", field=f"{field}[{n}].currency_code")
        found[amount.currency] = amount
    return tuple(found.values())


def _codes(codes: Collection[str], *, field: str) -> frozenset[str]:
    if len(codes) > RESTRICTIONS_MAX:
        raise InvalidArgument(f"must be at most {RESTRICTIONS_MAX}", field=field)
    return frozenset(wire.text(code, field=f"{field}[{n}]", max_length=CODE_LENGTH_MAX) for n, code in enumerate(codes))


def taken_off_to_proto(taken: TakenOff) -> pb.DiscountPreview:
    return pb.DiscountPreview(
        amount=wire.money(taken.amount), line_amounts=[wire.money(share) for share in taken.shares]
    )


def price_to_try(proto: price_pb2.Price) -> PriceToTry:
    return PriceToTry(
        price=price_from_proto(catalog.PricedProduct(price=proto)), billing_interval=billing_interval(proto)
    )


def billing_interval(proto: price_pb2.Price) -> BillingInterval:
    return price_pb2.BillingInterval.Unit.Name(proto.billing_interval.unit), proto.billing_interval.count


def simulation_to_proto(found: Simulation, *, customers_named_max: int) -> pb.PriceSimulation:
    return pb.PriceSimulation(
        currencies=[_outcome_to_proto(each, customers_named_max=customers_named_max) for each in found.outcomes],
        dropped_price_codes=sorted(found.dropped_codes),
        new_price_codes=sorted(found.new_codes),
        unratable_line_count=found.unratable_line_count,
    )


def _outcome_to_proto(outcome: CurrencyOutcome, *, customers_named_max: int) -> pb.CurrencySimulation:
    return pb.CurrencySimulation(
        currency=outcome.currency,
        customer_count=len(outcome.customers),
        line_count=outcome.line_count,
        billed_amount=wire.money(outcome.billed),
        simulated_amount=wire.money(outcome.simulated),
        raised_count=outcome.raised_count,
        lowered_count=outcome.lowered_count,
        quantiles=[
            pb.ChangeQuantile(percent=percent, change=wire.money(change)) for percent, change in outcome.quantiles
        ],
        largest_changes=[_change_to_proto(each) for each in outcome.largest_changes(customers_named_max)],
    )


def _change_to_proto(bills: CustomerBills) -> pb.CustomerChange:
    return pb.CustomerChange(
        customer_id=bills.customer_id,
        billed_amount=wire.money(bills.billed),
        simulated_amount=wire.money(bills.simulated),
    )
