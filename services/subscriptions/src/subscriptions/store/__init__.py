"""Knows how customers and subscriptions are stored: tables, and functions named by the question they answer."""

from subscriptions.store.customers import (
    add_customer,
    customer,
    customer_by_external_id,
    customers_by_id,
    list_customers,
    save_customer,
)
from subscriptions.store.subscriptions import (
    CANCELLATIONS_DUE,
    PERIOD_ENDS_DUE,
    STARTS_DUE,
    TRIAL_ENDS_DUE,
    add_subscription,
    find_subscription,
    is_followed_up,
    list_subscriptions,
    record_campaign,
    save_last_pause,
    save_subscription,
    subscription,
    subscriptions_not_over,
)
from subscriptions.store.tables import metadata

__all__ = [
    "CANCELLATIONS_DUE",
    "PERIOD_ENDS_DUE",
    "STARTS_DUE",
    "TRIAL_ENDS_DUE",
    "add_customer",
    "add_subscription",
    "customer",
    "customer_by_external_id",
    "customers_by_id",
    "find_subscription",
    "is_followed_up",
    "list_customers",
    "list_subscriptions",
    "metadata",
    "record_campaign",
    "save_customer",
    "save_last_pause",
    "save_subscription",
    "subscription",
    "subscriptions_not_over",
]
