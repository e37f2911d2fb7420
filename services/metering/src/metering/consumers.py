"""Facts from subscriptions: what customers are called, so that usage of nobody's can be reported, and that of somebody
held against thresholds."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Final, TypeAlias

from common.consumer import Handlers
from common.db import Tx
from metering import usecases_thresholds
from metering.convert.unmatched import names_of
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
    return {kind: partial(on_customer, ahead=ahead) for kind in HANDLERS}


async def on_customer(tx: Tx, event: CustomerEvent, *, ahead: timedelta = AHEAD) -> None:
    customer = event.customer
    await usecases_thresholds.hear_of_customer(
        tx, customer.id, names_of(customer), revision=customer.revision, ahead=ahead
    )


HANDLERS: Handlers = {
    subscriptions.CustomerCreated: on_customer,
    subscriptions.CustomerUpdated: on_customer,
    subscriptions.CustomerMerged: on_customer,
    subscriptions.CustomerPersonalDataErased: on_customer,
}
