"""What taxes come to: rounded once for all that carries a rate, and never a cent more or less than there is."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from common.money import round_half_up, sum_money
from invoicing.domain.errors import (
    ExemptionReasonMismatch,
    TaxPercentMismatch,
    TaxRateArchived,
    TaxRatesMixed,
    TooManyTaxRates,
)
from invoicing.domain.tax import Taxable, TaxRate, check_rates, spread, tax_lines, tax_shares

from .taxes import FEBRUARY, MARCH, eur, rate

EXCLUSIVE = [rate("20"), rate("10"), rate("5.5"), rate("0"), rate("8.875", "Sales tax"), rate("1.5", "County tax")]
INCLUSIVE = [rate("21", is_inclusive=True), rate("9.975", "QST", is_inclusive=True), rate("6", is_inclusive=True)]
COMPOUND = [rate("7.5", "On top", is_compound=True), rate("3", "On top, included", is_inclusive=True, is_compound=True)]

amounts = st.integers(-(10**9), 10**9).map(eur)


def stacks(rates: list[TaxRate], compound: TaxRate) -> st.SearchStrategy[tuple[TaxRate, ...]]:
    some = st.lists(st.sampled_from(rates), unique=True, max_size=3).map(tuple)
    return st.builds(lambda simple, on_top: (*simple, compound) if on_top else simple, some, st.booleans())


exclusive = st.builds(
    lambda amount, rates: Taxable(amount=amount, rates=rates), amounts, stacks(EXCLUSIVE, COMPOUND[0])
)
inclusive = st.builds(
    lambda amount, rates: Taxable(amount=amount, rates=rates), amounts, stacks(INCLUSIVE, COMPOUND[1])
)
things = st.lists(st.one_of(exclusive, inclusive), max_size=12)


def total(things: list[Taxable]) -> int:
    return sum(each.amount.minor for each in things)


def test_a_tax_is_rounded_once_for_all_that_carries_it() -> None:
    """Line by line, 15 % of 0.03 three times would be nothing; together it is a cent."""
    [tax] = tax_lines([Taxable(amount=eur(3), rates=(rate("15"),))] * 3, "EUR")
    assert (tax.taxable, tax.amount) == (eur(9), eur(1))


def test_rates_side_by_side_are_each_a_share_of_the_net_amount() -> None:
    """The order in which they are named decides nothing."""
    state, county = rate("6", "State tax"), rate("2", "County tax")
    taxes = tax_lines([Taxable(amount=eur(100_00), rates=(state, county))], "EUR")
    assert [(tax.name, tax.taxable.minor, tax.amount.minor) for tax in taxes] == [
        ("County tax", 100_00, 2_00),
        ("State tax", 100_00, 6_00),
    ]


def test_a_compound_rate_is_a_share_of_the_others_too() -> None:
    """As the sales tax of Quebec once was of the federal one: 9.5 % of 105.00."""
    federal, provincial = rate("5", "GST"), rate("9.5", "QST", is_compound=True)
    taxes = tax_lines([Taxable(amount=eur(100_00), rates=(provincial, federal))], "EUR")
    assert [(tax.name, tax.taxable.minor, tax.amount.minor) for tax in taxes] == [
        ("GST", 100_00, 5_00),
        ("QST", 105_00, 9_98),
    ]


def test_an_included_tax_is_taken_out_of_the_whole() -> None:
    """19 % in 9.99 twice: 16.79 and 3.19, which is 19.98; line by line it would be 3.20."""
    [tax] = tax_lines([Taxable(amount=eur(9_99), rates=(rate("19", is_inclusive=True),))] * 2, "EUR")
    assert (tax.taxable, tax.amount, tax.is_included) == (eur(16_79), eur(3_19), True)


def test_an_exempted_rate_says_why_and_takes_nothing() -> None:
    """Auditors want to read the reason on the document."""
    exempt = rate("20").exempted("RESALE")
    [tax] = tax_lines([Taxable(amount=eur(50_00), rates=(exempt,))], "EUR")
    assert (tax.category, tax.percent, tax.amount, tax.exemption_reason) == ("E", Decimal(0), eur(0), "RESALE")


@pytest.mark.parametrize(
    ("reason", "category"), [("VATEX-EU-AE", "AE"), ("VATEX-EU-IC", "K"), ("VATEX-EU-G", "G"), ("VATEX-EU-O", "O")]
)
def test_some_reasons_are_a_category_of_their_own(reason: str, category: str) -> None:
    """An e-invoice with reverse charge in category E is rejected."""
    assert rate("20").exempted(reason).category == category


@given(things)
def test_what_includes_its_tax_costs_what_it_says(things: list[Taxable]) -> None:
    """Base and taxes add up to the amounts; a base that is shared is counted once."""
    included = [each for each in things if each.rates and each.rates[0].is_inclusive]
    for simple in INCLUSIVE:
        own = [each for each in included if each.rates == (simple,)]
        taxes = tax_lines(own, "EUR")
        assert sum(tax.taxable.minor + tax.amount.minor for tax in taxes) == total(own)


@given(things)
def test_a_rate_is_a_share_of_everything_that_carries_it(things: list[Taxable]) -> None:
    """Whatever else is on the invoice."""
    taxes = {tax.rate_id: tax for tax in tax_lines(things, "EUR")}
    for each in EXCLUSIVE:
        carrying = [thing for thing in things if each in thing.rates]
        assert (each.id in taxes) == bool(carrying)
        if carrying:
            assert taxes[each.id].taxable.minor == total(carrying)
            assert taxes[each.id].amount.minor == round_half_up(total(carrying) * each.share)


@given(things, st.randoms())
def test_the_order_of_the_lines_does_not_matter(things: list[Taxable], random: Random) -> None:
    """Nobody should save a cent by ordering in another order."""
    shuffled = random.sample(things, len(things))
    assert tax_lines(shuffled, "EUR") == tax_lines(things, "EUR")


@given(things)
def test_what_is_taken_back_is_the_mirror_image(things: list[Taxable]) -> None:
    """A credit of everything cancels to the cent."""
    mirrored = [Taxable(amount=-each.amount, rates=each.rates) for each in things]
    taxes, back = tax_lines(things, "EUR"), tax_lines(mirrored, "EUR")
    assert [(tax.taxable, tax.amount) for tax in back] == [(-tax.taxable, -tax.amount) for tax in taxes]
    assert tax_shares(mirrored, "EUR") == [-share for share in tax_shares(things, "EUR")]


@given(things)
def test_the_shares_of_the_lines_are_all_the_taxes(things: list[Taxable]) -> None:
    """Whoever credits one line after the other takes back exactly what was paid."""
    taxes = sum_money((tax.amount for tax in tax_lines(things, "EUR")), "EUR")
    assert sum_money(tax_shares(things, "EUR"), "EUR") == taxes


@given(st.lists(st.fractions(-100, 100), min_size=1, max_size=8), st.integers(-3, 3))
def test_spreading_gives_all_of_it(exact: list[Fraction], more: int) -> None:
    """Also where the total is some cents away from what the parts are exactly."""
    whole = round_half_up(sum(exact, Fraction(0))) + more
    assume(whole or more)
    assert sum(spread(whole, exact)) == whole


def test_what_rates_can_share_a_thing() -> None:
    """What would have two meanings is refused when it is declared."""
    check_rates([*EXCLUSIVE, COMPOUND[0]], field="x")
    with pytest.raises(TaxRatesMixed):
        check_rates([EXCLUSIVE[0], INCLUSIVE[0]], field="x")
    with pytest.raises(TaxRatesMixed):
        check_rates([COMPOUND[0], rate("1", "More on top", is_compound=True)], field="x")
    with pytest.raises(TooManyTaxRates):
        check_rates([rate(str(percent)) for percent in range(1, 12)], field="x")


@pytest.mark.parametrize("category", ["Z", "E", "AE", "K", "G", "O"])
def test_where_nothing_is_due_the_percent_is_0(category: str) -> None:
    """An e-invoice with a percent in these categories is rejected."""
    with pytest.raises(TaxPercentMismatch):
        rate("1", category=category, exemption_reason="X").check()


def test_a_standard_rate_of_0_is_none() -> None:
    """EN 16931 has a category of its own for it; only the islands have standard rates of nothing."""
    with pytest.raises(TaxPercentMismatch):
        rate("0", category="S").check()
    rate("0", category="L").check()


def test_who_says_that_nothing_is_due_says_why() -> None:
    """And nobody else gives reasons: BR-S-10 of EN 16931."""
    rate("0", category="E", exemption_reason="Article 132").check()
    with pytest.raises(ExemptionReasonMismatch):
        rate("0", category="E").check()
    with pytest.raises(ExemptionReasonMismatch):
        rate("20", exemption_reason="Article 132").check()


def test_archiving_twice_is_archiving_once() -> None:
    """The first time is the one that counts."""
    archived = rate("20").archive(FEBRUARY)
    assert archived.archive(MARCH) == archived
    with pytest.raises(TaxRateArchived):
        archived.check_usable()
