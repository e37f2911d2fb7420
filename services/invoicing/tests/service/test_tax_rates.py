"""Rates and rules are declared, listed, archived and ended, and what makes no sense is refused; documents are taxed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type import money_pb2

from common import ids, wire
from common.testing import SANDBOX_START, Suite, refused
from saldo.catalog.v1 import catalog_service_pb2 as catalog
from saldo.invoicing.v1 import tax_service_pb2 as pb
from saldo.invoicing.v1.tax_pb2 import TaxRate, TaxRule, TaxScope

from .conftest import Business, decimal

Code = grpc.StatusCode
DAY = timedelta(days=1)
DEFAULT = TaxScope()


def rate(percent: str = "20", **more: Any) -> TaxRate:  # Any: fields of the message
    return TaxRate(**{"name": "VAT", "category": TaxRate.S, "percent": decimal(percent), **more})


async def declared(business: Business, percent: str = "20", **more: Any) -> TaxRate:  # Any: as above
    made: TaxRate = await business.tax.CreateTaxRate(pb.CreateTaxRateRequest(tax_rate=rate(percent, **more)))
    return made


async def rule(business: Business, *rate_ids: str, **more: Any) -> TaxRule:  # Any: as above
    made: TaxRule = await business.tax.SetTaxRule(pb.SetTaxRuleRequest(tax_rate_ids=rate_ids, **more))
    return made


def gbp(pence: int) -> money_pb2.Money:
    return money_pb2.Money(currency_code="GBP", units=pence // 100, nanos=pence % 100 * 10_000_000)


def line(pence: int, **tax: Any) -> pb.LineToTax:  # Any: fields of the message
    return pb.LineToTax(amount=gbp(pence), tax=pb.TaxToApply(**tax))


async def test_a_rate_is_kept_as_it_was_declared(business: Business) -> None:
    """Every field, and once however often it is sent."""
    told = rate("8.875", name="Sales tax", country="US", region="NY", is_compound=True)
    made = await business.tax.CreateTaxRate(pb.CreateTaxRateRequest(tax_rate=told, request_id="once"))
    again = await business.tax.CreateTaxRate(pb.CreateTaxRateRequest(tax_rate=told, request_id="once"))
    found = await business.tax.GetTaxRate(pb.GetTaxRateRequest(id=made.id))
    assert made == again == found
    assert ids.prefix_of(made.id) == "taxrate"
    made.ClearField("id")
    made.ClearField("create_time")
    assert made == told


async def test_two_rates_that_say_the_same_are_one_too_many(business: Business) -> None:
    """An e-invoice tells category and percent only. Once the first is archived, it can be declared anew."""
    first = await declared(business)
    with refused("TAX_RATE_EXISTS", Code.ALREADY_EXISTS):
        await declared(business, "20.0")
    archived = await business.tax.ArchiveTaxRate(pb.ArchiveTaxRateRequest(id=first.id))
    assert archived.HasField("archive_time")
    assert await business.tax.ArchiveTaxRate(pb.ArchiveTaxRateRequest(id=first.id)) == archived
    second = await declared(business)
    listed = await business.tax.ListTaxRates(pb.ListTaxRatesRequest())
    assert list(listed.tax_rates) == [archived, second]


REFUSED: dict[str, tuple[TaxRate, str, str]] = {
    "nameless": (rate(name=""), "INVALID_ARGUMENT", "name"),
    "no category": (rate(category=TaxRate.CATEGORY_UNSPECIFIED), "INVALID_ARGUMENT", "category"),
    "a category of later": (rate(category=99), "INVALID_ARGUMENT", "category"),
    "below nothing": (rate("-1"), "INVALID_ARGUMENT", "percent"),
    "more than all": (rate("100.000001"), "INVALID_ARGUMENT", "percent"),
    "too fine": (rate("1.0000001"), "INVALID_ARGUMENT", "percent"),
    "no number": (rate("NaN"), "INVALID_ARGUMENT", "percent"),
    "exempt and due": (rate(category=TaxRate.E, exemption_reason="X"), "TAX_PERCENT_MISMATCH", "percent"),
    "zero and due": (rate(category=TaxRate.Z), "TAX_PERCENT_MISMATCH", "percent"),
    "standard and nothing": (rate("0"), "TAX_PERCENT_MISMATCH", "percent"),
    "exempt for no reason": (rate("0", category=TaxRate.E), "EXEMPTION_REASON_MISMATCH", "exemption_reason"),
    "due for a reason": (rate(exemption_reason="X"), "EXEMPTION_REASON_MISMATCH", "exemption_reason"),
    "no country": (rate(country="France"), "INVALID_ARGUMENT", "country"),
    "a region of nowhere": (rate(region="CA"), "INVALID_ARGUMENT", "region"),
}


@pytest.mark.parametrize(
    ("told", "reason", "field"), REFUSED.values(), ids=[name.replace(" ", "-") for name in REFUSED]
)
async def test_a_rate_that_makes_no_sense_is_refused(
    business: Business, told: TaxRate, reason: str, field: str
) -> None:
    """With the field at fault, and nothing is kept."""
    with refused(reason, Code.INVALID_ARGUMENT) as refusal:
        await business.tax.CreateTaxRate(pb.CreateTaxRateRequest(tax_rate=told))
    assert refusal.field == f"tax_rate.{field}"
    assert not (await business.tax.ListTaxRates(pb.ListTaxRatesRequest())).tax_rates


async def test_a_rule_names_rates_that_can_be_together(business: Business) -> None:
    """What is wrong shows when it is declared, not when it is billed."""
    beside, inside = await declared(business), await declared(business, is_inclusive=True)
    on_top = [await declared(business, "1", name=name, is_compound=True) for name in ("One", "Two")]
    many = [await declared(business, str(percent), name="Many") for percent in range(1, 12)]
    await business.tax.ArchiveTaxRate(pb.ArchiveTaxRateRequest(id=many[0].id))
    unknown = ids.mint("taxrate", SANDBOX_START)
    cases: list[tuple[list[str], str, grpc.StatusCode]] = [
        ([], "INVALID_ARGUMENT", Code.INVALID_ARGUMENT),
        (["VAT"], "INVALID_ARGUMENT", Code.INVALID_ARGUMENT),
        ([beside.id, beside.id], "INVALID_ARGUMENT", Code.INVALID_ARGUMENT),
        ([each.id for each in many], "TOO_MANY_TAX_RATES", Code.INVALID_ARGUMENT),
        ([beside.id, inside.id], "TAX_RATES_MIXED", Code.INVALID_ARGUMENT),
        ([each.id for each in on_top], "TAX_RATES_MIXED", Code.INVALID_ARGUMENT),
        ([unknown], "TAX_RATE_NOT_FOUND", Code.NOT_FOUND),
        ([many[0].id], "TAX_RATE_ARCHIVED", Code.FAILED_PRECONDITION),
    ]
    for rate_ids, reason, code in cases:
        with refused(reason, code):
            await rule(business, *rate_ids)
    assert not (await business.tax.ListTaxRules(pb.ListTaxRulesRequest())).tax_rules


async def test_a_rule_is_about_something_that_exists(business: Business) -> None:
    """Otherwise it would never apply, and nobody would notice."""
    vat = await declared(business)
    await business.catalog.CreateTaxCode(catalog.CreateTaxCodeRequest(code="books", display_name="Books"))
    ada = await business.customer()
    with refused("TAX_CODE_NOT_FOUND", Code.NOT_FOUND):
        await rule(business, vat.id, scope=TaxScope(tax_code="bocks"))
    with refused("CUSTOMER_NOT_FOUND", Code.NOT_FOUND):
        await rule(business, vat.id, scope=TaxScope(customer_id=ids.mint("cus", SANDBOX_START)))
    with refused("INVALID_ARGUMENT", Code.INVALID_ARGUMENT):
        await rule(business, vat.id, scope=TaxScope(tax_code=""))
    scopes = [DEFAULT, TaxScope(tax_code="books"), TaxScope(customer_id=ada.id)]
    made = [await rule(business, vat.id, scope=scope) for scope in scopes]
    assert [each.scope for each in made] == scopes
    for scope, each in zip(scopes, made, strict=True):
        assert list((await business.tax.ListTaxRules(pb.ListTaxRulesRequest(scope=scope))).tax_rules) == [each]
    first = await business.tax.ListTaxRules(pb.ListTaxRulesRequest(page_size=2))
    rest = await business.tax.ListTaxRules(pb.ListTaxRulesRequest(page_token=first.next_page_token))
    assert [*first.tax_rules, *rest.tax_rules] == made
    assert not rest.next_page_token


async def test_rules_are_not_changed_for_the_past(suite: Suite, business: Business) -> None:
    """Only the first of a scope begins there: by the others something may have been billed."""
    vat = await declared(business)
    now = await business.now()
    with refused("INVALID_ARGUMENT"):
        await rule(business, vat.id, start_time=Timestamp(seconds=-(10**12)))
    first = await rule(business, vat.id, start_time=wire.timestamp(now - DAY))
    with refused("TAX_RULE_RETROACTIVE", Code.FAILED_PRECONDITION):
        await rule(business, vat.id, start_time=wire.timestamp(now - DAY / 2))
    later = await rule(business, vat.id, start_time=wire.timestamp(now + DAY))
    with refused("TAX_RULE_EXISTS", Code.ALREADY_EXISTS):
        await rule(business, vat.id, start_time=wire.timestamp(now + DAY))
    never = await business.tax.DeleteTaxRule(pb.DeleteTaxRuleRequest(id=later.id))
    assert never.end_time == later.start_time
    ended = await business.tax.DeleteTaxRule(pb.DeleteTaxRuleRequest(id=first.id))
    assert wire.parse_timestamp(ended.end_time, field="end_time") == now
    with refused("TAX_RULE_ENDED", Code.FAILED_PRECONDITION):
        await business.tax.DeleteTaxRule(pb.DeleteTaxRuleRequest(id=first.id))
    with refused("TAX_RULE_NOT_FOUND", Code.NOT_FOUND):
        await business.tax.DeleteTaxRule(pb.DeleteTaxRuleRequest(id=ids.mint("taxrule", SANDBOX_START)))
    again = await rule(business, vat.id, start_time=wire.timestamp(now + DAY))
    listed = await business.tax.ListTaxRules(pb.ListTaxRulesRequest())
    assert list(listed.tax_rules) == [ended, never, again]


async def test_of_rules_that_begin_at_once_one_is_kept(business: Business) -> None:
    """Two operators at the same moment: one of them is told."""
    rates = [await declared(business, str(percent)) for percent in range(1, 7)]
    answers = await asyncio.gather(*(rule(business, each.id) for each in rates), return_exceptions=True)
    assert sum(isinstance(answer, TaxRule) for answer in answers) == 1
    assert len((await business.tax.ListTaxRules(pb.ListTaxRulesRequest())).tax_rules) == 1


async def test_a_customer_has_a_hundred_rules_at_most(business: Business) -> None:
    """All of them are looked at for each invoice. The default has a limit of its own."""
    vat, ada = await declared(business), await business.customer()
    now = await business.now()
    scope = TaxScope(customer_id=ada.id)
    for n in range(100):
        await rule(business, vat.id, scope=scope, start_time=wire.timestamp(now + n * DAY))
    with refused("TOO_MANY_TAX_RULES", Code.FAILED_PRECONDITION):
        await rule(business, vat.id, scope=scope, start_time=wire.timestamp(now + 100 * DAY))
    await rule(business, vat.id)


async def test_a_document_is_taxed_by_rates_by_rules_and_by_whoever_is_billed(business: Business) -> None:
    """What is told counts as it is; what is not, the rules decide."""
    await business.catalog.CreateTaxCode(catalog.CreateTaxCodeRequest(code="books", display_name="Books"))
    standard, reduced = await declared(business), await declared(business, "5")
    own = await declared(business, "10", name="Own")
    ada = await business.customer()
    await rule(business, standard.id)
    await rule(business, reduced.id, scope=TaxScope(tax_code="books"))
    await rule(business, own.id, scope=TaxScope(customer_id=ada.id))
    lines = [
        line(100_00),
        line(100_00, tax_code="books"),
        line(100_00, tax_rate_ids=[own.id]),
        line(100_00, tax_rates=[rate("50", name="")]),
    ]
    request = pb.CalculateTaxRequest(currency="GBP", lines=lines)
    found = await business.tax.CalculateTax(request)
    assert [each.tax_amount for each in found.lines] == [gbp(20_00), gbp(5_00), gbp(10_00), gbp(50_00)]
    assert [each.tax_rates[0].id for each in found.lines] == [standard.id, reduced.id, own.id, ""]
    assert (found.total_excluding_tax, found.tax_total, found.total) == (gbp(400_00), gbp(85_00), gbp(485_00))
    request.customer_id = ada.id
    of_ada = await business.tax.CalculateTax(request)
    assert [each.tax_amount for each in of_ada.lines] == [gbp(10_00), gbp(10_00), gbp(10_00), gbp(50_00)]
    request.bill_time.CopyFrom(wire.timestamp(await business.now() - DAY))
    before = await business.tax.CalculateTax(request)
    assert [each.tax_amount for each in before.lines] == [gbp(0), gbp(0), gbp(10_00), gbp(50_00)]


async def test_allowances_and_charges_take_part(business: Business) -> None:
    """Included as everything else is: 24.00 less 12.00 and 6.00 more, at 20 %."""
    included = pb.TaxToApply(tax_rates=[rate(is_inclusive=True)])
    allowance = pb.AllowanceOrCharge(kind=pb.AllowanceOrCharge.ALLOWANCE, amount=gbp(12_00), tax=included)
    charge = pb.AllowanceOrCharge(kind=pb.AllowanceOrCharge.CHARGE, amount=gbp(6_00), tax=included)
    own = pb.AllowanceOrCharge(kind=pb.AllowanceOrCharge.ALLOWANCE, amount=gbp(1_00))
    units = pb.UnitsToTax(quantity=decimal("5"), unit_price=decimal("10"), base_quantity=decimal("2"))
    found = await business.tax.CalculateTax(
        pb.CalculateTaxRequest(
            currency="GBP",
            lines=[pb.LineToTax(units=units, allowances_and_charges=[own], tax=included)],
            allowances_and_charges=[allowance, charge],
            prepaid=gbp(8_00),
            rounding=gbp(10),
        )
    )
    assert found.lines[0].net_amount == found.line_total == gbp(20_00)
    assert (found.allowance_total, found.charge_total) == (gbp(10_00), gbp(5_00))
    assert (found.total_excluding_tax, found.tax_total, found.total) == (gbp(15_00), gbp(3_00), gbp(18_00))
    assert found.amount_due == gbp(10_10)


Change = Callable[[pb.CalculateTaxRequest], object]
SENSELESS: dict[str, tuple[Change, str, str]] = {
    "no lines": (lambda request: request.ClearField("lines"), "INVALID_ARGUMENT", "lines"),
    "no currency": (lambda request: request.ClearField("currency"), "UNKNOWN_CURRENCY", "currency"),
    "two currencies": (
        lambda request: setattr(request.lines[0].amount, "currency_code", "EUR"),
        "INVALID_ARGUMENT",
        "lines[0].amount.currency_code",
    ),
    "no amount": (lambda request: request.lines[0].ClearField("amount"), "INVALID_ARGUMENT", "lines[0].amount"),
    "for every none": (
        lambda request: request.lines[0].units.CopyFrom(
            pb.UnitsToTax(quantity=decimal("1"), unit_price=decimal("1"), base_quantity=decimal("0"))
        ),
        "INVALID_ARGUMENT",
        "lines[0].units.base_quantity",
    ),
    "a negative allowance": (
        lambda request: request.allowances_and_charges.add(
            kind=1, amount=money_pb2.Money(currency_code="GBP", units=-1)
        ),
        "INVALID_ARGUMENT",
        "allowances_and_charges[0].amount",
    ),
    "an allowance of a line taxed on its own": (
        lambda request: request.lines[0].allowances_and_charges.add(kind=1, amount=gbp(1), tax=pb.TaxToApply()),
        "INVALID_ARGUMENT",
        "lines[0].allowances_and_charges[0].tax",
    ),
    "inside and beside": (
        lambda request: request.lines[0].tax.tax_rates.extend([rate(), rate("5", is_inclusive=True)]),
        "TAX_RATES_MIXED",
        "lines[0].tax",
    ),
    "eleven rates": (
        lambda request: request.lines[0].tax.tax_rates.extend([rate(str(n)) for n in range(1, 12)]),
        "TOO_MANY_TAX_RATES",
        "lines[0].tax.tax_rates",
    ),
    "one rate twice": (
        lambda request: request.lines[0].tax.tax_rates.extend([rate(), rate()]),
        "INVALID_ARGUMENT",
        "lines[0].tax.tax_rates",
    ),
    "exempt and due": (
        lambda request: request.lines[0].tax.tax_rates.append(rate(category=TaxRate.E)),
        "TAX_PERCENT_MISMATCH",
        "lines[0].tax.tax_rates[0].percent",
    ),
    "no tax code": (
        lambda request: setattr(request.lines[0].tax, "tax_code", "Books!"),
        "INVALID_ARGUMENT",
        "lines[0].tax.tax_code",
    ),
    "too many lines": (
        lambda request: request.lines.extend([line(1)] * 1_000),
        "INVALID_ARGUMENT",
        "lines",
    ),
}


@pytest.mark.parametrize(
    ("change", "reason", "field"), SENSELESS.values(), ids=[name.replace(" ", "-") for name in SENSELESS]
)
async def test_a_document_that_makes_no_sense_is_refused(
    business: Business, change: Change, reason: str, field: str
) -> None:
    """With the field at fault."""
    request = pb.CalculateTaxRequest(currency="GBP", lines=[line(1_00)])
    change(request)
    with refused(reason, Code.INVALID_ARGUMENT) as refusal:
        await business.tax.CalculateTax(request)
    assert refusal.field == field


async def test_a_document_names_what_exists(business: Business) -> None:
    """A document without the taxes that were meant would be worse than none."""
    unknown = line(1_00, tax_rate_ids=[ids.mint("taxrate", SANDBOX_START)])
    with refused("TAX_RATE_NOT_FOUND", Code.NOT_FOUND):
        await business.tax.CalculateTax(pb.CalculateTaxRequest(currency="GBP", lines=[unknown]))
    nobody = pb.CalculateTaxRequest(currency="GBP", lines=[line(1_00)], customer_id=ids.mint("cus", SANDBOX_START))
    with refused("CUSTOMER_NOT_FOUND", Code.NOT_FOUND):
        await business.tax.CalculateTax(nobody)


async def test_what_was_declared_is_nobody_elses(suite: Suite, business: Business) -> None:
    """Another seller sees none of it, and cannot name it."""
    vat = await declared(business)
    await rule(business, vat.id)
    stranger: Any = suite.stub(
        type(business.tax), "invoicing", seller=ids.SellerId(ids.mint("sel_sandbox", SANDBOX_START))
    )
    # Any: grpc stubs are generated
    with refused("TAX_RATE_NOT_FOUND"):
        await stranger.GetTaxRate(pb.GetTaxRateRequest(id=vat.id))
    assert not (await stranger.ListTaxRules(pb.ListTaxRulesRequest())).tax_rules
    found = await stranger.CalculateTax(pb.CalculateTaxRequest(currency="GBP", lines=[line(1_00)]))
    assert not found.taxes
