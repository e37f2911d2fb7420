"""What there is to a customer beside its name: keys, contacts, exemptions, fields of the caller's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from common.errors import InvalidArgument, SaldoError
from subscriptions.domain.contact_person import CONTACTS_MAX, ContactId, ContactPerson, Role
from subscriptions.domain.custom_fields import CUSTOM_FIELDS_MAX, check_custom_fields
from subscriptions.domain.customer import (
    ALIASES_MAX,
    BillingProfile,
    CollectionMethod,
    Contact,
    Customer,
    CustomerId,
    Delivery,
    State,
)
from subscriptions.domain.errors import (
    AliasNotFound,
    ContactNotFound,
    CustomerMerged,
    PayerHasPayer,
    TaxExemptionNotFound,
    TooManyAliases,
    TooManyContacts,
    TooManyTaxExemptions,
)
from subscriptions.domain.payer import check_payer
from subscriptions.domain.tax_exemption import TAX_EXEMPTIONS_MAX, TaxExemption, TaxExemptionId

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
PROFILE = BillingProfile(
    currency="EUR",
    time_zone="UTC",
    language_code="en",
    net_terms_days=0,
    collection_method=CollectionMethod.SEND_INVOICE,
)
EVE = ContactPerson(
    id=ContactId("cont_eve"), display_name="Eve", email="eve@example.com", phone="+49 30 12345", roles=(Role.LEGAL,)
)
RESALE = TaxExemption(
    id=TaxExemptionId("txex_1"),
    country="US",
    region="CA",
    reason_code="RESALE",
    certificate_number="R-1",
    start_date=date(2026, 1, 1),
    end_date=date(2027, 1, 1),
)
ADA = Customer(
    id=CustomerId("cus_ada"),
    external_id="ada",
    contact=Contact(display_name="Ada", email="", address=b""),
    billing_profile=PROFILE,
    revision=1,
    create_time=NOW,
    update_time=NOW,
    aliases=("first", "second"),
    parent_id="cus_parent",
    payer_id="cus_payer",
    contacts=(EVE,),
    tax_exemptions=(RESALE,),
    custom_fields={"tier": "gold"},
)

NAMED_ANEW = Contact(display_name="Ada Lovelace", email="", address=b"")

CHANGES: list[Callable[[Customer], Customer]] = [
    lambda customer: customer.updated(contact=NAMED_ANEW, billing_profile=None, at=LATER),
    lambda customer: customer.under("cus_other", at=LATER),
    lambda customer: customer.paid_by("", at=LATER),
    lambda customer: customer.with_alias("third", at=LATER),
    lambda customer: customer.without_alias("first", at=LATER),
    lambda customer: customer.with_contact(replace(EVE, id=ContactId("cont_2")), at=LATER),
    lambda customer: customer.with_contact_updated(replace(EVE, phone=""), at=LATER),
    lambda customer: customer.without_contact(EVE.id, at=LATER),
    lambda customer: customer.with_tax_exemption(replace(RESALE, id=TaxExemptionId("txex_2")), at=LATER),
    lambda customer: customer.without_tax_exemption(RESALE.id, at=LATER),
    lambda customer: customer.with_custom_fields({}, at=LATER),
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_counted_once(change: Callable[[Customer], Customer]) -> None:
    """Consumers tell the newer of two by the revision."""
    changed = change(ADA)
    assert (changed.revision, changed.update_time, changed.create_time) == (2, LATER, NOW)


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_changes_what_was_merged(change: Callable[[Customer], Customer]) -> None:
    """It is kept for reading; the answer says who it is now."""
    gone = replace(ADA, state=State.MERGED, merged_into_id="cus_eve")
    with pytest.raises(CustomerMerged) as refusal:
        change(gone)
    assert refusal.value.metadata == {"customer": "cus_ada", "merged_into": "cus_eve"}


@pytest.mark.parametrize(
    "change",
    [
        lambda customer: customer.under("cus_parent", at=LATER),
        lambda customer: customer.paid_by("cus_payer", at=LATER),
        lambda customer: customer.with_alias("first", at=LATER),
        lambda customer: customer.with_contact_updated(EVE, at=LATER),
        lambda customer: customer.with_custom_fields({"tier": "gold"}, at=LATER),
    ],
)
def test_saying_what_is_so_already_changes_nothing(change: Callable[[Customer], Customer]) -> None:
    """Nobody should hear of an update that is none."""
    assert change(ADA) is ADA


def test_aliases_are_kept_in_order() -> None:
    """Two that have the same aliases are the same, whatever came first."""
    assert ADA.with_alias("a", at=LATER).aliases == ("a", "first", "second")
    assert ADA.without_alias("first", at=LATER).aliases == ("second",)


def test_contacts_stay_in_their_place() -> None:
    """The first is the one whom people write to."""
    two = ADA.with_contact(replace(EVE, id=ContactId("cont_2")), at=LATER)
    renamed = two.with_contact_updated(replace(EVE, display_name="Eva"), at=LATER)
    assert [each.display_name for each in renamed.contacts] == ["Eva", "Eve"]
    assert [each.id for each in renamed.without_contact(EVE.id, at=LATER).contacts] == ["cont_2"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda customer: customer.without_alias("third", at=LATER), AliasNotFound),
        (lambda customer: customer.without_contact(ContactId("cont_x"), at=LATER), ContactNotFound),
        (
            lambda customer: customer.with_contact_updated(replace(EVE, id=ContactId("cont_x")), at=LATER),
            ContactNotFound,
        ),
        (lambda customer: customer.without_tax_exemption(TaxExemptionId("x"), at=LATER), TaxExemptionNotFound),
    ],
)
def test_what_is_not_there_is_not_taken_away(change: Callable[[Customer], Customer], error: type[SaldoError]) -> None:
    """Whoever believes it to be there must learn that they are wrong."""
    with pytest.raises(error) as refusal:
        change(ADA)
    assert refusal.value.metadata["customer"] == "cus_ada"


def test_of_everything_there_is_a_most() -> None:
    """They are read and written with the customer, every time."""
    plain = replace(ADA, aliases=(), contacts=(), tax_exemptions=())
    for n in range(ALIASES_MAX):
        plain = plain.with_alias(f"{n}", at=LATER)
        plain = plain.with_contact(replace(EVE, id=ContactId(f"cont_{n}")), at=LATER)
        plain = plain.with_tax_exemption(replace(RESALE, id=TaxExemptionId(f"txex_{n}")), at=LATER)
    assert ALIASES_MAX == CONTACTS_MAX == TAX_EXEMPTIONS_MAX == 20
    assert plain.with_alias("0", at=LATER) is plain
    with pytest.raises(TooManyAliases):
        plain.with_alias("20", at=LATER)
    with pytest.raises(TooManyContacts):
        plain.with_contact(EVE, at=LATER)
    with pytest.raises(TooManyTaxExemptions):
        plain.with_tax_exemption(RESALE, at=LATER)


def test_a_customer_is_not_its_own_payer() -> None:
    """There is a way to say that nobody else pays: leaving it empty."""
    with pytest.raises(InvalidArgument) as refusal:
        ADA.paid_by("cus_ada", at=LATER)
    assert refusal.value.field == "payer_id"


def test_who_pays_for_others_pays_for_itself() -> None:
    """An invoice has one addressee, found in one step."""
    free = replace(ADA, payer_id="")
    payer = replace(free, id=CustomerId("cus_payer"))
    check_payer(free, payer, pays_for_others=False)
    with pytest.raises(PayerHasPayer) as refusal:
        check_payer(free, replace(payer, payer_id="cus_third"), pays_for_others=False)
    assert refusal.value.metadata == {"customer": "cus_payer", "payer": "cus_third"}
    with pytest.raises(PayerHasPayer) as refusal:
        check_payer(free, payer, pays_for_others=True)
    assert refusal.value.metadata == {"customer": "cus_ada", "payer": "cus_payer"}
    with pytest.raises(CustomerMerged):
        check_payer(free, replace(payer, state=State.MERGED), pays_for_others=False)


@pytest.mark.parametrize("phone", ["", "112", "+49 30 12345", "(030) 123-45", "+49 (0)30/123.45", "1" * 40])
def test_every_way_of_writing_a_number_is_known(phone: str) -> None:
    """People write them as their country does."""
    assert replace(EVE, phone=phone).phone == phone


@pytest.mark.parametrize("phone", ["+", "call me", "1 ", "+49  -  30", "1" * 41, "12a", "++49", "\u0661\u0662"])
def test_what_nobody_can_dial_is_refused(phone: str) -> None:
    """Found when it is written, not when somebody has to call."""
    with pytest.raises(InvalidArgument) as refusal:
        replace(EVE, phone=phone)
    assert refusal.value.field == "contact.phone"


def test_a_role_is_named_once() -> None:
    """Twice would mean nothing more."""
    assert replace(EVE, roles=(Role.BILLING, Role.LEGAL)).roles == (Role.BILLING, Role.LEGAL)
    with pytest.raises(InvalidArgument) as refusal:
        replace(EVE, roles=(Role.BILLING, Role.BILLING))
    assert refusal.value.field == "contact.roles"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("country", ""),
        ("country", "us"),
        ("country", "USA"),
        ("region", "US-CA"),
        ("region", "ca"),
        ("reason_code", ""),
        ("reason_code", "resale"),
        ("reason_code", "-X"),
        ("reason_code", "X" * 41),
        ("end_date", date(2026, 1, 1)),
        ("end_date", date(2025, 12, 31)),
    ],
)
def test_an_exemption_that_cannot_be_looked_up_is_refused(field: str, value: Any) -> None:  # Any: of that field
    """Tax is computed by country, region and day."""
    with pytest.raises(InvalidArgument) as refusal:
        replace(RESALE, **{field: value})
    assert refusal.value.field == f"tax_exemption.{field}"


def test_an_exemption_may_be_open_on_either_side() -> None:
    """Many have no end, and some have no beginning that anybody remembers."""
    assert replace(RESALE, start_date=None, end_date=None, region="").end_date is None
    assert replace(RESALE, start_date=None).end_date == RESALE.end_date
    assert replace(RESALE, end_date=date(2026, 1, 2)).end_date == date(2026, 1, 2)


def test_custom_fields_are_few_and_well_named() -> None:
    """They are the caller's; their number and their names are bounded."""
    fields = {f"f{n}": "" for n in range(CUSTOM_FIELDS_MAX)}
    check_custom_fields(fields)
    check_custom_fields({"a_1" + "x" * 37: "y"})
    for wrong in (fields | {"one_more": ""}, {"": ""}, {"A": ""}, {"a-b": ""}, {"x" * 41: ""}, {"a\n": ""}):
        with pytest.raises(InvalidArgument) as refusal:
            check_custom_fields(wrong)
        assert refusal.value.field == "custom_fields"


@pytest.mark.parametrize("day", [-1, 32])
def test_a_month_has_no_such_day(day: int) -> None:
    """31 is clamped in shorter months, 32 is in none."""
    with pytest.raises(InvalidArgument) as refusal:
        replace(PROFILE, billing_day=day)
    assert refusal.value.field == "billing_profile.billing_day"


def test_a_profile_says_where_invoices_go() -> None:
    """By mail unless somebody says otherwise; the ends of the range of days are in it."""
    assert (PROFILE.billing_day, PROFILE.delivery, PROFILE.purchase_order) == (0, Delivery.EMAIL, "")
    assert [replace(PROFILE, billing_day=day).billing_day for day in (0, 1, 31)] == [0, 1, 31]
