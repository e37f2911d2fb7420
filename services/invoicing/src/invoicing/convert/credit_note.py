"""Knows how credit notes look on the wire, and how what is to be credited is read from it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from google.type import money_pb2

from common import ids, wire
from common.errors import InvalidArgument
from common.money import Money
from invoicing.convert.invoice import EVENT_BYTES_MAX, party_to_proto, tax_line_to_proto
from invoicing.domain.credit_note import CreditLine, CreditNote, CreditNoteId, Preference, Reason, Settlement
from invoicing.domain.crediting import Part
from saldo.invoicing.v1 import credit_note_pb2 as pb
from saldo.invoicing.v1 import credit_notes_service_pb2 as service_pb
from saldo.invoicing.v1 import invoice_pb2

LINES_MAX: Final = 10_000
MEMO_LENGTH_MAX: Final = 1_000
REFERENCE_LENGTH_MAX: Final = 200


def parse_credit_note_id(text: str) -> CreditNoteId:
    return CreditNoteId(ids.check(text, "cn"))


def parse_credit_reason(value: pb.CreditNote.Reason.ValueType) -> Reason:
    return Reason[wire.enum_name(pb.CreditNote.Reason, value, field="reason")]


def parse_memo(text: str, *, required: bool) -> str:
    """Whoever gives no other reason has to say it."""
    return wire.text(text, field="memo", max_length=MEMO_LENGTH_MAX, required=required, multiline=True)


def parse_reference(text: str) -> str:
    return wire.text(text, field="reference", max_length=REFERENCE_LENGTH_MAX)


def parse_preference(value: service_pb.CreateCreditNoteRequest.Preference.ValueType) -> Preference:
    if not value:
        return Preference.DEBT_FIRST
    return Preference[wire.enum_name(service_pb.CreateCreditNoteRequest.Preference, value, field="preference")]


def parse_parts(told: Sequence[service_pb.LineItemToCredit]) -> list[Part]:
    if len(told) > LINES_MAX:
        raise InvalidArgument(f"must be at most {LINES_MAX}", field="line_items")
    parts = [_part(each, field=f"line_items[{n}]") for n, each in enumerate(told)]
    seen: set[str] = set()
    for n, part in enumerate(parts):
        if part.line_id in seen:
            raise InvalidArgument("must be named once", field=f"line_items[{n}].line_item_id")
        seen.add(part.line_id)
    return parts


def parse_settlement(told: pb.CreditNoteSettlement) -> Settlement:
    """What is left out is nothing, but something has to be there."""
    named = {
        "debt_amount": told.debt_amount if told.HasField("debt_amount") else None,
        "customer_credit_amount": told.customer_credit_amount if told.HasField("customer_credit_amount") else None,
        "refund_amount": told.refund_amount if told.HasField("refund_amount") else None,
    }
    amounts = {
        name: _not_negative(money, field=f"settlement.{name}") for name, money in named.items() if money is not None
    }
    if not amounts:
        raise InvalidArgument("must say what becomes of the credit note", field="settlement")
    nothing = Money.zero(next(iter(amounts.values())).currency)
    return Settlement(
        debt=amounts.get("debt_amount", nothing),
        customer_credit=amounts.get("customer_credit_amount", nothing),
        refund=amounts.get("refund_amount", nothing),
    )


def parse_positive(told: money_pb2.Money, *, field: str) -> Money:
    amount = wire.parse_money(told, field=field)
    if amount.minor <= 0:
        raise InvalidArgument("must be more than nothing", field=field)
    return amount


def credit_note_to_proto(note: CreditNote) -> pb.CreditNote:
    proto = _without_personal_data(note)
    proto.memo = note.memo
    proto.seller.CopyFrom(party_to_proto(note.seller))
    proto.customer.CopyFrom(party_to_proto(note.customer))
    return proto


def credit_note_to_preview(note: CreditNote) -> pb.CreditNote:
    proto = credit_note_to_proto(note)
    proto.refundable_amount.CopyFrom(wire.money(note.taken.refundable))
    return proto


def credit_note_for_event(note: CreditNote) -> pb.CreditNote:
    """Without the parties and what somebody wrote. What is too long for a message tells less of each line."""
    proto = _without_personal_data(note)
    if proto.ByteSize() > EVENT_BYTES_MAX:
        short = [pb.CreditNoteLine(line_item_id=line.line_item_id, amount=line.amount) for line in proto.lines]
        del proto.lines[:]
        proto.lines.extend(short)
    return proto


def _without_personal_data(note: CreditNote) -> pb.CreditNote:
    taken = note.taken
    return pb.CreditNote(
        id=note.id,
        number=note.number,
        kind=pb.CreditNote.Kind.Value(note.kind.name),
        invoice_id=note.invoice_id,
        invoice_number=note.invoice_number,
        customer_id=note.customer_id,
        reason=pb.CreditNote.Reason.Value(note.reason.name),
        lines=[_line_to_proto(line) for line in note.lines],
        subtotal=wire.money(taken.subtotal),
        discount_total=wire.money(taken.discount_total),
        taxes=[tax_line_to_proto(tax) for tax in taken.taxes],
        tax_total=wire.money(taken.tax_total),
        total_excluding_tax=wire.money(taken.total_excluding_tax),
        rounding=wire.money(taken.rounding),
        total=wire.money(taken.total),
        settlement=pb.CreditNoteSettlement(
            debt_amount=wire.money(note.settlement.debt),
            customer_credit_amount=wire.money(note.settlement.customer_credit),
            refund_amount=wire.money(note.settlement.refund),
        ),
        refunded_amount=wire.money(note.refunded),
        refund_pending_amount=wire.money(note.refund_pending),
        issue_date=wire.date(note.issue_date),
        issue_time=wire.timestamp(note.issue_time),
        time_zone=note.time_zone,
        revision=note.revision,
        create_time=wire.timestamp(note.issue_time),
    )


def _line_to_proto(line: CreditLine) -> pb.CreditNoteLine:
    return pb.CreditNoteLine(
        line_item_id=line.line_id,
        description=line.description,
        quantity=None if line.quantity is None else wire.decimal(line.quantity),
        unit_label=line.unit_label,
        amount=wire.money(line.amount),
        discount_amount=wire.money(line.discount),
        net_amount=wire.money(line.net_amount),
    )


def _part(told: service_pb.LineItemToCredit, *, field: str) -> Part:
    line_id = ids.check(told.line_item_id, "line", field=f"{field}.line_item_id")
    match told.WhichOneof("part"):
        case "amount":
            amount = wire.parse_money(told.amount, field=f"{field}.amount")
            if not amount.minor:
                raise InvalidArgument("must not be nothing", field=f"{field}.amount")
            return Part(line_id=line_id, amount=amount)
        case "quantity":
            quantity = wire.parse_decimal(told.quantity, field=f"{field}.quantity")
            if quantity <= 0:
                raise InvalidArgument("must be more than nothing", field=f"{field}.quantity")
            return Part(line_id=line_id, quantity=quantity)
        case "share":
            return Part(line_id=line_id, share=_share(told.share, field=f"{field}.share"))
        case _:
            return Part(line_id=line_id)


def _share(told: invoice_pb2.Fraction, *, field: str) -> Fraction:
    if told.denominator < 1:
        raise InvalidArgument("must be 1 or more", field=f"{field}.denominator")
    if not 0 < told.numerator <= told.denominator:
        raise InvalidArgument("must be from 1 to the denominator", field=f"{field}.numerator")
    return Fraction(told.numerator, told.denominator)


def _not_negative(told: money_pb2.Money, *, field: str) -> Money:
    amount = wire.parse_money(told, field=field)
    if amount.minor < 0:
        raise InvalidArgument("must not be negative", field=field)
    return amount
