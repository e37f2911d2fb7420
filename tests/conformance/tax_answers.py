"""Answers the cases of invoice.jsonl that are about taxes: the totals of documents, and the taxes of lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from google.type.decimal_pb2 import Decimal as DecimalPb

from saldo.invoicing.v1 import tax_service_pb2 as pb
from saldo.invoicing.v1.tax_pb2 import TaxRate
from tests.conformance.case import Answer, Case, Json, Unsupported, check_fields
from tests.conformance.discount_answers import discounted
from tests.conformance.money_answers import decimal_of, money
from tests.conformance.system import System

DOCUMENT_FIELDS: Final = frozenset(
    ["kind", "currency", "document", "lines", "document_allowances_charges", "prepaid", "payable_rounding"]
)
LINE_FIELDS: Final = frozenset(
    ["quantity", "unit_price", "base_quantity", "net_amount", "vat_category", "vat_rate", "allowances_charges"]
)
ADJUSTMENT_FIELDS: Final = frozenset(["type", "amount", "base", "percent", "vat_category", "vat_rate"])
TAX_FIELDS: Final = frozenset(["kind", "currency", "taxable_amount", "rates"])
INVOICE_FIELDS: Final = frozenset(["kind", "currency", "lines", "coupons"])
INVOICE_LINE_FIELDS: Final = frozenset(["amount", "tax_rates", "minimum"])
PRORATED_FIELDS: Final = frozenset(["kind", "currency", "fee", "days", "of_days", "rate"])

KINDS: Final = {"document_totals", "tax", "invoice", "invoice_prorated"}


async def answer(case: Case, saldo: System) -> Answer:
    given = case.given
    match given["kind"]:
        case "document_totals":
            return await _document(case, saldo)
        case "tax":
            check_fields(given, TAX_FIELDS)
            found = await _taxed([_plain(given["taxable_amount"], given["currency"], given["rates"])], given, saldo)
            by_rate = {_percent(tax): decimal_of(tax.amount) for tax in found.taxes}
            return {
                "taxes": [by_rate[Decimal(rate)] for rate in given["rates"]],
                "tax": decimal_of(found.tax_total),
                "total": decimal_of(found.total),
            }
        case "invoice":
            return await _invoice(given, saldo)
        case "invoice_prorated":
            check_fields(given, PRORATED_FIELDS)
            line = pb.LineToTax(units=_units(given["days"], given["fee"], given["of_days"]), tax=_tax(given["rate"]))
            found = await _taxed([line], given, saldo)
            return {
                "net": decimal_of(found.line_total),
                "tax": decimal_of(found.tax_total),
                "total": decimal_of(found.total),
            }
    raise Unsupported(given["kind"])


async def _document(case: Case, saldo: System) -> Answer:
    given = case.given
    check_fields(given, DOCUMENT_FIELDS)
    currency = given["currency"]
    found = await _taxed(
        [_line(each, currency) for each in given["lines"]],
        given,
        saldo,
        allowances_and_charges=[_adjustment(each, currency) for each in given["document_allowances_charges"]],
        prepaid=money(given.get("prepaid", "0"), currency),
        rounding=money(given.get("payable_rounding", "0"), currency),
    )
    breakdown = {
        (tax.category, _percent(tax)): {
            "vat_category": tax.category,
            "vat_rate": _percent(tax),
            "taxable_amount": decimal_of(tax.taxable_amount),
            "vat_amount": decimal_of(tax.amount),
        }
        for tax in found.taxes
    }
    return {
        "line_net_amounts": [decimal_of(line.net_amount) for line in found.lines],
        "vat_breakdown": _as_published(breakdown, case.expected["vat_breakdown"]),
        "total_vat": decimal_of(found.tax_total),
        "sum_of_line_net": decimal_of(found.line_total),
        "total_without_vat": decimal_of(found.total_excluding_tax),
        "total_with_vat": decimal_of(found.total),
        "sum_of_allowances": decimal_of(found.allowance_total),
        "sum_of_charges": decimal_of(found.charge_total),
        "amount_due": decimal_of(found.amount_due),
    }


def _as_published(found: Mapping[tuple[str, Decimal], Json], published: Sequence[Json]) -> list[Json]:
    """The breakdown has no order: in that of the document, and whatever the document does not have behind it."""
    places = [(each["vat_category"], Decimal(each["vat_rate"])) for each in published]
    return [found[key] for key in sorted(found, key=lambda key: places.index(key) if key in places else len(places))]


async def _invoice(given: Json, saldo: System) -> Answer:
    """Coupons take off before tax. What a minimum adds is part of its line, and taxed with it."""
    check_fields(given, INVOICE_FIELDS)
    for line in given["lines"]:
        check_fields(line, INVOICE_LINE_FIELDS)
    currency = given["currency"]
    amounts = [max(line["amount"], line.get("minimum", "0"), key=Decimal) for line in given["lines"]]
    left = [money(amount, currency) for amount in amounts]
    coupons: dict[str, Any] = {}  # Any: figures
    if "coupons" in given:
        taken = await discounted(amounts, given["coupons"], currency, saldo)
        left = list(taken.remaining_amounts)
        coupons = {"coupons": sum((decimal_of(each.amount) for each in taken.discounts), Decimal(0))}
    lines = [
        pb.LineToTax(amount=amount, tax=_tax(*line["tax_rates"]))
        for amount, line in zip(left, given["lines"], strict=True)
    ]
    found = await _taxed(lines, given, saldo)
    told: dict[str, Any] = {  # Any: figures
        "tax": decimal_of(found.tax_total),
        "total": decimal_of(found.total),
        "fees": sum(map(Decimal, amounts), Decimal(0)),
        "subtotal_without_tax": decimal_of(found.total_excluding_tax),
        "tax_by_rate": [
            {"rate": _percent(tax), "base": decimal_of(tax.taxable_amount), "tax": decimal_of(tax.amount)}
            for tax in sorted(found.taxes, key=_percent)
        ],
        **coupons,
    }
    if not any("minimum" in line for line in given["lines"]):
        told["line_taxes"] = [decimal_of(line.tax_amount) for line in found.lines]
    return told


async def _taxed(lines: Sequence[pb.LineToTax], given: Json, saldo: System, **more: Any) -> Any:
    # Any: fields of the message, and a generated response
    request = pb.CalculateTaxRequest(currency=given["currency"], lines=lines, **more)
    return await saldo.tax.CalculateTax(request)


def _plain(amount: str, currency: str, rates: Sequence[str]) -> pb.LineToTax:
    return pb.LineToTax(amount=money(amount, currency), tax=_tax(*rates))


def _line(told: Json, currency: str) -> pb.LineToTax:
    check_fields(told, LINE_FIELDS)
    line = pb.LineToTax(
        tax=_vat(told),
        allowances_and_charges=[_adjustment(each, currency) for each in told.get("allowances_charges", ())],
    )
    if "net_amount" in told:
        line.amount.CopyFrom(money(told["net_amount"], currency))
    else:
        line.units.CopyFrom(_units(told["quantity"], told["unit_price"], told.get("base_quantity", "1")))
    return line


def _units(quantity: str, unit_price: str, base_quantity: str) -> pb.UnitsToTax:
    return pb.UnitsToTax(
        quantity=DecimalPb(value=quantity),
        unit_price=DecimalPb(value=unit_price),
        base_quantity=DecimalPb(value=base_quantity),
    )


def _adjustment(told: Json, currency: str) -> pb.AllowanceOrCharge:
    check_fields(told, ADJUSTMENT_FIELDS)
    return pb.AllowanceOrCharge(
        kind=pb.AllowanceOrCharge.Kind.Value(told["type"].upper()),
        amount=money(told["amount"], currency),
        tax=_vat(told) if "vat_category" in told else None,
    )


def _vat(told: Json) -> pb.TaxToApply:
    category = TaxRate.Category.Value(told["vat_category"])
    return pb.TaxToApply(tax_rates=[TaxRate(name="VAT", category=category, percent=DecimalPb(value=told["vat_rate"]))])


def _tax(*percents: str) -> pb.TaxToApply:
    """Taxes of which only the percent is told."""
    return pb.TaxToApply(
        tax_rates=[
            TaxRate(category=TaxRate.S if Decimal(percent) else TaxRate.Z, percent=DecimalPb(value=percent))
            for percent in percents
        ]
    )


def _percent(tax: Any) -> Decimal:  # Any: a generated message
    return Decimal(tax.percent.value)
