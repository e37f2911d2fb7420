"""Knows the kinds of failure a caller can be told about; the class name of an error is its reason.

    SaldoError                       metadata: what a program needs to know about it
     ├── InvalidArgument             the request is wrong whatever the state; names the fields
     ├── NotFound                    there is no such thing
     ├── AlreadyExists               there is one already
     ├── FailedPrecondition          not in this state
     ├── PermissionDenied            not this caller
     ├── Unauthenticated             no caller at all
     ├── Aborted                     somebody else was faster: read again, then try again
     ├── ResourceExhausted           a limit is reached; may say when to try again
     └── Unavailable                 not now: try the same again

A rule subclasses one of the kinds and adds nothing but a name and a docstring. Nothing here knows gRPC: one
table at the door turns a kind into a status.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Self


class Kind(Enum):
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    ABORTED = "ABORTED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"


class SaldoError(Exception):
    """The root. Raise a kind or, better, a class named after the rule that was broken."""

    kind: ClassVar[Kind]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not hasattr(cls, "kind"):
            raise TypeError(f"{cls.__name__} must subclass one of the kinds of error, not SaldoError itself")

    def __init__(self, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.message = message
        self.metadata: dict[str, str] = {
            key: value.name if isinstance(value, Enum) else str(value)
            for key, value in metadata.items()
            if value is not None
        }

    @property
    def reason(self) -> str:
        """`InvoiceNotDraft` → `INVOICE_NOT_DRAFT`."""
        return reason_of(type(self))


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field of a request, by its path: `items[2].quantity`."""

    field: str
    description: str


class InvalidArgument(SaldoError):
    kind = Kind.INVALID_ARGUMENT

    def __init__(self, message: str, *, field: str, **metadata: object) -> None:
        super().__init__(message, **metadata)
        self.violations: tuple[Violation, ...] = (Violation(field, message),)

    @classmethod
    def of(cls, violations: Iterable[Violation]) -> Self:
        """All that is wrong at once, so that the caller repairs it at once."""
        found = tuple(violations)
        if not found:
            raise ValueError("an invalid argument violates something")
        error = cls("; ".join(f"{each.field}: {each.description}" for each in found), field=found[0].field)
        error.violations = found
        return error

    @property
    def field(self) -> str:
        return self.violations[0].field


class NotFound(SaldoError):
    kind = Kind.NOT_FOUND


class AlreadyExists(SaldoError):
    kind = Kind.ALREADY_EXISTS


class FailedPrecondition(SaldoError):
    kind = Kind.FAILED_PRECONDITION


class PermissionDenied(SaldoError):
    kind = Kind.PERMISSION_DENIED


class Unauthenticated(SaldoError):
    kind = Kind.UNAUTHENTICATED


class Aborted(SaldoError):
    kind = Kind.ABORTED


class ResourceExhausted(SaldoError):
    """`retry_seconds` is None when waiting does not help: the limit is on how much, not on how fast."""

    kind = Kind.RESOURCE_EXHAUSTED

    def __init__(self, message: str, *, retry_seconds: int | None, **metadata: object) -> None:
        super().__init__(message, **metadata)
        self.retry_seconds = retry_seconds


class Unavailable(SaldoError):
    kind = Kind.UNAVAILABLE

    def __init__(self, message: str, *, retry_seconds: int = 1, **metadata: object) -> None:
        super().__init__(message, **metadata)
        self.retry_seconds = retry_seconds


_WORD = re.compile(r"[A-Z]+(?![a-z])[0-9]*|[A-Z]?[a-z0-9]+")


def reason_of(error: type[SaldoError]) -> str:
    return "_".join(_WORD.findall(error.__name__)).upper()
