"""What a caller learns from an error: its reason, its metadata, the fields that are wrong."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum

import pytest

from common import errors
from common.errors import InvalidArgument, Kind, NotFound, SaldoError, Violation

KINDS = [
    errors.NotFound,
    errors.AlreadyExists,
    errors.FailedPrecondition,
    errors.PermissionDenied,
    errors.Unauthenticated,
    errors.Aborted,
]


class InvoiceNotDraft(errors.FailedPrecondition):
    """A rule of a service."""


class InvalidIBAN(errors.InvalidArgument):
    """A rule about one field."""


class VATNumberUnknown(errors.NotFound):
    """A rule whose name begins with an abbreviation."""


class Sha256Mismatch(errors.Aborted):
    """A rule with a number in its name."""


@pytest.mark.parametrize(
    "rule, reason",
    [
        (InvoiceNotDraft, "INVOICE_NOT_DRAFT"),
        (InvalidIBAN, "INVALID_IBAN"),
        (VATNumberUnknown, "VAT_NUMBER_UNKNOWN"),
        (Sha256Mismatch, "SHA256_MISMATCH"),
        (NotFound, "NOT_FOUND"),
    ],
)
def test_the_reason_is_the_class_name(rule: type[SaldoError], reason: str) -> None:
    """Callers branch on the reason, so nobody may have to write it down twice."""
    assert errors.reason_of(rule) == reason


def test_an_error_knows_its_own_reason_and_kind() -> None:
    """A rule adds nothing but its name: kind and reason follow."""
    error = InvoiceNotDraft("invoice inv_1 is OPEN")
    assert error.reason == "INVOICE_NOT_DRAFT"
    assert error.kind is Kind.FAILED_PRECONDITION
    assert str(error) == error.message == "invoice inv_1 is OPEN"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_called_like_its_class(kind: type[SaldoError]) -> None:
    """The table at the door is by kind; a class with a wrong one would answer with a wrong status."""
    assert kind("message").reason == kind.kind.name


def test_every_kind_has_exactly_one_class() -> None:
    """A kind without a class cannot be raised, one with two is ambiguous."""
    of_kind = [each.kind for each in SaldoError.__subclasses__()]
    assert sorted(kind.name for kind in of_kind) == sorted(kind.name for kind in Kind)


def test_metadata_is_text_and_leaves_out_what_is_not_known() -> None:
    """ErrorInfo carries strings; the text "None" would be a lie."""

    class State(Enum):
        OPEN = 1

    error = InvoiceNotDraft("message", invoice="inv_1", state=State.OPEN, total=Decimal("1.50"), count=3, payer=None)
    assert error.metadata == {"invoice": "inv_1", "state": "OPEN", "total": "1.50", "count": "3"}


def test_an_invalid_argument_names_its_field() -> None:
    """The caller's form marks the field."""
    error = InvalidIBAN("must have 22 characters", field="bank.iban", country="DE")
    assert error.field == "bank.iban"
    assert error.violations == (Violation("bank.iban", "must have 22 characters"),)
    assert error.metadata == {"country": "DE"}


def test_several_violations_travel_together() -> None:
    """Repairing a request one error at a time is tiresome."""
    found = [Violation("a", "is required"), Violation("b", "must be positive")]
    error = InvalidArgument.of(iter(found))
    assert error.violations == tuple(found)
    assert str(error) == "a: is required; b: must be positive"
    assert isinstance(InvalidIBAN.of(found), InvalidIBAN)


def test_no_violation_is_no_error() -> None:
    """An InvalidArgument that says nothing would be our bug, not the caller's."""
    with pytest.raises(ValueError, match="violates something"):
        InvalidArgument.of([])


def test_waiting_is_said_where_it_helps() -> None:
    """A client retries by itself only what says how long to wait."""
    assert errors.Unavailable("starting").retry_seconds == 1
    assert errors.Unavailable("starting", retry_seconds=5).retry_seconds == 5
    assert errors.ResourceExhausted("too many lines", retry_seconds=None, lines=9).retry_seconds is None
    assert errors.ResourceExhausted("too many lines", retry_seconds=None, lines=9).metadata == {"lines": "9"}


def test_a_rule_must_be_of_a_kind() -> None:
    """Without a kind the door would not know what to answer."""
    with pytest.raises(TypeError, match="one of the kinds"):
        type("Loose", (SaldoError,), {})
