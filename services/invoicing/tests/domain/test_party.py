"""By what names usage is a customer's, in which of its periods."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from invoicing.convert.neighbours import customer_from_proto
from invoicing.domain.party import CustomerName
from saldo.subscriptions.v1 import customer_pb2

MERGED = datetime(2026, 1, 15, tzinfo=UTC)
INSTANT = timedelta.resolution


@pytest.mark.parametrize(
    ("start", "keys"),
    [
        (MERGED - INSTANT, ["always", "until"]),
        (MERGED, ["always", "since"]),
        (MERGED + INSTANT, ["always", "since"]),
        (MERGED + 2 * INSTANT, ["always", "since"]),
    ],
)
def test_a_name_counts_by_when_a_period_begins(start: datetime, keys: list[str]) -> None:
    """At the moment of a merge the target's period begins: the name is the target's, and no longer the source's."""
    names = (
        CustomerName(key="always"),
        CustomerName(key="since", since=MERGED),
        CustomerName(key="until", until=MERGED),
        CustomerName(key="was", since=MERGED - 2 * INSTANT, until=MERGED - INSTANT),
    )
    profile = customer_pb2.BillingProfile(currency="EUR", collection_method=customer_pb2.BillingProfile.SEND_INVOICE)
    proto = customer_pb2.Customer(id="cus", billing_profile=profile)
    for name in names:
        told = proto.names.add(key=name.key)
        if name.since is not None:
            told.since_time.FromDatetime(name.since)
        if name.until is not None:
            told.until_time.FromDatetime(name.until)
    customer = customer_from_proto(proto)
    assert customer.names == names
    assert customer.names_from(start) == keys


def test_an_external_id_is_a_name_though_nobody_says_so() -> None:
    """While replicas are replaced one by one, an old one tells of no names; what a new one tells is not told twice."""
    profile = customer_pb2.BillingProfile(currency="EUR", collection_method=customer_pb2.BillingProfile.SEND_INVOICE)
    proto = customer_pb2.Customer(id="cus", external_id="key", billing_profile=profile)
    assert customer_from_proto(proto).names == (CustomerName(key="key"),)
    proto.names.add(key="key").since_time.FromDatetime(MERGED)
    assert customer_from_proto(proto).names == (CustomerName(key="key", since=MERGED),)
