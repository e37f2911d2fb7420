"""Knows how an invoice and its lines become rows, and rows become them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Row

from common.money import Money
from common.period import Period
from invoicing.domain.consolidation_policy import Consolidation, KeyValue, Scope, Source
from invoicing.domain.discount import AmountOff, GivenDiscount, PercentOff
from invoicing.domain.invoice import Invoice, InvoiceId, State
from invoicing.domain.line import Line, LineDiscount, LineKind, Usage
from invoicing.domain.party import Address, CollectionMethod, Party
from invoicing.domain.steps import RatingStep, StepKind
from invoicing.domain.tax import TaxLine

SELLERS_KEPT: Final = 100
"""The same one is on every invoice of a bill run."""
STEPS_KEPT: Final = 2_000
"""The tiers that are used up are the same for everybody."""
MANUAL: Final = "MANUAL"


def invoice_row(invoice: Invoice) -> dict[str, object]:
    return {
        "id": invoice.id,
        "number": invoice.number or None,
        "state": invoice.state.name,
        "customer_id": invoice.customer_id,
        "seller_party": None if invoice.seller is None else _seller_row(invoice.seller),
        "customer_party": None if invoice.customer is None else asdict(invoice.customer),
        "currency": invoice.currency,
        "line_count": len(invoice.lines),
        "discount_minor": invoice.discount_total.minor,
        "tax_minor": invoice.tax_total.minor,
        "taxes": [tax_row(tax) for tax in invoice.taxes],
        "tax_time": invoice.tax_time,
        "rounding_minor": invoice.rounding.minor,
        "total_minor": invoice.total.minor,
        "credit_applied_minor": invoice.credit_applied.minor,
        "amount_paid_minor": invoice.amount_paid.minor,
        "amount_credited_minor": invoice.amount_credited.minor,
        "amount_written_off_minor": invoice.amount_written_off.minor,
        "hold_reason": invoice.hold_reason,
        "collection_method": invoice.collection_method.name,
        "time_zone": invoice.time_zone,
        "bill_time": invoice.bill_time,
        "finalize_time": invoice.finalize_time,
        "due_time": invoice.due_time,
        "paid_time": invoice.paid_time,
        "overdue_from_time": invoice.overdue_from,
        "overdue_time": invoice.overdue_time,
        "void_time": invoice.void_time,
        "uncollectible_time": invoice.uncollectible_time,
        "revision": invoice.revision,
        "create_time": invoice.create_time,
        "consolidation": None if invoice.consolidation is None else consolidation_row(invoice.consolidation),
        "consolidation_key": invoice.consolidation_key,
        "top_up_rule_id": invoice.top_up_rule_id,
        "origin": MANUAL if invoice.is_manual else "BILL_RUN",
        "given_discounts": [_given_row(each) for each in invoice.given_discounts],
        "net_terms_days": invoice.net_terms_days,
        "memo": invoice.memo,
        "purchase_order": invoice.purchase_order,
        "section_names": dict(invoice.section_names),
        # Whoever saves it has it tried again.
        "is_parked": False,
    }


@lru_cache(maxsize=SELLERS_KEPT)
def _seller_row(party: Party) -> dict[str, object]:
    return asdict(party)


def invoice_of(row: Row[Any], lines: Sequence[Line]) -> Invoice:  # Any: a row of `invoices`
    return Invoice(
        id=InvoiceId(row.id),
        number=row.number or "",
        state=State[row.state],
        customer_id=row.customer_id,
        seller=None if row.seller_party is None else party_of(row.seller_party),
        customer=None if row.customer_party is None else party_of(row.customer_party),
        currency=row.currency,
        lines=tuple(lines),
        taxes=tuple(tax_of(tax, row.currency) for tax in row.taxes),
        tax_time=row.tax_time,
        rounding=Money(row.rounding_minor, row.currency),
        credit_applied=Money(row.credit_applied_minor, row.currency),
        amount_paid=Money(row.amount_paid_minor, row.currency),
        amount_credited=Money(row.amount_credited_minor, row.currency),
        amount_written_off=Money(row.amount_written_off_minor, row.currency),
        hold_reason=row.hold_reason,
        collection_method=CollectionMethod[row.collection_method],
        time_zone=row.time_zone,
        bill_time=row.bill_time,
        finalize_time=row.finalize_time,
        due_time=row.due_time,
        paid_time=row.paid_time,
        overdue_time=row.overdue_time,
        void_time=row.void_time,
        uncollectible_time=row.uncollectible_time,
        revision=row.revision,
        create_time=row.create_time,
        consolidation=None if row.consolidation is None else consolidation_of(row.consolidation),
        top_up_rule_id=row.top_up_rule_id,
        is_manual=row.origin == MANUAL,
        given_discounts=tuple(_given(each, row.currency) for each in row.given_discounts),
        net_terms_days=row.net_terms_days,
        memo=row.memo,
        purchase_order=row.purchase_order,
        section_names=row.section_names,
    )


def line_row(line: Line) -> dict[str, object]:
    usage = line.usage
    return {
        "id": line.id,
        "description": line.description,
        "subscription_id": line.subscription_id,
        "item_id": line.item_id,
        "price_id": line.price_id,
        "period_start": line.period.start,
        "period_end": line.period.end,
        "full_period_start": line.full_period.start,
        "full_period_end": line.full_period.end,
        "quantity": line.quantity,
        "unit_label": line.unit_label,
        "currency": line.amount.currency,
        "amount_minor": line.amount.minor,
        "rating_steps": [_same_step_row(step) for step in line.steps],
        "exact_amount": line.exact_amount,
        "proration_numerator": line.proration.numerator,
        "proration_denominator": line.proration.denominator,
        "meter": usage.meter if usage else "",
        "usage_quantity": usage.quantity if usage else None,
        "usage_event_count": usage.event_count if usage else None,
        "usage_digest": usage.digest if usage else None,
        "usage_through_position": usage.through_position if usage else None,
        "usage_meter_versions": dict(usage.meter_versions) if usage else None,
        "usage_traceparents": list(usage.traceparents) if usage else None,
        "correction": line.correction,
        "kind": line.kind.name,
        "change_id": line.change_id,
        "discount_minor": line.discount.minor,
        "discounts": [
            {"discount_id": each.discount_id, "description": each.description, "amount_minor": each.amount.minor}
            for each in line.discounts
        ],
        "customer_id": line.customer_id,
        "tax_code": line.tax_code,
        "tax_rate_ids": list(line.tax_rate_ids),
        "product_id": line.product_id,
        "voided": False,
        "given_discounts": [_given_row(each) for each in line.given_discounts],
        "coupon_ids": list(line.coupon_ids),
        "time_zone": line.time_zone,
    }


def _given_row(given: GivenDiscount) -> dict[str, object]:
    row: dict[str, object] = {"id": given.id, "description": given.description}
    if isinstance(given.benefit, PercentOff):
        return row | {"percent": str(given.benefit.percent)}
    [amount] = given.benefit.amounts
    return row | {"amount_minor": amount.minor}


def tax_row(tax: TaxLine) -> dict[str, object]:
    return {
        "name": tax.name,
        "category": tax.category,
        "percent": str(tax.percent),
        "taxable_minor": tax.taxable.minor,
        "amount_minor": tax.amount.minor,
        "is_included": tax.is_included,
        "rate_id": tax.rate_id,
        "exemption_reason": tax.exemption_reason,
    }


def step_row(step: RatingStep) -> dict[str, str | None]:
    """What says nothing is left out: a line has many steps. A number of JSON would be read as a float."""
    row = {
        "kind": step.kind.name,
        "description": step.description,
        "quantity": str(step.quantity),
        "unit_price": None if step.unit_price is None else str(step.unit_price),
        "amount": str(step.amount),
    }
    numbers = {
        "over": step.over,
        "up_to": step.up_to,
        "percent": step.percent,
        "package_size": step.package_size,
    }
    told = {name: str(number) for name, number in numbers.items() if number is not None}
    return row | told | ({"cell": step.cell} if step.cell else {})


_same_step_row: Final = lru_cache(maxsize=STEPS_KEPT)(step_row)


def line_of(row: Row[Any]) -> Line:  # Any: a row of `invoice_lines`
    return Line(
        id=row.id,
        description=row.description,
        subscription_id=row.subscription_id,
        item_id=row.item_id,
        price_id=row.price_id,
        period=Period(row.period_start, row.period_end),
        full_period=Period(row.full_period_start, row.full_period_end),
        quantity=row.quantity,
        unit_label=row.unit_label,
        amount=Money(row.amount_minor, row.currency),
        steps=tuple(step_of(step) for step in row.rating_steps),
        exact_amount=row.exact_amount,
        proration=Fraction(row.proration_numerator, row.proration_denominator),
        usage=usage_of(row),
        correction=row.correction,
        kind=LineKind[row.kind],
        change_id=row.change_id,
        discounts=discounts_of(row),
        customer_id=row.customer_id,
        tax_code=row.tax_code,
        tax_rate_ids=tuple(row.tax_rate_ids),
        product_id=row.product_id,
        given_discounts=tuple(_given(each, row.currency) for each in row.given_discounts),
        coupon_ids=tuple(row.coupon_ids),
        time_zone=row.time_zone,
    )


def discounts_of(row: Row[Any]) -> tuple[LineDiscount, ...]:  # Any: a row of `invoice_lines`
    return tuple(
        LineDiscount(
            discount_id=each["discount_id"],
            description=each["description"],
            amount=Money(each["amount_minor"], row.currency),
        )
        for each in row.discounts
    )


def consolidation_row(consolidation: Consolidation) -> dict[str, object]:
    return {
        "keys": [list(each) for each in consolidation.keys],
        "sources": [{**asdict(each), "scope": each.scope.name} for each in consolidation.sources],
    }


def consolidation_of(stored: dict[str, Any]) -> Consolidation:  # Any: JSON as `consolidation_row` wrote it
    return Consolidation(
        keys=tuple(KeyValue(key, value) for key, value in stored["keys"]),
        sources=tuple(
            Source(**{**each, "scope": Scope[each["scope"]], "keys": tuple(each["keys"])}) for each in stored["sources"]
        ),
    )


# Decimals and instants are text in JSON: a JSON number would be read as a float.
def written_line_row(line: Line) -> dict[str, object]:
    """A line that was written by hand and is on no invoice yet, in a column of its own."""
    return {
        "id": line.id,
        "description": line.description,
        "price_id": line.price_id,
        "period_start": line.period.start.isoformat(),
        "period_end": line.period.end.isoformat(),
        "quantity": str(line.quantity),
        "unit_label": line.unit_label,
        "amount_minor": line.amount.minor,
        "rating_steps": [step_row(step) for step in line.steps],
        "exact_amount": str(line.exact_amount),
        "given_discounts": [_given_row(each) for each in line.given_discounts],
        "tax_code": line.tax_code,
    }


def written_line_of(stored: dict[str, Any], currency: str) -> Line:  # Any: JSON as `written_line_row` wrote it
    period = Period(datetime.fromisoformat(stored["period_start"]), datetime.fromisoformat(stored["period_end"]))
    return Line(
        id=stored["id"],
        description=stored["description"],
        subscription_id="",
        item_id="",
        price_id=stored["price_id"],
        period=period,
        full_period=period,
        quantity=Decimal(stored["quantity"]),
        unit_label=stored["unit_label"],
        amount=Money(stored["amount_minor"], currency),
        steps=tuple(step_of(step) for step in stored["rating_steps"]),
        exact_amount=Decimal(stored["exact_amount"]),
        proration=Fraction(1),
        usage=None,
        correction=0,
        kind=LineKind.MANUAL,
        given_discounts=tuple(_given(each, currency) for each in stored["given_discounts"]),
        tax_code=stored["tax_code"],
    )


def _given(stored: dict[str, Any], currency: str) -> GivenDiscount:  # Any: JSON as `_given_row` wrote it
    benefit: PercentOff | AmountOff
    if "percent" in stored:
        benefit = PercentOff(percent=Decimal(stored["percent"]))
    else:
        benefit = AmountOff(amounts=(Money(stored["amount_minor"], currency),))
    return GivenDiscount(id=stored["id"], description=stored["description"], benefit=benefit)


def tax_of(stored: dict[str, Any], currency: str) -> TaxLine:  # Any: JSON as `tax_row` wrote it
    return TaxLine(
        name=stored["name"],
        category=stored["category"],
        percent=Decimal(stored["percent"]),
        taxable=Money(stored["taxable_minor"], currency),
        amount=Money(stored["amount_minor"], currency),
        is_included=stored["is_included"],
        rate_id=stored["rate_id"],
        exemption_reason=stored["exemption_reason"],
    )


def usage_of(row: Row[Any]) -> Usage | None:  # Any: a row of `invoice_lines`
    """None of a licensed line."""
    if not row.meter:
        return None
    return Usage(
        meter=row.meter,
        quantity=row.usage_quantity,
        event_count=row.usage_event_count,
        digest=row.usage_digest,
        through_position=row.usage_through_position,
        traceparents=tuple(row.usage_traceparents),
        meter_versions=row.usage_meter_versions or {},
    )


def step_of(stored: dict[str, Any]) -> RatingStep:  # Any: JSON as `step_row` wrote it
    # Lines of before are not rewritten: their steps have no kind, and of the numbers only three.
    return RatingStep(
        kind=StepKind[stored.get("kind", StepKind.KIND_UNSPECIFIED.name)],
        quantity=Decimal(stored["quantity"]),
        unit_price=_number(stored, "unit_price"),
        amount=Decimal(stored["amount"]),
        words=stored["description"],
        over=_number(stored, "over"),
        up_to=_number(stored, "up_to"),
        percent=_number(stored, "percent"),
        package_size=_number(stored, "package_size"),
        cell=stored.get("cell", ""),
    )


def _number(stored: dict[str, Any], name: str) -> Decimal | None:  # Any: JSON as `step_row` wrote it
    found = stored.get(name)
    return None if found is None else Decimal(found)


def party_of(stored: dict[str, Any]) -> Party:  # Any: JSON as `asdict` made it
    address = stored["address"]
    if address is not None:
        listed = {name: tuple(address[name]) for name in ("address_lines", "recipients")}
        address = Address(**{**address, **listed})
    return Party(**{**stored, "address": address})
