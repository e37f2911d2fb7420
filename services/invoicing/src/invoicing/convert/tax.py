"""Knows how tax rates, the rules about them, and what a document comes to with its taxes look on the wire."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

from google.type import decimal_pb2, money_pb2

from common import ids, wire
from common.errors import InvalidArgument
from common.money import Money, minor_units, sum_money
from invoicing.convert.invoice import tax_line_to_proto
from invoicing.domain.document_totals import Adjustment, Document, DocumentLine, DocumentTotals, TaxChoice
from invoicing.domain.errors import TooManyTaxRates
from invoicing.domain.tax import RATES_MAX, TaxRate, TaxRateId
from invoicing.domain.tax_rules import Scope, ScopeKey, TaxRule, TaxRuleId
from saldo.invoicing.v1 import tax_pb2
from saldo.invoicing.v1 import tax_service_pb2 as pb

NAME_LENGTH_MAX: Final = 100
REASON_LENGTH_MAX: Final = 200
PERCENT_MAX: Final = 100
PERCENT_PLACES_MAX: Final = 6
UNIT_PRICE_PLACES_MAX: Final = 18
LINES_MAX: Final = 1_000
ADJUSTMENTS_MAX: Final = 100
ADJUSTMENTS_PER_LINE_MAX: Final = 20
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_REGION: Final = re.compile(r"[A-Z0-9]{1,3}")
_TAX_CODE: Final = re.compile(r"[a-z0-9_-]{1,64}")


def parse_rate_id(text: str, *, field: str = "id") -> TaxRateId:
    return TaxRateId(ids.check(text, "taxrate", field=field))


def parse_rule_id(text: str) -> TaxRuleId:
    return TaxRuleId(ids.check(text, "taxrule"))


def parse_rate(proto: tax_pb2.TaxRate, *, rate_id: str = "", at: datetime | None = None, field: str) -> TaxRate:
    """One that is to be declared, or only calculated with: then it need not have a name. `field` ends with its dot."""
    country, region = proto.country, proto.region
    if country and not _COUNTRY.fullmatch(country):
        raise InvalidArgument("must be two capital letters, such as FR", field=f"{field}country")
    if region and not (country and _REGION.fullmatch(region)):
        raise InvalidArgument("must be 1 to 3 of A-Z and 0-9, in a country", field=f"{field}region")
    percent = wire.parse_decimal(proto.percent, field=f"{field}percent", minimum=0, places_max=PERCENT_PLACES_MAX)
    if percent > PERCENT_MAX:
        raise InvalidArgument(f"must be at most {PERCENT_MAX}", field=f"{field}percent")
    return TaxRate(
        id=TaxRateId(rate_id),
        name=wire.text(proto.name, field=f"{field}name", max_length=NAME_LENGTH_MAX, required=bool(rate_id)),
        category=wire.enum_name(tax_pb2.TaxRate.Category, proto.category, field=f"{field}category"),
        percent=percent,
        is_inclusive=proto.is_inclusive,
        is_compound=proto.is_compound,
        exemption_reason=wire.text(
            proto.exemption_reason, field=f"{field}exemption_reason", max_length=REASON_LENGTH_MAX, required=False
        ),
        country=country,
        region=region,
        create_time=at,
    )


def rate_to_proto(rate: TaxRate) -> tax_pb2.TaxRate:
    return tax_pb2.TaxRate(
        id=rate.id,
        name=rate.name,
        category=tax_pb2.TaxRate.Category.Value(rate.category),
        percent=wire.decimal(rate.percent),
        is_inclusive=rate.is_inclusive,
        is_compound=rate.is_compound,
        exemption_reason=rate.exemption_reason,
        country=rate.country,
        region=rate.region,
        create_time=None if rate.create_time is None else wire.timestamp(rate.create_time),
        archive_time=None if rate.archive_time is None else wire.timestamp(rate.archive_time),
    )


def parse_scope(proto: tax_pb2.TaxScope) -> ScopeKey:
    match proto.WhichOneof("scope"):
        case "tax_code":
            return ScopeKey(Scope.TAX_CODE, _tax_code(proto.tax_code, field="scope.tax_code"))
        case "customer_id":
            return ScopeKey(Scope.CUSTOMER, ids.check(proto.customer_id, "cus", field="scope.customer_id"))
        case _:
            return ScopeKey(Scope.DEFAULT)


def parse_rate_ids(texts: Sequence[str], *, field: str) -> tuple[TaxRateId, ...]:
    if len(texts) > RATES_MAX:
        raise TooManyTaxRates(f"must be at most {RATES_MAX}", field=field)
    found = tuple(parse_rate_id(text, field=f"{field}[{n}]") for n, text in enumerate(texts))
    if len(set(found)) < len(found):
        raise InvalidArgument("must not name a rate twice", field=field)
    return found


def rule_to_proto(rule: TaxRule) -> tax_pb2.TaxRule:
    scope = tax_pb2.TaxScope()
    if rule.scope.scope is Scope.TAX_CODE:
        scope.tax_code = rule.scope.key
    elif rule.scope.scope is Scope.CUSTOMER:
        scope.customer_id = rule.scope.key
    return tax_pb2.TaxRule(
        id=rule.id,
        scope=scope,
        tax_rate_ids=rule.rate_ids,
        start_time=wire.timestamp(rule.start_time),
        end_time=None if rule.end_time is None else wire.timestamp(rule.end_time),
        create_time=wire.timestamp(rule.create_time),
    )


def parse_document(request: pb.CalculateTaxRequest) -> Document:
    currency = request.currency
    minor_units(currency, field="currency")
    if not 1 <= len(request.lines) <= LINES_MAX:
        raise InvalidArgument(f"must be 1 to {LINES_MAX}", field="lines")
    nothing = Money.zero(currency)
    return Document(
        lines=tuple(_line(line, currency, field=f"lines[{n}].") for n, line in enumerate(request.lines)),
        adjustments=_adjustments(request.allowances_and_charges, currency, field="", most=ADJUSTMENTS_MAX),
        prepaid=_money(request.prepaid, currency, field="prepaid") if request.HasField("prepaid") else nothing,
        rounding=_money(request.rounding, currency, field="rounding") if request.HasField("rounding") else nothing,
    )


def totals_to_proto(totals: DocumentTotals) -> pb.CalculateTaxResponse:
    return pb.CalculateTaxResponse(
        lines=[
            pb.TaxedLine(
                net_amount=wire.money(net),
                tax_amount=wire.money(tax),
                tax_rates=[rate_to_proto(each) for each in rates],
            )
            for net, tax, rates in zip(totals.line_nets, totals.line_taxes, totals.line_rates, strict=True)
        ],
        line_total=wire.money(totals.sum_of_lines),
        allowance_total=wire.money(totals.allowances),
        charge_total=wire.money(totals.charges),
        total_excluding_tax=wire.money(totals.without_tax),
        tax_total=wire.money(totals.tax),
        total=wire.money(totals.with_tax),
        prepaid=wire.money(totals.prepaid),
        rounding=wire.money(totals.rounding),
        amount_due=wire.money(totals.due),
        taxes=[tax_line_to_proto(tax) for tax in totals.taxes],
    )


def _line(proto: pb.LineToTax, currency: str, *, field: str) -> DocumentLine:
    own = _adjustments(proto.allowances_and_charges, currency, field=field, most=ADJUSTMENTS_PER_LINE_MAX)
    for n, each in enumerate(proto.allowances_and_charges):
        if each.HasField("tax"):
            raise InvalidArgument("must be absent: it is taxed as the line is", field=_nth(field, n, "tax"))
    added = sum_money((each.amount if each.is_charge else -each.amount for each in own), currency)
    tax = _choice(proto.tax, field=f"{field}tax.")
    match proto.WhichOneof("priced_by"):
        case "amount":
            return DocumentLine(amount=_money(proto.amount, currency, field=f"{field}amount"), added=added, tax=tax)
        case "units":
            units, of = proto.units, f"{field}units."
            base = _number(units.base_quantity, f"{of}base_quantity") if units.HasField("base_quantity") else Decimal(1)
            if base <= 0:
                raise InvalidArgument("must be more than 0", field=f"{of}base_quantity")
            return DocumentLine(
                amount=None,
                quantity=_number(units.quantity, f"{of}quantity"),
                unit_price=_number(units.unit_price, f"{of}unit_price", places_max=UNIT_PRICE_PLACES_MAX),
                base_quantity=base,
                added=added,
                tax=tax,
            )
        case _:
            raise InvalidArgument("is required, or units", field=f"{field}amount")


def _adjustments(
    protos: Sequence[pb.AllowanceOrCharge], currency: str, *, field: str, most: int
) -> tuple[Adjustment, ...]:
    if len(protos) > most:
        raise InvalidArgument(f"must be at most {most}", field=f"{field}allowances_and_charges")
    return tuple(_adjustment(each, currency, field, n) for n, each in enumerate(protos))


def _adjustment(proto: pb.AllowanceOrCharge, currency: str, field: str, n: int) -> Adjustment:
    kind = wire.enum_name(pb.AllowanceOrCharge.Kind, proto.kind, field=_nth(field, n, "kind"))
    amount = _money(proto.amount, currency, field=_nth(field, n, "amount"))
    if amount.minor < 0:
        raise InvalidArgument("must not be negative", field=_nth(field, n, "amount"))
    return Adjustment(amount=amount, is_charge=kind == "CHARGE", tax=_choice(proto.tax, field=_nth(field, n, "tax.")))


def _choice(proto: pb.TaxToApply, *, field: str) -> TaxChoice:
    if len(proto.tax_rates) > RATES_MAX:
        raise TooManyTaxRates(f"must be at most {RATES_MAX}", field=f"{field}tax_rates")
    rates = tuple(_told(each, f"{field}tax_rates[{n}].") for n, each in enumerate(proto.tax_rates))
    if len(set(rates)) < len(rates):
        raise InvalidArgument("must not tell a rate twice", field=f"{field}tax_rates")
    return TaxChoice(
        rate_ids=parse_rate_ids(proto.tax_rate_ids, field=f"{field}tax_rate_ids"),
        rates=rates,
        tax_code=_tax_code(proto.tax_code, field=f"{field}tax_code") if proto.tax_code else "",
    )


def _told(proto: tax_pb2.TaxRate, field: str) -> TaxRate:
    rate = parse_rate(proto, field=field)
    rate.check_percent(field=f"{field}percent")
    return rate


def _tax_code(text: str, *, field: str) -> str:
    if not _TAX_CODE.fullmatch(text):
        raise InvalidArgument("must be 1 to 64 of a-z, 0-9, - and _", field=field)
    return text


def _money(proto: money_pb2.Money, currency: str, *, field: str) -> Money:
    amount = wire.parse_money(proto, field=field)
    if amount.currency != currency:
        raise InvalidArgument(f"must be in {currency}", field=f"{field}.currency_code")
    return amount


def _number(proto: decimal_pb2.Decimal, field: str, *, places_max: int = 12) -> Decimal:
    return wire.parse_decimal(proto, field=field, places_max=places_max)


def _nth(field: str, n: int, name: str) -> str:
    return f"{field}allowances_and_charges[{n}].{name}"
