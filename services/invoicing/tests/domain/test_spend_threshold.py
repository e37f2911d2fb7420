"""What is billed before its period ends: when, how much, and that it is never more or less in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import ids
from common.ids import SellerId
from common.money import Money, sum_money
from invoicing.domain.consolidation import consolidate, left_waiting
from invoicing.domain.consolidation_policy import Scope
from invoicing.domain.early_bill import BILLED_EARLY, REST
from invoicing.domain.errors import SpendThresholdNotPositive
from invoicing.domain.line import Line, LineKey
from invoicing.domain.lines_due import BillablePeriod, Billed, Due, derived_again, lines_due, recomputed
from invoicing.domain.spend_threshold import (
    HOURLY,
    EarlyLine,
    Spend,
    SpendLooks,
    SpendThreshold,
    ThresholdId,
    Thresholds,
    checked_amount,
    early_due,
    is_under_way,
    open_periods,
    spends,
)

from .arrangements import NOTHING_DECLARED
from .test_lines_due import APR, MAR, PRICES, billed, counted, metered, usage_of

MIDDLE = MAR.start + timedelta(days=10)
LATER = MAR.start + timedelta(days=20)


def threshold(minor: int, scope: Scope = Scope.SELLER, scope_id: str = "", currency: str = "GBP") -> SpendThreshold:
    return SpendThreshold(
        id=ThresholdId(f"sthr_{scope.name}_{currency}"),
        scope=scope,
        scope_id=scope_id,
        amount=Money(minor, currency),
        create_time=MAR.start,
    )


def declared(*thresholds: SpendThreshold) -> Thresholds:
    return Thresholds(declared={(each.scope, each.scope_id, each.amount.currency): each for each in thresholds})


def spent(
    quantity: int | str,
    *,
    limit: int = 10_00,
    known: Mapping[LineKey, Billed] | None = None,
    periods: Sequence[BillablePeriod] = (metered("calls", MAR),),
    as_of: datetime = MIDDLE,
    position: int = 1,
) -> list[Spend]:
    usage = usage_of(periods, counted(quantity, position=position))
    return spends(periods, PRICES, usage, known or {}, declared(threshold(limit)), as_of=as_of, proven=True)


def early(quantity: int, **told: object) -> list[Due]:
    as_of = told.get("as_of", MIDDLE)
    assert isinstance(as_of, datetime)
    return early_due(spent(quantity, **told), as_of=as_of)  # type: ignore[arg-type]  # handed on as they are


def rest(quantity: int, lines: Sequence[Line], *, final: bool = True, whose: str = "") -> list[Due]:
    """What is billed at the end of March."""
    periods = [metered("calls", MAR)]
    return lines_due(
        periods,
        PRICES,
        usage_of(periods, counted(quantity, position=9)),
        billed(lines, final=final),
        as_of=APR.start,
        next_bill_time=APR.end,
        early={periods[0].key: whose},
    )


def test_the_nearest_threshold_counts_in_each_currency_by_itself() -> None:
    """Of the subscription, of its customer, of the seller: the first that there is."""
    own, customers = threshold(1, Scope.SUBSCRIPTION, "sub_1"), threshold(2, Scope.CUSTOMER, "cus_1")
    everybodys, dollars = threshold(3), threshold(4, Scope.SUBSCRIPTION, "sub_1", "USD")

    def nearest(*thresholds: SpendThreshold) -> SpendThreshold | None:
        return declared(*thresholds).nearest(subscription_id="sub_1", customer_id="cus_1", currency="GBP")

    assert nearest(own, customers, everybodys, dollars) == own
    assert nearest(customers, everybodys, dollars) == customers
    assert nearest(everybodys, dollars) == everybodys
    assert nearest(dollars) is None


@pytest.mark.parametrize("minor", [0, -1])
def test_a_threshold_is_more_than_nothing(minor: int) -> None:
    """Else everything would be billed at every look."""
    with pytest.raises(SpendThresholdNotPositive):
        checked_amount(Money(minor, "GBP"))


def test_what_is_under_way_has_begun_and_is_billed_later() -> None:
    """From its first instant, so that somebody looks at it; until its own time has come."""
    march = metered("calls", MAR)
    assert is_under_way(march, MAR.start)
    assert is_under_way(march, MIDDLE)
    assert not is_under_way(march, MAR.end)
    assert not is_under_way(march, MAR.start - timedelta(microseconds=1))


def test_nothing_is_billed_before_the_threshold_is_reached() -> None:
    """100 calls are 6.70 £."""
    [spend] = spent(100)
    assert (spend.unbilled, spend.is_reached) == (Money(6_70, "GBP"), False)
    assert early(100) == []
    assert spent(100, as_of=MAR.start) != []
    assert [each.unbilled.minor for each in spent(100, as_of=MAR.start)] == [0]


def test_what_has_reached_it_is_billed_up_to_now() -> None:
    """Once; what came since is billed when it is as much again, with the tiers of the whole period."""
    [first] = early(200)
    line = first.line
    assert (line.amount, line.description) == (Money(13_00, "GBP"), f"Calls{BILLED_EARLY}")
    assert (line.period.start, line.period.end, line.correction) == (MAR.start, MIDDLE, 0)
    assert not first.can_wait
    assert first.early is not None
    assert (first.early.bill_time, first.early.spend) == (MAR.end, Money(13_00, "GBP"))
    known = billed([line])
    assert early(300, known=known) == []
    assert early(200, known=known, as_of=LATER) == []
    [second] = early(600, known=known, as_of=LATER)
    assert (second.line.amount, second.line.correction) == (Money(13_20, "GBP"), 1)
    assert second.line.quantity == 400
    assert second.line.description == f"Calls{BILLED_EARLY}"


def test_what_was_billed_up_to_this_moment_is_not_billed_again() -> None:
    """A sandbox's clock may stand still while more comes in."""
    [first] = early(200)
    [spend] = spent(900, known=billed([first.line]))
    assert (spend.unbilled.minor, spend.billed_early.minor) == (0, 13_00)


def test_nothing_more_is_billed_while_what_was_is_a_draft() -> None:
    """It is counted once more before it is final."""
    [first] = early(200)
    [spend] = spent(900, known=billed([first.line], final=False), as_of=LATER)
    assert spend.is_waiting
    assert early_due([spend], as_of=LATER) == []


def test_nothing_more_is_billed_by_what_was_counted_before() -> None:
    """An older count never replaces a newer one."""
    [first] = early(200, position=5)
    assert early(900, known=billed([first.line]), as_of=LATER, position=4) == []


def test_all_periods_of_a_subscription_are_billed_at_once() -> None:
    """Together they reach it; that of another subscription does not."""
    calls, power = metered("calls", MAR), metered("kwh", MAR)
    other = replace(metered("calls", MAR), subscription_id="sub_2", item_id="item_2")
    due = early(60, periods=(calls, power, other))
    assert [each.line.item_id for each in due] == ["item_calls", "item_kwh"]
    assert due[0].early is not None
    assert due[0].early.spend == sum_money((each.line.amount for each in due), "GBP")


def test_the_rest_of_a_period_is_billed_also_when_there_is_none() -> None:
    """So that the period is closed, and what comes later is late."""
    [first] = early(200)
    [none] = rest(200, [first.line])
    assert (none.line.amount.minor, none.line.correction, none.line.description) == (0, 1, f"Calls{REST}")
    assert (none.bill_time, none.can_wait, none.is_held) == (MAR.end, False, False)
    [bill] = consolidate([none], NOTHING_DECLARED)
    assert (bill.bill_time, bill.early) == (MAR.end, frozenset())
    [late] = lines_due(
        [metered("calls", MAR)],
        PRICES,
        usage_of([metered("calls", MAR)], counted(300, position=10)),
        billed([first.line, none.line]),
        as_of=APR.start,
        next_bill_time=APR.end,
    )
    assert late.line.description == "Calls – late usage"


def test_the_rest_waits_for_what_is_still_a_draft() -> None:
    """And the bill run knows how far it has to look back then."""
    [first] = early(200)
    [held] = rest(300, [first.line], final=False)
    assert (held.is_held, held.gives_back) == (True, False)
    assert left_waiting([held], {}) == [MAR.end]


@pytest.mark.parametrize("quantity", [0, 199])
def test_what_became_less_than_was_billed_is_given_back(quantity: int) -> None:
    """By voided readings, or where more costs less: nobody waits for an invoice that has room for it."""
    [first] = early(200)
    [less] = rest(quantity, [first.line])
    assert (less.is_held, less.gives_back) == (True, True)


def test_what_was_billed_beyond_a_period_that_was_cut_short_is_given_back() -> None:
    """It may be more by now: what was used after the cut is another period's."""
    [first] = early(200)
    beyond = replace(first.line, period=replace(MAR, end=APR.end))
    [more] = rest(900, [beyond])
    assert (more.is_held, more.gives_back) == (True, True)


def test_what_somebody_else_was_billed_of_a_period_is_given_back() -> None:
    """Nobody's bill takes off what another has paid."""
    [first] = early(200)
    [foreign] = rest(900, [first.line], whose="cus_other")
    assert foreign.gives_back


@given(st.lists(st.integers(0, 400), min_size=1, max_size=8), st.integers(1, 30_00), st.integers(0, 500))
def test_however_often_it_is_billed_early_it_comes_to_the_same(steps: list[int], limit: int, last: int) -> None:
    """As the same usage billed once: to the cent, and in quantity; each line made once more is the same line."""
    lines: list[Line] = []
    total = 0
    for number, more in enumerate(steps, start=1):
        total += more
        as_of = MAR.start + number * timedelta(days=3)
        for each in early(total, limit=limit, known=billed(lines), as_of=as_of, position=number):
            assert each.line.amount.minor > 0
            lines.append(replace(each.line, id=f"line_{number}"))
    total += last
    whole = rest(total, []) if not lines else rest(total, lines)
    everything = [*lines, *(each.line for each in whole)]
    [once] = rest(total, [])
    assert sum_money((line.amount for line in everything), "GBP") == once.line.amount
    assert sum(line.quantity for line in everything) == total
    for number, line in enumerate(everything):
        before = Billed.of((each, True) for each in everything[:number]) if number else None
        again = derived_again(line, price=PRICES["calls"], usage=line.usage, billed=before)
        assert again == line
        assert line.usage is not None
        assert recomputed(line, price=PRICES["calls"], usage=line.usage, billed_elsewhere=before) == line


def test_only_what_was_billed_last_is_open() -> None:
    """What was annulled or followed by more is not."""
    [due] = early(200)
    assert due.early is not None
    record = EarlyLine(
        key=due.line.key,
        line_id="line_1",
        invoice_id="inv_1",
        customer_id="cus_1",
        subscription_id="sub_1",
        period=due.line.period,
        correction=0,
        bill_time=MAR.end,
        spend=due.early.spend,
        threshold_id="sthr_1",
        create_time=MIDDLE,
    )
    assert open_periods([record], billed([due.line])) == {due.line.key: record}
    assert open_periods([record], {}) == {}
    [after] = rest(300, [due.line])
    assert open_periods([record], billed([due.line, after.line])) == {}


def test_looks_are_on_the_hour_and_those_of_sandboxes_at_midnight() -> None:
    """However late one was: all customers stop the clock of a sandbox at once."""
    at = datetime(2026, 3, 5, 9, 30, tzinfo=UTC)
    live, sandbox = SellerId("sel_x"), SellerId(f"{ids.SANDBOX}_x")
    assert HOURLY.after(at, seller_id=live) == datetime(2026, 3, 5, 10, tzinfo=UTC)
    assert HOURLY.after(datetime(2026, 3, 5, 10, tzinfo=UTC), seller_id=live) == datetime(2026, 3, 5, 11, tzinfo=UTC)
    often = SpendLooks(live=timedelta(minutes=10))
    assert often.after(at, seller_id=live) == datetime(2026, 3, 5, 9, 40, tzinfo=UTC)
    assert HOURLY.after(at, seller_id=sandbox) == datetime(2026, 3, 6, tzinfo=UTC)
