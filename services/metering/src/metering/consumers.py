"""Facts from others: what customers are called, so that usage of nobody's can be reported and that of somebody held
against thresholds; and what they may use."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Final, TypeAlias

from common.consumer import Handlers
from common.db import Tx
from metering import store, usecases_thresholds
from metering.convert.quotas import feature_from_proto, grants_from_proto
from metering.convert.unmatched import names_of
from saldo.catalog.v1 import events_pb2 as catalog
from saldo.subscriptions.v1 import events_pb2 as subscriptions

CustomerEvent: TypeAlias = (
    subscriptions.CustomerCreated
    | subscriptions.CustomerUpdated
    | subscriptions.CustomerMerged
    | subscriptions.CustomerPersonalDataErased
)


AHEAD: Final = timedelta(hours=24)
"""How far ahead of the seller's time a usage event may lie, unless told otherwise."""


def handlers(*, ahead: timedelta) -> Handlers:
    told = partial(on_customer, ahead=ahead)
    return {kind: told if handler is on_customer else handler for kind, handler in HANDLERS.items()}


async def on_customer(tx: Tx, event: CustomerEvent, *, ahead: timedelta = AHEAD) -> None:
    customer = event.customer
    await usecases_thresholds.hear_of_customer(
        tx,
        customer.id,
        names_of(customer),
        time_zone=customer.billing_profile.time_zone,
        revision=customer.revision,
        ahead=ahead,
    )


async def on_entitlements(tx: Tx, event: subscriptions.CustomerEntitlementsChanged) -> None:
    told = event.customer_entitlements
    await store.keep_entitlements(tx, told.id, grants_from_proto(told), revision=told.revision)


async def on_feature(tx: Tx, event: catalog.FeatureCreated) -> None:
    await store.keep_feature(tx, feature_from_proto(event.feature))


HANDLERS: Handlers = {
    subscriptions.CustomerCreated: on_customer,
    subscriptions.CustomerUpdated: on_customer,
    subscriptions.CustomerMerged: on_customer,
    subscriptions.CustomerPersonalDataErased: on_customer,
    subscriptions.CustomerEntitlementsChanged: on_entitlements,
    catalog.FeatureCreated: on_feature,
}
