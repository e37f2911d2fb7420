"""Facts from subscriptions: what customers are called, so that usage of nobody's can be reported."""

from __future__ import annotations

from typing import TypeAlias

from common.consumer import Handlers
from common.db import Tx
from metering import store
from metering.convert.unmatched import names_of
from saldo.subscriptions.v1 import events_pb2 as subscriptions

CustomerEvent: TypeAlias = (
    subscriptions.CustomerCreated
    | subscriptions.CustomerUpdated
    | subscriptions.CustomerMerged
    | subscriptions.CustomerPersonalDataErased
)


async def on_customer(tx: Tx, event: CustomerEvent) -> None:
    customer = event.customer
    await store.keep_names(tx, customer.id, names_of(customer), revision=customer.revision)


HANDLERS: Handlers = {
    subscriptions.CustomerCreated: on_customer,
    subscriptions.CustomerUpdated: on_customer,
    subscriptions.CustomerMerged: on_customer,
    subscriptions.CustomerPersonalDataErased: on_customer,
}
