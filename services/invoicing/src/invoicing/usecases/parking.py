"""Sets customers aside who cannot be billed as things stand, with the reason: nobody else waits for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from common.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SaldoError,
)
from common.rpc import Desk, NeighbourRefused
from invoicing import store
from invoicing.domain.bill_run import Parked
from invoicing.domain.invoice import InvoiceId

MESSAGE_LENGTH_MAX: Final = 1_000


def is_lasting(error: SaldoError) -> bool:
    """Whether the data says it, so that the same again would be the same again; not who asked, nor the moment."""
    if isinstance(error, NeighbourRefused):
        return error.is_lasting
    if isinstance(error, ResourceExhausted):
        return error.retry_seconds is None
    return isinstance(error, AlreadyExists | FailedPrecondition | InvalidArgument | NotFound)


async def bill_or_park(
    desk: Desk,
    customer_id: str,
    *,
    with_others: Callable[[], Awaitable[None]] | None,
    alone: Callable[[], Awaitable[None]],
) -> None:
    """Once more, with those others who can be looked at, then alone. Who is marked meanwhile stays due: what was
    contradictory may have been put right.
    """
    if with_others is not None:
        try:
            return await with_others()
        except SaldoError as error:
            if not is_lasting(error):
                raise
    async with desk.transaction() as tx:
        billing = await store.find_billing(tx, customer_id)
    assert billing is not None, "who is due is known"
    try:
        await alone()
    except SaldoError as error:
        if not is_lasting(error):
            raise
        async with desk.transaction() as tx:
            await store.park_customer(tx, _parked(customer_id, error, at=tx.now), revision=billing.revision)


async def park_draft(desk: Desk, invoice_id: InvoiceId, error: SaldoError) -> None:
    """It is tried again when its customer is parked no more, which is as soon as anything is known of the customer; or
    when somebody saves or finalizes it. The customer is looked at as it was going to be.
    """
    async with desk.transaction() as tx:
        # The customer's billing before its invoice, as a bill run has it.
        for draft in await store.drafts(tx, [invoice_id]):
            await store.find_billings(tx, [draft.invoice.customer_id], lock=True)
        for draft in await store.drafts(tx, [invoice_id], lock=True):
            await store.park_draft(tx, invoice_id, _parked(draft.invoice.customer_id, error, at=tx.now))


def _parked(customer_id: str, error: SaldoError, *, at: datetime) -> Parked:
    """With the reason of whoever refused, where that was a neighbour."""
    refused = error.metadata.get("neighbour_reason") if isinstance(error, NeighbourRefused) else None
    message = error.message[:MESSAGE_LENGTH_MAX].replace("\x00", "�")
    return Parked(customer_id=customer_id, reason=refused or error.reason, message=message, park_time=at)
