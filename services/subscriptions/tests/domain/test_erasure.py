"""What is left of a customer whose personal data was erased, and what can still be done with it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from subscriptions.domain.contact_person import ContactId, ContactPerson
from subscriptions.domain.customer import BillingProfile, CollectionMethod, Contact, Customer, CustomerId, State
from subscriptions.domain.errors import PersonalDataErased
from subscriptions.domain.tax_exemption import TaxExemption, TaxExemptionId

START = datetime(2026, 1, 1, tzinfo=UTC)
LATER = START + timedelta(days=1)
NOBODY = Contact(display_name="", email="", address=b"")
PERSON = ContactPerson(id=ContactId("cont_1"), display_name="Eve", email="", phone="", roles=())
RESALE = TaxExemption(
    id=TaxExemptionId("txex_1"),
    country="US",
    region="CA",
    reason_code="RESALE",
    certificate_number="R-1",
    start_date=None,
    end_date=None,
)
ADA = Customer(
    id=CustomerId("cus_1"),
    external_id="ada-1",
    contact=Contact(display_name="Ada", email="ada@example.com", address=b"x"),
    billing_profile=BillingProfile(
        currency="EUR",
        time_zone="UTC",
        language_code="en",
        net_terms_days=14,
        collection_method=CollectionMethod.SEND_INVOICE,
    ),
    revision=3,
    create_time=START,
    update_time=START,
    aliases=("ada",),
    contacts=(PERSON,),
    custom_fields={"a": "b"},
    tax_exemptions=(RESALE,),
)


def erased(customer: Customer = ADA) -> Customer:
    return customer.erased(remaining=NOBODY, at=LATER)


def test_what_billing_needs_is_left() -> None:
    """Ids, the profile and the names that usage comes in under; nothing of the person."""
    left = erased()
    assert (left.contact, left.contacts, left.custom_fields) == (NOBODY, (), {})
    assert (left.erase_time, left.update_time, left.revision) == (LATER, LATER, 4)
    kept = replace(ADA, contact=NOBODY, contacts=(), custom_fields={}, erase_time=LATER, revision=4, update_time=LATER)
    assert left == replace(kept, tax_exemptions=(replace(RESALE, certificate_number=""),))


def test_it_happens_once() -> None:
    """The instant of it does not move."""
    with pytest.raises(PersonalDataErased):
        erased(erased())


def test_one_that_was_merged_is_erased_like_any_other() -> None:
    """Nothing else about it changes any more, but that is the right of a person."""
    merged = replace(ADA, state=State.MERGED, merged_into_id="cus_2")
    assert erased(merged).erase_time == LATER


def test_nothing_personal_comes_back() -> None:
    """Each way in is closed; what says nothing about a person stays open, and what says nothing new is no change."""
    left = erased()
    with pytest.raises(PersonalDataErased):
        left.updated(contact=ADA.contact, billing_profile=None, at=LATER)
    with pytest.raises(PersonalDataErased):
        left.with_contact(PERSON, at=LATER)
    with pytest.raises(PersonalDataErased):
        left.with_custom_fields({"a": "b"}, at=LATER)
    assert left.with_custom_fields({}, at=LATER) is left
    with pytest.raises(PersonalDataErased):
        left.with_tax_exemption(RESALE, at=LATER)
    fact = RESALE.without_certificate
    assert left.with_tax_exemption(fact, at=LATER).tax_exemptions == (fact, fact)
    assert left.without_tax_exemption(RESALE.id, at=LATER).tax_exemptions == ()
    profile = replace(ADA.billing_profile, net_terms_days=30)
    assert left.updated(contact=None, billing_profile=profile, at=LATER).billing_profile == profile
    assert left.with_alias("another", at=LATER).aliases == ("ada", "another")
