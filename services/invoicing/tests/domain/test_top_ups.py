"""When credit is bought: once there is too little, or by the calendar; never twice at once, and never too often."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import Money
from invoicing.domain.credit import GrantId, GrantKind, Source
from invoicing.domain.invoice import InvoiceId
from invoicing.domain.top_ups import DAY, Calendar, Decision, RuleId, TopUpRule

from .test_credit import CUSTOMER, NOW, eur

HOUR = timedelta(hours=1)
RULE = TopUpRule(
    id=RuleId("topup_1"),
    customer_id="cus_1",
    amount=eur(50_00),
    trigger=eur(10_00),
    time_zone="Europe/Berlin",
    priority=7,
    expires_after_days=30,
    per_day_max=2,
    next_time=NOW,
    delete_time=None,
    revision=1,
    create_time=NOW,
)


@pytest.mark.parametrize(
    ("available", "has_open", "bought", "expected"),
    [
        (9_99, False, [], Decision(True, None)),
        (10_00, False, [], Decision(False, None)),
        (9_99, True, [], Decision(False, None)),
        (9_99, False, [NOW - HOUR], Decision(True, None)),
        (9_99, False, [NOW - HOUR, NOW - 3 * HOUR], Decision(False, NOW - 3 * HOUR + DAY)),
    ],
)
def test_too_little_has_more_bought(available: int, has_open: bool, bought: list[datetime], expected: Decision) -> None:
    """Unless one waits to be paid, or there were enough for a day."""
    assert RULE.decide(at=NOW, available=eur(available), has_open=has_open, bought=bought) == expected


@given(st.lists(st.integers(0, 3 * 24 * 60), min_size=1, max_size=60), st.integers(1, 5))
def test_no_day_has_more_than_the_most(minutes: list[int], most: int) -> None:
    """Whatever the moments at which it is looked at, and though the balance never rises."""
    rule = replace(RULE, per_day_max=most)
    bought: list[datetime] = []
    for at in (NOW + timedelta(minutes=each) for each in sorted(minutes)):
        recent = [each for each in bought if each > at - DAY]
        decision = rule.decide(at=at, available=eur(0), has_open=False, bought=recent)
        if decision.is_wanted:
            bought.append(at)
        else:
            assert decision.next_time is not None
            assert decision.next_time > at
    for each in bought:
        assert sum(each - DAY < other <= each for other in bought) <= most


def test_the_calendar_is_that_of_the_customer() -> None:
    """Midnight in Berlin, in winter and in summer; the 31st comes back after February."""
    start = datetime(2026, 1, 30, 23, tzinfo=UTC)
    rule = replace(RULE, trigger=Calendar(start, 1))
    assert rule.after(start - HOUR) == start
    assert rule.after(start) == datetime(2026, 2, 27, 23, tzinfo=UTC)
    assert rule.after(datetime(2026, 2, 27, 23, tzinfo=UTC)) == datetime(2026, 3, 30, 22, tzinfo=UTC)
    assert rule.threshold is None


def test_what_was_missed_is_not_made_up_for() -> None:
    """Four months late there is one top-up, and then the next."""
    rule = replace(RULE, trigger=Calendar(NOW - timedelta(days=130), 1))
    decision = rule.decide(at=NOW, available=eur(10**9), has_open=False, bought=[NOW - HOUR] * 9)
    assert decision.is_wanted
    assert decision.next_time is not None
    assert NOW < decision.next_time <= NOW + timedelta(days=31)
    assert not rule.decide(at=NOW, available=eur(0), has_open=True, bought=[]).is_wanted


def test_a_top_up_is_an_invoice_of_one_line() -> None:
    """Without tax and without credit: it says which rule wanted it."""
    draft = RULE.invoice(id=InvoiceId("inv_1"), line_id="line_1", customer=CUSTOMER, at=NOW)
    assert (draft.total, draft.top_up_rule_id, draft.taxes) == (eur(50_00), "topup_1", ())
    [line] = draft.lines
    assert (line.kind.name, line.item_id, line.subscription_id) == ("MANUAL", "", "")


def test_what_was_paid_is_granted() -> None:
    """By the terms of the rule; what a credit note took off was not paid."""
    grant = RULE.grant(id=GrantId("grant_1"), paid=eur(40_00), invoice_id="inv_1", at=NOW)
    assert (grant.amount, grant.kind, grant.source) == (eur(40_00), GrantKind.PAID, Source.TOP_UP)
    assert (grant.document_id, grant.priority, grant.expire_time) == ("inv_1", 7, NOW + timedelta(days=30))
    forever = replace(RULE, expires_after_days=0)
    assert forever.grant(id=grant.id, paid=Money(1, "EUR"), invoice_id="inv_1", at=NOW).expire_time is None
