"""Which rates apply: the most specific rule of the moment, less what the customer is exempt from."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from invoicing.domain.errors import TaxRuleEnded, TaxRuleRetroactive
from invoicing.domain.party import TaxExemption
from invoicing.domain.tax_rules import Scope, ScopeKey, check_start

from .taxes import FEBRUARY, JANUARY, MARCH, customer, rate, rule, terms

STANDARD, REDUCED, SPECIAL, NEXT = rate("20"), rate("5.5"), rate("10"), rate("21")
BOOKS = ScopeKey(Scope.TAX_CODE, "books")
ADA = ScopeKey(Scope.CUSTOMER, "cus_1")


def percents(found: tuple, *, categories: bool = False) -> list[str]:  # type: ignore[type-arg] # of rates
    return [each.category if categories else str(each.percent) for each in found]


def test_the_most_specific_rule_wins() -> None:
    """A customer before a product, a product before everything else."""
    known = terms([rule(STANDARD), rule(REDUCED, scope=BOOKS), rule(SPECIAL, scope=ADA)], STANDARD, REDUCED, SPECIAL)
    assert percents(known.rates_for(None, "", JANUARY)) == ["20"]
    assert percents(known.rates_for(None, "books", JANUARY)) == ["5.5"]
    assert percents(known.rates_for(None, "food", JANUARY)) == ["20"]
    assert percents(known.rates_for(customer(), "books", JANUARY)) == ["10"]


def test_a_rule_holds_from_its_start_until_the_next_one() -> None:
    """A raise is declared months before, and nobody has to be awake at midnight."""
    known = terms([rule(NEXT, start=MARCH), rule(STANDARD, start=FEBRUARY)], STANDARD, NEXT)
    assert percents(known.rates_for(None, "", JANUARY)) == []
    assert percents(known.rates_for(None, "", FEBRUARY)) == ["20"]
    assert percents(known.rates_for(None, "", MARCH)) == ["21"]


def test_what_has_ended_leaves_its_scope_to_the_wider_one() -> None:
    """The rule before it does not come back: whoever ends a rule means that there is none."""
    rules = [
        rule(STANDARD),
        rule(REDUCED, scope=BOOKS),
        rule(SPECIAL, scope=BOOKS, start=FEBRUARY, end=MARCH),
    ]
    known = terms(rules, STANDARD, REDUCED, SPECIAL)
    assert percents(known.rates_for(None, "books", FEBRUARY)) == ["10"]
    assert percents(known.rates_for(None, "books", MARCH)) == ["20"]


def test_what_never_began_changes_nothing() -> None:
    """A raise that was called off."""
    known = terms([rule(STANDARD), rule(NEXT, start=MARCH, end=MARCH)], STANDARD, NEXT)
    assert percents(known.rates_for(None, "", MARCH)) == ["20"]


def test_a_rule_ends_once_and_not_before_it_begins() -> None:
    """Or an end could be moved behind what was billed."""
    ended = rule(STANDARD, start=MARCH).end(FEBRUARY)
    assert ended.end_time == MARCH
    assert not ended.was_ever
    with pytest.raises(TaxRuleEnded):
        ended.end(MARCH)


def test_only_the_first_rule_of_a_scope_begins_in_the_past() -> None:
    """What was billed by a rule can be told from the rules for ever."""
    check_start(JANUARY, now=MARCH, others=[])
    check_start(MARCH, now=MARCH, others=[rule(STANDARD)])
    with pytest.raises(TaxRuleRetroactive):
        check_start(FEBRUARY, now=MARCH, others=[rule(STANDARD)])


def test_an_exemption_holds_where_the_rate_is_due() -> None:
    """That of another country exempts from nothing at home."""
    known = terms([rule(STANDARD)], STANDARD)
    french, german = TaxExemption(country="FR", reason_code="RESALE"), TaxExemption(country="DE", reason_code="RESALE")
    [exempt] = known.rates_for(customer(german, french), "", JANUARY)
    assert (exempt.category, exempt.percent, exempt.exemption_reason) == ("E", Decimal(0), "RESALE")
    assert percents(known.rates_for(customer(german), "", JANUARY)) == ["20"]


def test_a_rate_that_says_where_it_is_due_is_due_there() -> None:
    """Sold from Germany to a customer in France who is exempt in Germany."""
    german = rate("19", country="DE")
    known = terms([rule(german)], german)
    exempt = TaxExemption(country="DE", reason_code="VATEX-EU-AE")
    assert percents(known.rates_for(customer(exempt), "", JANUARY), categories=True) == ["AE"]
    assert percents(known.rates_for(customer(TaxExemption(country="FR", reason_code="X")), "", JANUARY)) == ["19"]


def test_an_exemption_of_a_region_leaves_the_others() -> None:
    """Exempt in California is not exempt in New York."""
    state, city = rate("6", "State", country="US", region="CA"), rate("2", "City", country="US", region="NY")
    known = terms([rule(state, city)], state, city)
    exempt = customer(TaxExemption(country="US", region="CA", reason_code="RESALE"))
    assert percents(known.rates_for(exempt, "", JANUARY), categories=True) == ["E", "S"]


def test_an_exemption_holds_on_its_days_where_the_customer_is() -> None:
    """Midnight of 1 February in Paris is still January in UTC."""
    known = terms([rule(STANDARD)], STANDARD)
    exempt = customer(TaxExemption(country="FR", reason_code="X", start=date(2026, 2, 1), end=date(2026, 3, 1)))
    eve = FEBRUARY.replace(month=1, day=31, hour=23)
    assert percents(known.rates_for(exempt, "", eve), categories=True) == ["E"]
    assert percents(known.rates_for(exempt, "", eve.replace(hour=22)), categories=True) == ["S"]
    assert percents(known.rates_for(exempt, "", MARCH), categories=True) == ["S"]


def test_who_has_no_address_is_exempt_only_where_a_rate_says_where_it_is_due() -> None:
    """Taxes that were due are harder to collect later than some that were not are to give back."""
    known = terms([rule(STANDARD)], STANDARD)
    nowhere = customer(TaxExemption(country="FR", reason_code="X"), region_code="")
    assert percents(known.rates_for(nowhere, "", JANUARY), categories=True) == ["S"]
