"""What goes out comes back the same; what comes in is either a value or a refusal that names its field."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TypeVar

import pytest
from google.protobuf import timestamp_pb2
from google.type import calendar_period_pb2, date_pb2, decimal_pb2, interval_pb2, money_pb2
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from common import wire
from common.errors import InvalidArgument
from common.money import MINOR_MAX, Money, UnknownCurrency
from common.period import EARLIEST, LATEST, Period

MICROSECOND = timedelta(microseconds=1)
MONEY = st.builds(Money, st.integers(-MINOR_MAX, MINOR_MAX), st.sampled_from(["JPY", "EUR", "BHD", "CLF"]))
INSTANTS = st.datetimes(
    datetime(1970, 1, 1, 0, 0, 1),  # noqa: DTZ001  hypothesis wants them naive
    datetime(2299, 12, 31, 23, 59, 59, 999_999),  # noqa: DTZ001
    timezones=st.just(UTC),
)
DECIMALS = st.decimals(min_value=-(10**25), max_value=10**25, allow_nan=False, places=12)
Value = TypeVar("Value")
INT64 = st.integers(-(2**63), 2**63 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)


def refused(parse: Callable[[], object]) -> str:
    """The field that is named."""
    with pytest.raises(InvalidArgument) as error:
        parse()
    return error.value.field


def value_or_refusal(parse: Callable[[], Value], *, field: str) -> Value | None:
    """None for a refusal that names the field or a part of it; any other error is the test's failure."""
    try:
        return parse()
    except InvalidArgument as error:
        if error.field.partition(".")[0] != field:
            raise
        return None


# Money


@settings(deadline=None)
@given(MONEY)
def test_money_comes_back(money: Money) -> None:
    """Every amount there is, of either sign and any number of decimals."""
    pb = wire.money(money)
    assert wire.parse_money(pb, field="total") == money
    assert abs(pb.nanos) < 10**9
    assert pb.units * pb.nanos >= 0
    assert Decimal(pb.units) + Decimal(pb.nanos).scaleb(-9) == money.amount


@pytest.mark.parametrize(
    "money, units, nanos",
    [
        (Money(6416, "GBP"), 64, 160_000_000),
        (Money(-175, "USD"), -1, -750_000_000),
        (Money(-5, "EUR"), 0, -50_000_000),
        (Money(500, "JPY"), 500, 0),
        (Money(1, "BHD"), 0, 1_000_000),
    ],
)
def test_money_is_as_google_describes_it(money: Money, units: int, nanos: int) -> None:
    """The comment in money.proto says that minus 1.75 is units -1 and nanos -750,000,000."""
    assert wire.money(money) == money_pb2.Money(currency_code=money.currency, units=units, nanos=nanos)


@pytest.mark.parametrize(
    "pb, field",
    [
        (money_pb2.Money(), "total.currency_code"),
        (money_pb2.Money(currency_code="XAU", units=1), "total.currency_code"),
        (money_pb2.Money(currency_code="EUR", units=1, nanos=-10_000_000), "total.nanos"),
        (money_pb2.Money(currency_code="EUR", units=-1, nanos=10_000_000), "total.nanos"),
        (money_pb2.Money(currency_code="EUR", nanos=1_000_000_000), "total.nanos"),
        (money_pb2.Money(currency_code="EUR", nanos=-1_000_000_000), "total.nanos"),
        (money_pb2.Money(currency_code="EUR", nanos=1_000_000), "total.nanos"),  # a tenth of a cent
        (money_pb2.Money(currency_code="JPY", units=1, nanos=500_000_000), "total.nanos"),
        (money_pb2.Money(currency_code="EUR", units=10**16), "total.units"),
        (money_pb2.Money(currency_code="EUR", units=-(2**63)), "total.units"),
    ],
)
def test_money_that_is_none_is_refused(pb: money_pb2.Money, field: str) -> None:
    """Nothing is rounded, guessed or overflows on the way in."""
    assert refused(lambda: wire.parse_money(pb, field="total")) == field


@settings(deadline=None)
@given(st.text(max_size=4) | st.sampled_from(["EUR", "JPY", "BHD"]), INT64, INT32)
def test_any_money_is_a_value_or_a_refusal(code: str, units: int, nanos: int) -> None:
    """Whatever bytes arrive, the caller is told which field; an accepted amount is what was sent."""
    pb = money_pb2.Money(currency_code=code, units=units, nanos=nanos)
    money = value_or_refusal(lambda: wire.parse_money(pb, field="total"), field="total")
    assert money is None or wire.money(money) == pb


def test_an_unknown_currency_has_its_own_reason() -> None:
    """So that a caller can tell it from an amount that is wrong."""
    with pytest.raises(UnknownCurrency) as error:
        wire.parse_money(money_pb2.Money(currency_code="DEM", units=1), field="total")
    assert error.value.reason == "UNKNOWN_CURRENCY"


# Decimal


@settings(deadline=None)
@given(DECIMALS)
@example(Decimal("-0"))
@example(Decimal("1E+20"))
@example(Decimal("1E-12"))
def test_decimals_come_back(value: Decimal) -> None:
    """Equal, and in the one plain spelling that every language reads."""
    pb = wire.decimal(value)
    assert wire.parse_decimal(pb, field="quantity") == value
    assert "e" not in pb.value.lower()
    assert pb.value in ("0", pb.value.rstrip("0").rstrip(".")) or "." not in pb.value
    assert wire.decimal(wire.parse_decimal(pb, field="quantity")) == pb


@pytest.mark.parametrize(
    "value, text",
    [
        ("1.50", "1.5"), ("100", "100"), ("1E+3", "1000"), ("0.00", "0"), ("-0", "0"), ("-0.10", "-0.1"),
        ("0.000000000001", "0.000000000001"), ("1E-12", "0.000000000001"),
    ],
)  # fmt: skip
def test_decimals_have_one_spelling(value: str, text: str) -> None:
    """Equal numbers are equal text, so digests of requests and contracts do not differ."""
    assert wire.decimal(Decimal(value)).value == text


@pytest.mark.parametrize(
    "text, value",
    [
        ("+1.5", "1.5"), (".5", "0.5"), ("5.", "5"), ("2.5e8", "250000000"), ("1E-7", "0.0000001"),
        ("007", "7"), ("1.10000000000000000000", "1.1"), ("-0", "0"), ("0e999", "0"),
    ],
)  # fmt: skip
def test_every_spelling_google_allows_is_understood(text: str, value: str) -> None:
    """Java writes 1E-7 for a small price; that is no reason to refuse it."""
    parsed = wire.parse_decimal(decimal_pb2.Decimal(value=text), field="price")
    assert str(parsed) == value or parsed == Decimal(value)
    assert not parsed.is_signed() or parsed < 0


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ".", "-", "+", "e5", "1e", "1e+", "1.2.3", "1,5", "1_000", " 1", "1 ", "1\n", "0x10", "--1",
        "NaN", "sNaN", "nan", "inf", "Infinity", "-Infinity", "١٢", "１", "½", "1\0",
        "1e999999", "1e-999999", "1e9999999999", "1E+39", "1E-13", "0.0000000000001",
        "9" * 39, "9" * 27 + "." + "1" * 12, "0" * 101, "1" * 10**6,
    ],
)  # fmt: skip
def test_what_is_no_decimal_is_refused(text: str) -> None:
    """Also what is short to write and long to store: a few bytes must not cost a gigabyte."""
    pb = decimal_pb2.Decimal(value=text)
    assert refused(lambda: wire.parse_decimal(pb, field="usage.quantity")) == "usage.quantity"


@pytest.mark.parametrize("text", ["1e1000", "1e-1000", "1e999999", "0e999999999999"])
def test_a_huge_exponent_is_refused_before_it_is_written_out(text: str) -> None:
    """Spelling the number out to count its digits would already be the damage."""
    with pytest.raises(InvalidArgument, match="must be a decimal number"):
        wire.parse_decimal(decimal_pb2.Decimal(value=text), field="quantity")


def test_a_minimum_is_inclusive() -> None:
    """A price of nothing is a price, less than nothing is none."""
    zero, less = decimal_pb2.Decimal(value="0"), decimal_pb2.Decimal(value="-0.000000000001")
    assert wire.parse_decimal(zero, field="price", minimum=0) == 0
    assert refused(lambda: wire.parse_decimal(less, field="price", minimum=0)) == "price"


def test_places_and_digits_are_the_callers() -> None:
    """A percentage has other limits than a quantity; zeros that say nothing do not count."""
    pb = decimal_pb2.Decimal(value="12.3400")
    assert wire.parse_decimal(pb, field="percent", places_max=2, digits_max=4) == Decimal("12.34")
    assert refused(lambda: wire.parse_decimal(pb, field="percent", places_max=1)) == "percent"
    assert refused(lambda: wire.parse_decimal(pb, field="percent", digits_max=3)) == "percent"


@settings(deadline=None)
@given(st.text(alphabet="0123456789+-.eE_ naiINF", max_size=20))
def test_any_text_is_a_decimal_or_a_refusal(text: str) -> None:
    """Nothing else is raised, and what is accepted is the very number that was written."""
    pb = decimal_pb2.Decimal(value=text)
    value = value_or_refusal(lambda: wire.parse_decimal(pb, field="quantity"), field="quantity")
    assert value is None or value == Decimal(text)


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_what_is_no_number_is_not_sent(value: str) -> None:
    """It would be our bug, and it stops here."""
    with pytest.raises(ValueError, match="not a number"):
        wire.decimal(Decimal(value))


# Time


@settings(deadline=None)
@given(INSTANTS)
def test_instants_come_back(instant: datetime) -> None:
    """To the microsecond, which is what PostgreSQL keeps; protobuf's own conversion agrees."""
    pb = wire.timestamp(instant)
    assert wire.parse_timestamp(pb, field="event_time") == instant
    assert pb.ToDatetime(UTC) == instant


def test_an_instant_goes_out_whatever_its_time_zone() -> None:
    """And one without a zone is a mistake of the program."""
    east = datetime(2025, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))
    assert wire.timestamp(east) == wire.timestamp(datetime(2025, 1, 1, tzinfo=UTC))
    with pytest.raises(ValueError, match="has a time zone"):
        wire.timestamp(datetime(2025, 1, 1))  # noqa: DTZ001  the naive datetime is the point


def test_nanoseconds_fall_into_their_microsecond() -> None:
    """Go and Java send nine digits; the last instant of a period must not be rounded into the next one."""
    last = timestamp_pb2.Timestamp(seconds=1_735_689_599, nanos=999_999_999)
    parsed = wire.parse_timestamp(last, field="event_time")
    assert parsed == datetime(2025, 1, 1, tzinfo=UTC) - MICROSECOND


@pytest.mark.parametrize(
    "pb",
    [
        timestamp_pb2.Timestamp(),
        timestamp_pb2.Timestamp(seconds=-1),
        timestamp_pb2.Timestamp(seconds=1, nanos=-1),
        timestamp_pb2.Timestamp(seconds=1, nanos=10**9),
        timestamp_pb2.Timestamp(seconds=int(LATEST.timestamp())),
        timestamp_pb2.Timestamp(seconds=2**63 - 1),
        timestamp_pb2.Timestamp(seconds=-(2**63)),
        timestamp_pb2.Timestamp(seconds=1_735_689_600_000),  # milliseconds by mistake
    ],
)
def test_an_instant_that_is_missing_or_out_of_range_is_refused(pb: timestamp_pb2.Timestamp) -> None:
    """Most such instants are a wrong unit or a forgotten field."""
    assert refused(lambda: wire.parse_timestamp(pb, field="event_time")) == "event_time"


@settings(deadline=None)
@given(INT64, INT32)
def test_any_timestamp_is_an_instant_or_a_refusal(seconds: int, nanos: int) -> None:
    """Nothing overflows."""
    pb = timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos)
    instant = value_or_refusal(lambda: wire.parse_timestamp(pb, field="at"), field="at")
    assert instant is None or EARLIEST <= instant < LATEST


@settings(deadline=None)
@given(INSTANTS, INSTANTS)
def test_periods_come_back(one: datetime, other: datetime) -> None:
    """And backward or empty ones are refused at their end."""
    pb = interval_pb2.Interval(start_time=wire.timestamp(one), end_time=wire.timestamp(other))
    if one < other:
        period = wire.parse_interval(pb, field="period")
        assert period == Period(one, other)
        assert wire.interval(period) == pb
    else:
        assert refused(lambda: wire.parse_interval(pb, field="period")) == "period.end_time"


def test_a_period_needs_both_ends() -> None:
    """google.type.Interval allows open ones; a billing period is not open."""
    some = wire.timestamp(datetime(2025, 1, 1, tzinfo=UTC))
    assert refused(lambda: wire.parse_interval(interval_pb2.Interval(), field="p")) == "p.start_time"
    without_end = interval_pb2.Interval(start_time=some)
    assert refused(lambda: wire.parse_interval(without_end, field="p")) == "p.end_time"


@settings(deadline=None)
@given(st.dates(date(1970, 1, 1), date(2299, 12, 31)))
def test_dates_come_back(value: date) -> None:
    """Civil dates have no instant and no zone to go wrong by."""
    assert wire.parse_date(wire.date(value), field="due_date") == value


@pytest.mark.parametrize(
    "ymd", [(0, 0, 0), (2025, 0, 0), (2025, 5, 0), (0, 5, 1), (2025, 2, 29), (2025, 13, 1), (1969, 12, 31),
            (2300, 1, 1), (2025, -1, 1), (2**31 - 1, 1, 1)]
)  # fmt: skip
def test_what_is_no_whole_date_is_refused(ymd: tuple[int, int, int]) -> None:
    """google.type.Date also means "a year" or "a birthday"; neither can be due."""
    pb = date_pb2.Date(year=ymd[0], month=ymd[1], day=ymd[2])
    assert refused(lambda: wire.parse_date(pb, field="due_date")) == "due_date"


# Text


@pytest.mark.parametrize("value", ["Acme", "Société Générale d’Énergie", "日本電信電話", "a" * 20, "👩‍🚀", "a b"])
def test_text_is_taken_as_it_is(value: str) -> None:
    """Names are not ours to repair."""
    assert wire.text(value, field="name", max_length=20 + len("Société")) == value


@pytest.mark.parametrize(
    "value",
    ["", " ", "\0", "Ac\0me", " Acme", "Acme ", "Ac\nme", "Ac\tme", "Ac\x1bme", "Ac\x7fme", "Ac\x85me",
     "Ac\u2028me", "Ac\ud800me", "\u00a0Acme", "a" * 21],
)  # fmt: skip
def test_text_that_cannot_be_stored_or_seen_is_refused(value: str) -> None:
    """PostgreSQL refuses NUL in the middle of a transaction; the door refuses it with the field's name."""
    assert refused(lambda: wire.text(value, field="customer.name", max_length=20)) == "customer.name"


def test_text_may_be_optional_and_may_have_lines() -> None:
    """An empty memo is none; a memo may have paragraphs."""
    assert wire.text("", field="memo", max_length=20, required=False) == ""
    assert wire.text("one\ntwo", field="memo", max_length=20, multiline=True) == "one\ntwo"
    assert refused(lambda: wire.text("one\rtwo", field="memo", max_length=20, multiline=True)) == "memo"
    assert refused(lambda: wire.text(" ", field="memo", max_length=20, required=False)) == "memo"


# Enums


def test_an_enum_is_its_name() -> None:
    """Domains have enums of their own with the same names; numbers stay on the wire."""
    month = calendar_period_pb2.CalendarPeriod.MONTH
    assert wire.enum_name(calendar_period_pb2.CalendarPeriod, month, field="unit") == "MONTH"


@pytest.mark.parametrize("number", [0, 99, -1])
def test_an_enum_that_says_nothing_is_refused(number: int) -> None:
    """Unspecified means that the caller forgot, an unknown number that the caller is newer than we are."""
    with pytest.raises(InvalidArgument, match="must be one of DAY, WEEK, FORTNIGHT, MONTH") as error:
        wire.enum_name(calendar_period_pb2.CalendarPeriod, number, field="unit")
    assert error.value.field == "unit"


# Pages


@dataclass
class ListRequest:
    page_size: int = 0
    page_token: str = ""


def test_a_page_has_a_size() -> None:
    """AIP-158: nothing means the default, too much means the maximum, negative is a mistake."""
    assert wire.page(ListRequest()) == wire.Page(50, ())
    assert wire.page(ListRequest(page_size=7)).size == 7
    assert wire.page(ListRequest(page_size=10**6)).size == 1000
    assert wire.page(ListRequest(), default=10, maximum=20).size == 10
    assert refused(lambda: wire.page(ListRequest(page_size=-1))) == "page_size"


def test_a_token_leads_to_the_next_page() -> None:
    """It carries the sort keys of the last row, so no row is skipped or repeated when others are added."""
    token = wire.encode_page_token("2025-01-31T00:00:00Z", "inv_01h455vb4pex5vsknk084sn02q")
    page = wire.page(ListRequest(page_token=token), keys=2)
    assert page.after == ("2025-01-31T00:00:00Z", "inv_01h455vb4pex5vsknk084sn02q")
    assert refused(lambda: wire.page(ListRequest(page_token=token))) == "page_token"


KEYS = st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=40)


@settings(deadline=None)
@given(st.lists(KEYS, min_size=1, max_size=4))
def test_tokens_come_back(values: list[str]) -> None:
    """Also keys that are empty, and in any script."""
    assume(any(values) or len(values) > 1)  # a single empty key would be the token of the first page
    token = wire.encode_page_token(*values)
    assert wire.parse_page_token(token) == tuple(values)
    assert token.replace("-", "").replace("_", "").isalnum()


@settings(deadline=None)
@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
@example("!!!!")
@example("A")
@example("AA==")
@example(base64.urlsafe_b64encode(b"a\0b").decode().rstrip("="))
@example("YQ" + "A" * 4_000)
def test_any_token_is_one_of_ours_or_refused(token: str) -> None:
    """A token comes from outside like everything else."""
    values = value_or_refusal(lambda: wire.parse_page_token(token), field="page_token")
    assert values is None or wire.encode_page_token(*values) == token


@pytest.mark.parametrize("values", [(), ("",), ("a\0b",), ("a\x1fb", "c")])
def test_a_token_is_made_of_keys(values: tuple[str, ...]) -> None:
    """What is not a key of a row cannot become a token that would be refused later."""
    with pytest.raises(ValueError, match="not the keys"):
        wire.encode_page_token(*values)
