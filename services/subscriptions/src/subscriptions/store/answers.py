"""Knows how answers to commands are kept that hold personal data: sealed like the data, and gone with it."""

from __future__ import annotations

from typing import Final

from google.protobuf.message import Message

from common.db import Answers, Tx
from saldo.subscriptions.v1 import customer_pb2, seat_service_pb2, tax_id_pb2
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import PersonalDataErased
from subscriptions.store.personal_data import data_key, find_data_key

LABEL: Final = "answer"
SEALED: Final = b"\0"
"""No message begins with it: there is no field 0. Then come the customer's id, a line's end, and what is sealed."""


class SealedAnswers(Answers):
    async def kept(self, tx: Tx, request: Message, response: Message) -> bytes:
        plain = response.SerializeToString()
        customer_id = _whose(request, response)
        if not customer_id:
            return plain
        # Whoever changes a customer has locked it.
        key = await data_key(tx, customer_id)
        return SEALED + customer_id.encode() + b"\n" + key.seal(plain, label=LABEL)

    async def told(self, tx: Tx, kept: bytes) -> bytes:
        if not kept.startswith(SEALED):
            return kept
        name, _, sealed = kept.removeprefix(SEALED).partition(b"\n")
        customer_id = CustomerId(name.decode())
        key = await find_data_key(tx, customer_id)
        if key is None:
            raise PersonalDataErased(f"the personal data of customer {customer_id} was erased", customer=customer_id)
        return key.open(sealed, label=LABEL)


def erased_answer(customer_id: CustomerId) -> bytes:
    """What is kept instead of an answer that was given before such answers were sealed."""
    return SEALED + customer_id.encode() + b"\n"


def _whose(request: Message, response: Message) -> CustomerId | None:
    """The customer whose personal data is in a response."""
    match response:
        case customer_pb2.Customer():
            return None if response.HasField("erase_time") else CustomerId(response.id)
        case tax_id_pb2.TaxId():
            return CustomerId(response.customer_id)
        case seat_service_pb2.InviteSeatResponse():
            # For the mail address, and for the token, of which only a digest is kept elsewhere.
            return CustomerId(response.seat.customer_id)
        case customer_pb2.TaxExemption() if not response.certificate_number:
            return None
        case customer_pb2.ContactPerson() | customer_pb2.TaxExemption():
            # It does not say whose it is; the command did.
            customer_id: str = getattr(request, "customer_id")  # noqa: B009 # of a request that is not known here
            return CustomerId(customer_id)
        case _:
            return None
