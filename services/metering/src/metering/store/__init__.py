"""Knows how metering's data is stored: tables, and functions named by the question they answer."""

from metering.store.corrections import corrections_of, list_corrections, versions_of
from metering.store.customers import has_customers, keep_names, known_names
from metering.store.events import list_events
from metering.store.freezes import (
    add_frozen_usage,
    frozen_usage,
    frozen_usages_by_id,
    list_frozen_usages,
    list_overtaken,
)
from metering.store.late_usages import (
    LATE_USAGES_DUE,
    LOOKS_DUE,
    hold_looks,
    lock_look,
    lock_overtaken,
    look,
    save_announced,
    save_look,
)
from metering.store.meters import add_meter, list_meters, meter, meter_by_code, meters_by_code
from metering.store.tables import metadata
from metering.store.totals import totals
from metering.store.unmatched import UNMATCHED_EVENTS, list_unmatched
from metering.store.usages import usages

__all__ = [
    "LATE_USAGES_DUE",
    "LOOKS_DUE",
    "UNMATCHED_EVENTS",
    "add_frozen_usage",
    "add_meter",
    "corrections_of",
    "frozen_usage",
    "frozen_usages_by_id",
    "has_customers",
    "hold_looks",
    "keep_names",
    "known_names",
    "list_corrections",
    "list_events",
    "list_frozen_usages",
    "list_meters",
    "list_overtaken",
    "list_unmatched",
    "lock_look",
    "lock_overtaken",
    "look",
    "metadata",
    "meter",
    "meter_by_code",
    "meters_by_code",
    "save_announced",
    "save_look",
    "totals",
    "usages",
    "versions_of",
]
