"""Who is billed, and what can be said about how."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from common.errors import InvalidArgument
from subscriptions.domain.customer import BillingProfile, CollectionMethod, Contact, Customer, CustomerId

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
PROFILE = BillingProfile(
    currency="EUR",
    time_zone="Europe/Berlin",
    language_code="de",
    net_terms_days=14,
    collection_method=CollectionMethod.SEND_INVOICE,
)
CONTACT = Contact(display_name="Ada", email="ada@example.com", address=b"")
ADA = Customer(
    id=CustomerId("cus_ada"),
    external_id="ada",
    contact=CONTACT,
    billing_profile=PROFILE,
    revision=1,
    create_time=NOW,
    update_time=NOW,
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("currency", "XXX"),
        ("currency", "eur"),
        ("currency", ""),
        ("time_zone", "Europe/Atlantis"),
        ("time_zone", "europe/berlin"),
        ("time_zone", ""),
        ("language_code", "d"),
        ("language_code", "de_DE"),
        ("language_code", "de-"),
        ("language_code", "de-x"),
        ("language_code", "de DE"),
        ("language_code", "dé"),
        ("language_code", "en" + "-abcdefgh" * 4),
        ("net_terms_days", -1),
        ("net_terms_days", 366),
    ],
)
def test_a_profile_that_nobody_can_be_billed_by_is_refused(field: str, value: Any) -> None:  # Any: of that field
    """Found when it is written, not on the night of the bill run."""
    with pytest.raises(InvalidArgument) as refusal:
        replace(PROFILE, **{field: value})
    assert refusal.value.field == f"billing_profile.{field}"


@pytest.mark.parametrize(
    "tag", ["en", "pt-BR", "zh-Hant-TW", "es-419", "sl-rozaj-biske", "de-CH-1996", "de-DE-u-co-phonebk", "en-x-saldo"]
)
def test_every_shape_of_a_language_tag_is_known(tag: str) -> None:
    """Documents are written in the customer's language, and there are more shapes than xx-YY."""
    assert replace(PROFILE, language_code=tag).language_code == tag


@pytest.mark.parametrize("days", [0, 365])
def test_net_terms_may_be_none_or_a_year(days: int) -> None:
    """The ends of the range are in it."""
    assert replace(PROFILE, net_terms_days=days).net_terms_days == days


def test_a_part_that_is_left_out_stays() -> None:
    """Changing the address must not reset the currency."""
    moved = ADA.updated(contact=replace(CONTACT, email="ada@example.org"), billing_profile=None, at=LATER)
    assert moved.billing_profile == PROFILE
    assert (moved.contact.email, moved.revision, moved.update_time) == ("ada@example.org", 2, LATER)
    rebilled = moved.updated(contact=None, billing_profile=replace(PROFILE, currency="USD"), at=LATER)
    assert (rebilled.contact, rebilled.billing_profile.currency, rebilled.revision) == (moved.contact, "USD", 3)


def test_saying_nothing_new_changes_nothing() -> None:
    """Nobody should hear of an update that is none."""
    assert ADA.updated(contact=CONTACT, billing_profile=PROFILE, at=LATER) is ADA
    assert ADA.updated(contact=None, billing_profile=None, at=LATER) is ADA
