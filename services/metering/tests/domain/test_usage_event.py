"""What becomes of the usage events of a batch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidArgument
from metering.domain.dimension import NO_DIMENSIONS
from metering.domain.usage_event import Identity, Outcome, Report, UsageEvent, first_of_each, settle

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def good(event_id: str, *, value: int = 1, meter: str = "kwh", time: datetime = NOON) -> Report:
    identity = Identity(source="meter-1", id=event_id)
    event = UsageEvent(
        identity=identity, customer="cus", meter=meter, time=time, value=Decimal(value), dimensions=NO_DIMENSIONS
    )
    return Report(sent_id=event_id, identity=identity, event=event)


def bad(event_id: str) -> Report:
    fault = InvalidArgument("is wrong", field="value")
    return Report(sent_id=event_id, identity=Identity(source="meter-1", id=event_id), fault=fault)


def unidentified() -> Report:
    return Report(sent_id="", identity=None, fault=InvalidArgument("is required", field="id"))


def outcomes(reports: list[Report], *, known: set[Identity] | None = None) -> list[str]:
    """What a store without any other visitor would make of them."""
    had = known or set()
    fresh = {event.identity for event in first_of_each(reports)} - had
    return [result.outcome.name for result in settle(reports, accepted=fresh, known=had)]


def test_an_event_of_an_unknown_meter_is_at_fault() -> None:
    """Counting it under no meter would lose it without a word."""
    judged = good("a", meter="kwhh").judged(meters={"kwh"}, latest=NOON)
    assert judged.event is None
    assert judged.fault is not None
    assert (judged.fault.reason, judged.fault.field) == ("UNKNOWN_METER", "meter")


def test_an_event_may_lie_ahead_up_to_the_limit() -> None:
    """Clocks differ; a year that was mistyped does not."""
    assert good("a").judged(meters={"kwh"}, latest=NOON).event is not None
    judged = good("a").judged(meters={"kwh"}, latest=NOON - SECOND)
    assert judged.fault is not None
    assert (judged.fault.reason, judged.fault.field) == ("EVENT_IN_FUTURE", "time")


def test_what_could_not_be_read_keeps_its_first_fault() -> None:
    """Its sender must repair what is wrong in what was sent, before anything is judged."""
    report = bad("a")
    assert report.judged(meters=set(), latest=NOON) is report


def test_of_two_in_one_batch_the_first_counts() -> None:
    """The second says something else; what was accepted first is never changed."""
    reports = [good("a", value=1), good("b"), good("a", value=5)]
    assert [event.value for event in first_of_each(reports)] == [1, 1]
    assert outcomes(reports) == ["ACCEPTED", "ACCEPTED", "DUPLICATE"]


def test_a_repeat_is_a_duplicate_even_when_it_is_bad() -> None:
    """A sender must not be made to repair what has long been counted."""
    assert outcomes([good("a"), bad("a")]) == ["ACCEPTED", "DUPLICATE"]
    assert outcomes([bad("a")], known={Identity(source="meter-1", id="a")}) == ["DUPLICATE"]


def test_a_bad_one_may_be_repaired_within_the_batch() -> None:
    """Rejected means not stored, so its identity is still free."""
    assert outcomes([bad("a"), good("a")]) == ["REJECTED", "ACCEPTED"]


def test_a_rejected_one_says_why_and_no_other_does() -> None:
    """A reason beside an outcome that is fine would be read as a problem."""
    results = settle(
        [good("a"), bad("b"), unidentified()], accepted={Identity(source="meter-1", id="a")}, known=frozenset()
    )
    assert [result.fault is not None for result in results] == [False, True, True]


identities = st.sampled_from("abc")
reports_of_a_batch = st.lists(st.one_of(identities.map(good), identities.map(bad), st.builds(unidentified)))


@given(reports_of_a_batch, st.sets(identities))
def test_every_report_is_answered_and_every_identity_counts_once(reports: list[Report], had: set[str]) -> None:
    """Whatever is sent in whatever order: accepted once or never, and only a good one of something new."""
    known = {Identity(source="meter-1", id=event_id) for event_id in had}
    answer = outcomes(reports, known=known)
    assert len(answer) == len(reports)
    accepted = [report.sent_id for report, outcome in zip(reports, answer, strict=True) if outcome == "ACCEPTED"]
    assert sorted(accepted) == sorted({report.sent_id for report in reports if report.event} - had)
    rejected = {report.sent_id for report, outcome in zip(reports, answer, strict=True) if outcome == "REJECTED"}
    assert not rejected & had
    assert all(report.fault for report, outcome in zip(reports, answer, strict=True) if outcome == "REJECTED")


def test_there_are_three_outcomes() -> None:
    """Senders decide by them: forget, forget, or repair."""
    assert {outcome.name for outcome in Outcome} == {"ACCEPTED", "DUPLICATE", "REJECTED"}
