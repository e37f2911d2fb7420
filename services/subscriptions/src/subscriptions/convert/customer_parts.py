"""Knows how keys, contacts, tax exemptions and custom fields look on the wire, and what may be said in them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Final

from google.type import date_pb2

from common import wire
from common.errors import InvalidArgument
from saldo.subscriptions.v1 import customer_pb2
from subscriptions.domain.contact_person import PHONE_LENGTH_MAX, ContactId, ContactPerson, Role
from subscriptions.domain.custom_fields import VALUE_LENGTH_MAX, check_custom_fields
from subscriptions.domain.tax_exemption import TaxExemption, TaxExemptionId

KEY_LENGTH_MAX: Final = 128
NAME_LENGTH_MAX: Final = 200
EMAIL_LENGTH_MAX: Final = 254
CERTIFICATE_NUMBER_LENGTH_MAX: Final = 100


def own_key(text: str, *, field: str, required: bool) -> str:
    """A key that a caller gives. Usage names customers by them: one that is another's id would count usage twice."""
    if text.startswith("cus_"):
        raise InvalidArgument("must not look like a customer's id", field=field)
    return key(text, field=field, required=required)


def key(text: str, *, field: str, required: bool = True) -> str:
    return wire.text(text, field=field, max_length=KEY_LENGTH_MAX, required=required)


def contact_person_to_proto(contact: ContactPerson) -> customer_pb2.ContactPerson:
    return customer_pb2.ContactPerson(
        id=contact.id,
        display_name=contact.display_name,
        email=contact.email,
        phone=contact.phone,
        roles=[customer_pb2.ContactPerson.Role.Value(role.name) for role in contact.roles],
    )


def contact_person_from_proto(proto: customer_pb2.ContactPerson, *, contact_id: str) -> ContactPerson:
    return ContactPerson(
        id=ContactId(contact_id),
        display_name=wire.text(proto.display_name, field="contact.display_name", max_length=NAME_LENGTH_MAX),
        email=email(proto.email, field="contact.email"),
        phone=wire.text(proto.phone, field="contact.phone", max_length=PHONE_LENGTH_MAX, required=False),
        roles=tuple(
            Role[wire.enum_name(customer_pb2.ContactPerson.Role, role, field=f"contact.roles[{n}]")]
            for n, role in enumerate(proto.roles)
        ),
    )


def tax_exemption_to_proto(exemption: TaxExemption) -> customer_pb2.TaxExemption:
    return customer_pb2.TaxExemption(
        id=exemption.id,
        country=exemption.country,
        region=exemption.region,
        reason_code=exemption.reason_code,
        certificate_number=exemption.certificate_number,
        start_date=wire.date(exemption.start_date) if exemption.start_date else None,
        end_date=wire.date(exemption.end_date) if exemption.end_date else None,
    )


def tax_exemption_from_proto(proto: customer_pb2.TaxExemption, *, exemption_id: str) -> TaxExemption:
    return TaxExemption(
        id=TaxExemptionId(exemption_id),
        country=proto.country,
        region=proto.region,
        reason_code=proto.reason_code,
        certificate_number=wire.text(
            proto.certificate_number,
            field="tax_exemption.certificate_number",
            max_length=CERTIFICATE_NUMBER_LENGTH_MAX,
            required=False,
        ),
        start_date=_date(proto.start_date, "start_date") if proto.HasField("start_date") else None,
        end_date=_date(proto.end_date, "end_date") if proto.HasField("end_date") else None,
    )


def custom_fields_from_proto(fields: Mapping[str, str]) -> dict[str, str]:
    """The keys first: one that is not well formed is no name for a field in an answer."""
    check_custom_fields(fields)
    return {
        name: wire.text(
            fields[name], field=f"custom_fields[{name}]", max_length=VALUE_LENGTH_MAX, required=False, multiline=True
        )
        for name in sorted(fields)
    }


def email(text: str, *, field: str) -> str:
    found = wire.text(text, field=field, max_length=EMAIL_LENGTH_MAX, required=False)
    local, at, domain = found.rpartition("@")
    if found and not (local and at and domain and " " not in found):
        raise InvalidArgument("must be an email address", field=field)
    return found


def _date(proto: date_pb2.Date, name: str) -> date:
    return wire.parse_date(proto, field=f"tax_exemption.{name}")
