"""Knows how usage thresholds look on the wire, and how usage stands to them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

from common import ids, wire
from common.errors import InvalidArgument
from common.period import Period, Unit, check_time_zone
from metering.convert.filters import filter_to_proto
from metering.domain.meter import UTC
from metering.domain.threshold import Rhythm, ThresholdId, UsageAlert, UsageThreshold
from saldo.metering.v1 import usage_threshold_pb2
from saldo.metering.v1 import usage_threshold_service_pb2 as pb

PREFIX: Final = "uthr"
VALUE_DIGITS_MAX: Final = 38
VALUE_END: Final = Decimal(10) ** 26


def threshold_id(text: str, *, field: str = "id") -> ThresholdId:
    return ThresholdId(ids.check(text, PREFIX, field=field))


def threshold_to_proto(threshold: UsageThreshold) -> usage_threshold_pb2.UsageThreshold:
    rhythm, interval, warning_value = threshold.rhythm, threshold.interval, threshold.warning_value
    return usage_threshold_pb2.UsageThreshold(
        id=threshold.id,
        meter=threshold.meter,
        customer_id=threshold.customer_id,
        calendar=_calendar_to_proto(rhythm) if rhythm else None,
        interval=wire.interval(interval) if interval else None,
        value=wire.decimal(threshold.value),
        warning_value=wire.decimal(warning_value) if warning_value is not None else None,
        filter=filter_to_proto(threshold.filter) if threshold.filter else None,
        state=usage_threshold_pb2.UsageThreshold.State.Value(threshold.state.name),
        revision=threshold.revision,
        create_time=wire.timestamp(threshold.create_time),
        archive_time=wire.timestamp(threshold.archive_time) if threshold.archive_time else None,
    )


def alert_to_proto(alert: UsageAlert) -> usage_threshold_pb2.UsageAlert:
    states = usage_threshold_pb2.UsageAlert.State
    return usage_threshold_pb2.UsageAlert(
        usage_threshold_id=alert.threshold_id,
        meter=alert.meter,
        customer_id=alert.customer_id,
        period=wire.interval(alert.period),
        state=states.Value(alert.state.name),
        previous_state=states.Value(alert.previous_state.name),
        quantity=wire.decimal(alert.quantity),
        through_position=alert.through_position,
        change_time=wire.timestamp(alert.change_time) if alert.change_time else None,
        period_ended=alert.period_ended,
        meter_version=alert.meter_version,
    )


def period_from_proto(request: pb.CreateUsageThresholdRequest) -> tuple[Rhythm | None, Period | None]:
    """Either a rhythm or one period."""
    match request.WhichOneof("period"):
        case "calendar":
            told = request.calendar
            length = wire.enum_name(usage_threshold_pb2.CalendarPeriod.Length, told.length, field="calendar.length")
            zone = check_time_zone(told.time_zone or UTC, field="calendar.time_zone")
            return Rhythm(unit=Unit[length], time_zone=zone), None
        case "interval":
            return None, wire.parse_interval(request.interval, field="interval")
        case _:
            raise InvalidArgument("is required, or an interval", field="calendar")


def value_from_proto(request: pb.CreateUsageThresholdRequest) -> Decimal:
    return _bounded(wire.parse_decimal(request.value, field="value", digits_max=VALUE_DIGITS_MAX), field="value")


def warning_value_from_proto(request: pb.CreateUsageThresholdRequest) -> Decimal | None:
    if not request.HasField("warning_value"):
        return None
    value = wire.parse_decimal(request.warning_value, field="warning_value", digits_max=VALUE_DIGITS_MAX)
    return _bounded(value, field="warning_value")


def alert_token(alert: UsageAlert) -> str:
    """Where a list of alerts goes on."""
    return wire.encode_page_token(alert.threshold_id, alert.customer_id, alert.period.start.isoformat())


def alert_place(page: wire.Page) -> Sequence[str]:
    if page.after:
        try:
            is_instant = datetime.fromisoformat(page.after[2]).tzinfo is not None
        except ValueError:
            is_instant = False
        if not is_instant:
            raise InvalidArgument("must be a next_page_token of the same list, unchanged", field="page_token")
    return page.after


def _calendar_to_proto(rhythm: Rhythm) -> usage_threshold_pb2.CalendarPeriod:
    return usage_threshold_pb2.CalendarPeriod(
        length=usage_threshold_pb2.CalendarPeriod.Length.Value(rhythm.unit.name), time_zone=rhythm.time_zone
    )


def _bounded(value: Decimal, *, field: str) -> Decimal:
    # Compared, and not calculated with: what is calculated is rounded to fewer digits than this has.
    if not -VALUE_END < value < VALUE_END:
        raise InvalidArgument("must have at most 26 digits before the point", field=field)
    return value
