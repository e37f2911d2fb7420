"""Invariants of what is announced: every change told, every event numbered, and taken in once by all who listen."""

from __future__ import annotations

import importlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from tools.check.records import SERVICES, Records, Row
from tools.check.report import Invariant, Tally

KEPT: Final = timedelta(days=29)
"""Events that were published a month ago are pruned; a database that has such old ones may have lost older ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """How often a row must have been told of by an event, or by several that share one count."""

    table: str
    events: tuple[str, ...]
    times: Callable[[Row], int]


def once(_row: Row) -> int:
    return 1


def every_revision(row: Row) -> int:
    revision: int = row["revision"]
    return revision


EXPECTED: Final[Mapping[str, tuple[Announced, ...]]] = {
    "catalog": (
        Announced(table="sellers", events=("SellerCreated", "SellerUpdated"), times=every_revision),
        Announced(table="products", events=("ProductCreated", "ProductUpdated"), times=every_revision),
        Announced(table="tax_codes", events=("TaxCodeCreated",), times=once),
        Announced(table="features", events=("FeatureCreated",), times=once),
        Announced(table="plans", events=("PlanCreated",), times=once),
        Announced(table="plans", events=("PlanPublished",), times=lambda row: int(row["publish_time"] is not None)),
        Announced(table="plans", events=("PlanArchived",), times=lambda row: int(row["state"] == "ARCHIVED")),
        Announced(table="prices", events=("PriceNegotiated",), times=lambda row: int(row["customer_id"] != "")),
        Announced(table="coupons", events=("CouponCreated", "CouponArchived"), times=every_revision),
        Announced(table="redemptions", events=("RedemptionCreated",), times=once),
        Announced(
            table="redemptions",
            events=("RedemptionReleased",),
            times=lambda row: int(row["release_time"] is not None),
        ),
    ),
    "subscriptions": (
        Announced(
            table="customers",
            events=("CustomerCreated", "CustomerUpdated", "CustomerMerged", "CustomerPersonalDataErased"),
            times=every_revision,
        ),
    ),
    "metering": (
        Announced(table="meters", events=("MeterCreated", "MeterUpdated"), times=every_revision),
        Announced(
            table="usage_thresholds", events=("UsageThresholdCreated", "UsageThresholdArchived"), times=every_revision
        ),
        Announced(
            table="unmatched_names", events=("UnmatchedNameDetected", "UnmatchedNameMatched"), times=every_revision
        ),
        Announced(
            table="quota_reservations",
            events=("QuotaReservationExpired",),
            times=lambda row: int(row["state"] == "EXPIRED"),
        ),
    ),
    "invoicing": (
        Announced(table="invoices", events=("InvoiceFinalized",), times=lambda row: int(row["state"] != "DRAFT")),
        Announced(table="invoices", events=("InvoicePaid",), times=lambda row: int(row["paid_time"] is not None)),
        Announced(table="invoices", events=("InvoiceVoided",), times=lambda row: int(row["void_time"] is not None)),
        Announced(
            table="invoices",
            events=("InvoiceMarkedUncollectible",),
            times=lambda row: int(row["uncollectible_time"] is not None),
        ),
        Announced(table="invoices", events=("InvoiceOverdue",), times=lambda row: int(row["overdue_time"] is not None)),
        Announced(table="credit_grants", events=("CreditGrantCreated",), times=once),
        Announced(table="credit_grants", events=("CreditGrantExpired",), times=lambda row: int(row["expire_count"])),
        Announced(
            table="credit_grants",
            events=("CreditGrantRevoked",),
            times=lambda row: int(row["revoked_time"] is not None),
        ),
        Announced(table="credit_holdings", events=("CreditBalanceLow",), times=lambda row: int(row["low_count"])),
        Announced(
            table="credit_reservations",
            events=("CreditReservationExpired",),
            times=lambda row: int(row["state"] == "EXPIRED"),
        ),
    ),
    "payments": (
        Announced(table="payment_methods", events=("PaymentMethodAttached",), times=once),
        Announced(
            table="payments",
            events=("PaymentSucceeded",),
            times=lambda row: int(row["state"] == "SUCCEEDED") + int(row["told_again_count"]),
        ),
        Announced(
            table="recorded_payments",
            events=("PaymentSucceeded",),
            times=lambda row: 1 + int(row["told_again_count"]),
        ),
        Announced(table="payments", events=("PaymentCancelled",), times=lambda row: int(row["state"] == "CANCELLED")),
    ),
    "dunning": (
        Announced(table="campaigns", events=("DunningCampaignStarted",), times=once),
        Announced(
            table="campaigns", events=("DunningCampaignRecovered",), times=lambda row: int(row["state"] == "RECOVERED")
        ),
        Announced(
            table="campaigns", events=("DunningCampaignExhausted",), times=lambda row: int(row["state"] == "EXHAUSTED")
        ),
        Announced(
            table="campaigns", events=("DunningCampaignCancelled",), times=lambda row: int(row["state"] == "CANCELLED")
        ),
    ),
}


def every_change_announced(records: Records, tally: Tally) -> None:
    """Each revision or state of a resource was told by exactly as many events as there should be."""
    for service, expectations in EXPECTED.items():
        if not records.has(service):
            continue
        told = Counter(
            (row["seller_id"], row["aggregate_id"], row["subject"].rpartition(".")[2])
            for row in records.rows(service, "outbox")
        )
        unknown = pruned(records, service)
        for each in expectations:
            for row in records.rows(service, each.table):
                row_id = row["seller_id"] if each.table == "sellers" else row["id"]
                if (row["seller_id"], row_id) in unknown:
                    continue
                times = sum(told[row["seller_id"], row_id, event] for event in each.events)
                due = each.times(row)
                tally.check(times == due, f"{row_id}: {times} of {'/'.join(each.events)}, not {due}")
    _failures_announced(records, tally)


def _failures_announced(records: Records, tally: Tally) -> None:
    """Every attempt that failed was told of; a payment can also fail without one, for want of a payment method."""
    if not records.has("payments"):
        return
    told = Counter(
        row["aggregate_id"]
        for row in records.rows("payments", "outbox")
        # One that failed when nothing was wanted any more has cancelled its payment.
        if row["subject"].endswith((".PaymentFailed", ".PaymentCancelled"))
    )
    failed = Counter(
        row["payment_id"] for row in records.rows("payments", "payment_attempts") if row["state"] == "FAILED"
    )
    unknown = pruned(records, "payments")
    for row in records.rows("payments", "payments"):
        if (row["seller_id"], row["id"]) in unknown:
            continue
        due = max(failed[row["id"]], int(row["state"] == "FAILED"))
        tally.check(told[row["id"]] >= due, f"{row['id']}: {told[row['id']]} of PaymentFailed, not {due}")


def sequences_gapless(records: Records, tally: Tally) -> None:
    """The events of an aggregate are numbered without a gap, in the order of their positions."""
    for service in SERVICES:
        if not records.has(service):
            continue
        aggregates: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
        for row in records.rows(service, "outbox"):
            aggregates[row["seller_id"], row["aggregate_id"]].append((row["position"], row["sequence"]))
        unknown = pruned(records, service)
        for row in records.rows(service, "aggregate_sequences"):
            key = (row["seller_id"], row["aggregate_id"])
            numbers = [sequence for _, sequence in sorted(aggregates.pop(key, []))]
            first = row["last"] - len(numbers) + 1
            holds = numbers == list(range(first, row["last"] + 1)) and (first == 1 or key in unknown)
            tally.check(holds, f"{row['aggregate_id']} in {service} has {_shown(numbers)} of {row['last']}")
        for _, aggregate_id in aggregates:
            tally.check(False, f"{aggregate_id} in {service} has events and no count of them")


def consumed_once(records: Records, tally: Tally) -> None:
    """Every published event is in the inbox of every service that has a handler for it; nobody took in any other."""
    published = {
        row["id"]: row["subject"]
        for service in SERVICES
        if records.has(service)
        for row in records.rows(service, "outbox")
    }
    present = {service for service in SERVICES if records.has(service)}
    pruning = any(_is_pruning(records, service) for service in present)
    for service in present:
        heard = subjects_heard(service)
        taken = Counter(row["event_id"] for row in records.rows(service, "inbox"))
        for event_id, subject in published.items():
            if subject in heard:
                tally.check(taken.pop(event_id, 0) == 1, f"{event_id} {subject} was not taken in by {service}")
        for event_id in () if pruning else taken:
            subject = next(row["subject"] for row in records.rows(service, "inbox") if row["event_id"] == event_id)
            known = subject.split(".")[1] not in present
            tally.check(known, f"{event_id} {subject} was taken in by {service} and never announced to it")


def subjects_heard(service: str) -> frozenset[str]:
    """What a service has a handler for, as the service itself declares it."""
    try:
        handlers = importlib.import_module(f"{service}.consumers").HANDLERS
    except ModuleNotFoundError:
        return frozenset()
    return frozenset(kind.DESCRIPTOR.full_name for kind in handlers)


def pruned(records: Records, service: str) -> set[tuple[str, str]]:
    """Aggregates whose oldest events may have been pruned."""
    if not _is_pruning(records, service):
        return set()
    held = Counter((row["seller_id"], row["aggregate_id"]) for row in records.rows(service, "outbox"))
    return {
        (row["seller_id"], row["aggregate_id"])
        for row in records.rows(service, "aggregate_sequences")
        if held[row["seller_id"], row["aggregate_id"]] < row["last"]
    }


def _is_pruning(records: Records, service: str) -> bool:
    oldest = min((row["create_time"] for row in records.rows(service, "outbox")), default=records.at)
    return bool(records.at - oldest > KEPT)


def _shown(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", …" if len(numbers) > 8 else "") if numbers else "none"


INVARIANTS: Final = (
    Invariant(name="every change of a resource is announced", needs=(), verify=every_change_announced),
    Invariant(name="events of a resource are numbered without a gap", needs=(), verify=sequences_gapless),
    Invariant(name="every event is taken in once by all who listen", needs=(), verify=consumed_once),
)
