"""Knows money that came in by another way than through a gateway."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from common.money import Money
from payments.domain.errors import InvoiceInAnotherCurrency, PaymentAlreadyRecorded
from payments.domain.payment import PaymentId


class Means(Enum):
    BANK_TRANSFER = "BANK_TRANSFER"
    CASH = "CASH"
    CHEQUE = "CHEQUE"
    OTHER = "OTHER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """As much of an issued invoice as says what money can be for it."""

    invoice_id: str
    invoice_number: str
    customer_id: str
    remaining: Money
    is_to_be_collected: bool
    """Whether it is open, and collected here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What somebody says has come in."""

    amount: Money
    means: Means
    reference: str
    paid_time: datetime | None
    """None means now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedPayment:
    id: PaymentId
    invoice_id: str
    customer_id: str
    amount: Money
    means: Means
    reference: str
    paid_time: datetime
    create_time: datetime

    @classmethod
    def of(cls, receipt: Receipt, owed: Owed, *, id: PaymentId, at: datetime) -> RecordedPayment:  # noqa: A002
        if receipt.amount.currency != owed.remaining.currency:
            raise InvoiceInAnotherCurrency(
                f"invoice {owed.invoice_id} is in {owed.remaining.currency}", invoice=owed.invoice_id
            )
        return cls(
            id=id,
            invoice_id=owed.invoice_id,
            customer_id=owed.customer_id,
            amount=receipt.amount,
            means=receipt.means,
            reference=receipt.reference,
            paid_time=receipt.paid_time or at,
            create_time=at,
        )

    def check_told_again(self, receipt: Receipt) -> None:
        """Whether what is on record is what is told now."""
        told = (receipt.amount, receipt.means, receipt.paid_time or self.paid_time)
        if told != (self.amount, self.means, self.paid_time):
            raise PaymentAlreadyRecorded(
                f"{self.amount} are on record under {self.reference} for invoice {self.invoice_id}",
                payment=self.id,
                invoice=self.invoice_id,
            )
