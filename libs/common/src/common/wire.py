"""Knows how values travel: Money, Decimal, instants, periods and text ↔ google.type.* and google.protobuf.*.

Out cannot fail. In, everything a caller sends is either the value or an `InvalidArgument` that names the
field.
"""

from __future__ import annotations

import base64
import datetime as dt
import functools
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from google.protobuf import timestamp_pb2
from google.type import date_pb2, decimal_pb2, interval_pb2, money_pb2

from common.errors import InvalidArgument
from common.money import MINOR_MAX, Money, minor_units
from common.period import EARLIEST, LATEST, Period

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper


def money(value: Money) -> money_pb2.Money:
    scale = 10 ** minor_units(value.currency)
    units, rest = divmod(abs(value.minor), scale)
    sign = -1 if value.minor < 0 else 1
    return money_pb2.Money(currency_code=value.currency, units=sign * units, nanos=sign * rest * (_NANOS // scale))


def parse_money(pb: money_pb2.Money, *, field: str) -> Money:
    """An amount that can be paid: finer than the currency's minor unit is refused, not rounded."""
    places = minor_units(pb.currency_code, field=f"{field}.currency_code")
    if not -_NANOS < pb.nanos < _NANOS:
        raise InvalidArgument("must be less than a whole unit", field=f"{field}.nanos")
    if (pb.units > 0 > pb.nanos) or (pb.units < 0 < pb.nanos):
        raise InvalidArgument("must have the sign of units", field=f"{field}.nanos")
    nanos = pb.units * _NANOS + pb.nanos
    per_minor_unit = _NANOS // 10**places
    if nanos % per_minor_unit:
        raise InvalidArgument(f"{pb.currency_code} has {places} decimals", field=f"{field}.nanos")
    minor = nanos // per_minor_unit
    if abs(minor) > MINOR_MAX:
        raise InvalidArgument(f"must have at most {len(str(MINOR_MAX))} digits", field=f"{field}.units")
    return Money(minor, pb.currency_code)


def decimal(value: Decimal) -> decimal_pb2.Decimal:
    """Plain notation without an exponent, without zeros that say nothing."""
    return decimal_pb2.Decimal(value=_plain(value))


def parse_decimal(
    pb: decimal_pb2.Decimal,
    *,
    field: str,
    minimum: Decimal | int | None = None,
    places_max: int = 12,
    digits_max: int = 38,
) -> Decimal:
    """The exact value. An exponent is understood as long as the digits it stands for fit."""
    # Bounded before it is looked at: a short text can mean a number of a million digits.
    if len(pb.value) > _DECIMAL_LENGTH_MAX or not _DECIMAL.fullmatch(pb.value):
        raise InvalidArgument("must be a decimal number, such as 12.50", field=field)
    text = _plain(Decimal(pb.value))
    whole, _, fraction = text.lstrip("-").partition(".")
    if len(fraction) > places_max:
        raise InvalidArgument(f"must have at most {places_max} decimals", field=field)
    if len(whole) + len(fraction) > digits_max:
        raise InvalidArgument(f"must have at most {digits_max} digits", field=field)
    value = Decimal(text)
    if minimum is not None and value < minimum:
        raise InvalidArgument(f"must be at least {minimum}", field=field)
    return value


def timestamp(instant: dt.datetime) -> timestamp_pb2.Timestamp:
    if instant.tzinfo is None:
        raise ValueError("an instant has a time zone")
    since = instant - EARLIEST
    return timestamp_pb2.Timestamp(seconds=since.days * _DAY_SECONDS + since.seconds, nanos=since.microseconds * 1_000)


def parse_timestamp(pb: timestamp_pb2.Timestamp, *, field: str) -> dt.datetime:
    """The instant, to the microsecond that it lies in. Required: the first instant of 1970 means missing."""
    if pb.seconds == 0 and pb.nanos == 0:
        raise InvalidArgument("is required", field=field)
    if not 0 <= pb.nanos < _NANOS:
        raise InvalidArgument("must have nanos from 0 to 999999999", field=field)
    if not 0 <= pb.seconds < _SECONDS_MAX:
        raise InvalidArgument(_RANGE, field=field)
    return EARLIEST + dt.timedelta(seconds=pb.seconds, microseconds=pb.nanos // 1_000)


def interval(period: Period) -> interval_pb2.Interval:
    return interval_pb2.Interval(start_time=timestamp(period.start), end_time=timestamp(period.end))


def parse_interval(pb: interval_pb2.Interval, *, field: str) -> Period:
    first, last = pb.start_time, pb.end_time
    period = _plain_period(first.seconds, first.nanos, last.seconds, last.nanos)
    if period is not None:
        return period
    start = parse_timestamp(pb.start_time, field=f"{field}.start_time")
    end = parse_timestamp(pb.end_time, field=f"{field}.end_time")
    if start >= end:
        raise InvalidArgument("must be after start_time", field=f"{field}.end_time")
    return Period(start, end)


@functools.lru_cache(maxsize=1_000)
def _plain_period(first: int, first_nanos: int, last: int, last_nanos: int) -> Period | None:
    """Of whole seconds, as most are, and the same for thousands; None for what has to be looked at."""
    if first_nanos or last_nanos or not 0 < first < last < _SECONDS_MAX:
        return None
    return Period(EARLIEST + dt.timedelta(seconds=first), EARLIEST + dt.timedelta(seconds=last))


def date(value: dt.date) -> date_pb2.Date:
    return date_pb2.Date(year=value.year, month=value.month, day=value.day)


def parse_date(pb: date_pb2.Date, *, field: str) -> dt.date:
    """A whole civil date; google.type.Date can also say "some day in May", which is refused."""
    if not pb.year and not pb.month and not pb.day:
        raise InvalidArgument("is required", field=field)
    try:
        value = dt.date(pb.year, pb.month, pb.day)
    except (ValueError, OverflowError):
        raise InvalidArgument("must be a date of the calendar", field=field) from None
    if not EARLIEST.year <= value.year < LATEST.year:
        raise InvalidArgument(_RANGE, field=field)
    return value


def text(value: str, *, field: str, max_length: int, required: bool = True, multiline: bool = False) -> str:
    """What somebody wrote, as it is: characters that cannot be seen or stored are refused, not repaired."""
    if required and not value:
        raise InvalidArgument("is required", field=field)
    if len(value) > max_length:
        raise InvalidArgument(f"must have at most {max_length} characters", field=field)
    if (_CONTROL_BUT_NEWLINE if multiline else _CONTROL).search(value):
        raise InvalidArgument("must not contain control characters", field=field)
    if value != value.strip():
        raise InvalidArgument("must not begin or end with a space", field=field)
    return value


_EnumValue = TypeVar("_EnumValue", bound=int)


def enum_name(pb_enum_type: _EnumTypeWrapper[_EnumValue], value: _EnumValue, *, field: str) -> str:
    """The name of the enum's value. Unspecified is refused, and so is what only a newer contract knows."""
    known = pb_enum_type.DESCRIPTOR.values_by_number.get(value)
    if known is None or value == 0:
        names = [each.name for each in pb_enum_type.DESCRIPTOR.values if each.number]
        raise InvalidArgument(f"must be one of {', '.join(names)}", field=field)
    return str(known.name)


class PagedRequest(Protocol):
    """Any List request (AIP-158)."""

    page_size: int
    page_token: str


@dataclass(frozen=True, slots=True)
class Page:
    size: int
    after: tuple[str, ...]
    """The sort keys of the last row that the caller has; empty on the first page."""


def page(request: PagedRequest, *, default: int = 50, maximum: int = 1000, keys: int = 1) -> Page:
    """Which page is asked for, of a list sorted by so many keys. More than the maximum gets the maximum."""
    if request.page_size < 0:
        raise InvalidArgument("must not be negative", field="page_size")
    size = min(request.page_size or default, maximum)
    if not request.page_token:
        return Page(size, ())
    after = parse_page_token(request.page_token)
    if len(after) != keys:
        raise _not_a_token("page_token")
    return Page(size, after)


def encode_page_token(*values: str) -> str:
    """Opaque to the caller, who only hands it back; not a secret, only a place to go on from."""
    joined = _SEPARATOR.join(values)
    if not joined or any(_CONTROL.search(value) for value in values):
        raise ValueError(f"not the keys of a row: {values!r}")
    return base64.urlsafe_b64encode(joined.encode()).decode().rstrip("=")


def parse_page_token(token: str, *, field: str = "page_token") -> tuple[str, ...]:
    if not token or len(token) > _PAGE_TOKEN_LENGTH_MAX:
        raise _not_a_token(field)
    try:
        values = tuple(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode().split(_SEPARATOR))
        genuine = encode_page_token(*values) == token
    except ValueError:
        genuine, values = False, ()
    if not genuine:
        raise _not_a_token(field)
    return values


def _plain(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError(f"{value} is not a number that can be sent")
    written = f"{value:f}"
    if "." in written:
        written = written.rstrip("0").rstrip(".")
    return "0" if not value else written


def _not_a_token(field: str) -> InvalidArgument:
    return InvalidArgument("must be a next_page_token of the same list, unchanged", field=field)


_NANOS: Final = 10**9
_DAY_SECONDS: Final = 86_400
_SECONDS_MAX: Final = (LATEST - EARLIEST) // dt.timedelta(seconds=1)
_RANGE: Final = f"must lie in the years {EARLIEST.year} to {LATEST.year - 1}"
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_DECIMAL_LENGTH_MAX: Final = 100
# PostgreSQL cannot store NUL; lone surrogates are not text at all; the rest of the class breaks logs and
# documents.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CONTROL_BUT_NEWLINE: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SEPARATOR: Final = "\x1f"
_PAGE_TOKEN_LENGTH_MAX: Final = 2_048
