"""Asks who pays for whom; never inside a transaction."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from common.rpc import Desk
from saldo.subscriptions.v1 import customers_service_pb2 as customers
from saldo.subscriptions.v1.customers_service_pb2_grpc import CustomersServiceStub

CUSTOMERS_PER_CALL: Final = 1_000
PAIRS_PER_PAGE: Final = 1_000


class Paid(NamedTuple):
    """That somebody pays for a customer, or for a subscription of it."""

    customer_id: str
    payer_id: str


async def pairs_of(
    desk: Desk, *, payer_ids: Collection[str] = (), customer_ids: Collection[str] = (), limit: int
) -> set[Paid]:
    """All pairs in which one of these pays, or is paid for: `limit` of them, and one more if there are more."""
    found: set[Paid] = set()
    for request in _requests(sorted(payer_ids), sorted(customer_ids)):
        while len(found) <= limit:
            request.page_size = min(PAIRS_PER_PAGE, limit + 1 - len(found))
            answer = await desk.ask(CustomersServiceStub).ListPaidCustomers(request)
            found |= {Paid(each.customer_id, each.payer_id) for each in answer.paid_customers}
            request.page_token = answer.next_page_token
            if not answer.next_page_token:
                break
    return found


def _requests(payer_ids: list[str], customer_ids: list[str]) -> list[customers.ListPaidCustomersRequest]:
    return [
        customers.ListPaidCustomersRequest(
            payer_ids=payer_ids[first : first + CUSTOMERS_PER_CALL],
            customer_ids=customer_ids[first : first + CUSTOMERS_PER_CALL],
        )
        for first in range(0, max(len(payer_ids), len(customer_ids)), CUSTOMERS_PER_CALL)
    ]
