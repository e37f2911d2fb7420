"""Knows how metering's data is stored: tables, and functions named by the question they answer."""

from metering.store.alerts import (
    ALERTS_DUE,
    THRESHOLD_LOOKS,
    list_alerts,
    lock_alerts,
    mark_customer,
    mark_grown,
    mark_part,
    remove_alerts,
    save_alerts,
)
from metering.store.corrections import corrections_of, list_corrections, versions_of
from metering.store.customers import has_customers, is_customer, keep_customer, known_names, names_counted
from metering.store.entitlements import entitlement, keep_entitlements, keep_feature
from metering.store.events import list_events
from metering.store.freezes import (
    add_frozen_usage,
    frozen_usage,
    frozen_usages_by_id,
    list_frozen_usages,
    list_overtaken,
)
from metering.store.late_usages import (
    LATE_LOOKS,
    LATE_USAGES_DUE,
    lock_overtaken,
    look,
    save_announced,
)
from metering.store.meters import accepted_days, add_meter, list_meters, meter, meter_by_code, meters_by_code
from metering.store.reservations import (
    BROKEN_OFF,
    EXPIRING,
    add_reservation,
    list_reservations,
    lock_reservations,
    reservation,
    reserved,
    save_reservation,
    take_turn,
)
from metering.store.tables import metadata
from metering.store.thresholds import (
    SWEEPS_DUE,
    active_count,
    active_rhythms,
    add_threshold,
    archive_threshold,
    list_thresholds,
    save_sweep,
    sweep_place,
    threshold,
    thresholds_by_id,
)
from metering.store.totals import totals
from metering.store.unmatched import UNMATCHED_EVENTS, list_unmatched
from metering.store.usages import usages

__all__ = [
    "ALERTS_DUE",
    "BROKEN_OFF",
    "EXPIRING",
    "LATE_LOOKS",
    "LATE_USAGES_DUE",
    "SWEEPS_DUE",
    "THRESHOLD_LOOKS",
    "UNMATCHED_EVENTS",
    "accepted_days",
    "active_count",
    "active_rhythms",
    "add_frozen_usage",
    "add_meter",
    "add_reservation",
    "add_threshold",
    "archive_threshold",
    "corrections_of",
    "entitlement",
    "frozen_usage",
    "frozen_usages_by_id",
    "has_customers",
    "is_customer",
    "keep_customer",
    "keep_entitlements",
    "keep_feature",
    "known_names",
    "list_alerts",
    "list_corrections",
    "list_events",
    "list_frozen_usages",
    "list_meters",
    "list_overtaken",
    "list_reservations",
    "list_thresholds",
    "list_unmatched",
    "lock_alerts",
    "lock_overtaken",
    "lock_reservations",
    "look",
    "mark_customer",
    "mark_grown",
    "mark_part",
    "metadata",
    "meter",
    "meter_by_code",
    "meters_by_code",
    "names_counted",
    "remove_alerts",
    "reservation",
    "reserved",
    "save_alerts",
    "save_announced",
    "save_look",
    "save_reservation",
    "save_sweep",
    "sweep_place",
    "take_turn",
    "threshold",
    "thresholds_by_id",
    "totals",
    "usages",
    "versions_of",
]
