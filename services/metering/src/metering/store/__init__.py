"""Knows how metering's data is stored: tables, and functions named by the question they answer."""

from metering.store.events import add_events, known_events, list_events
from metering.store.meters import add_meter, list_meters, meter, meter_by_code, meters_by_code
from metering.store.tables import metadata
from metering.store.usages import usages

__all__ = [
    "add_events",
    "add_meter",
    "known_events",
    "list_events",
    "list_meters",
    "metadata",
    "meter",
    "meter_by_code",
    "meters_by_code",
    "usages",
]
