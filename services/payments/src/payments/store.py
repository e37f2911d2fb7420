"""Knows how payments are stored: its tables, and the questions asked of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Row,
    Select,
    Table,
    Text,
    UniqueConstraint,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP, insert

from common import telemetry
from common.db import Tx
from common.money import Money
from payments.domain.errors import PaymentNotFound
from payments.domain.outside import Means, RecordedPayment
from payments.domain.payment import AttemptId, AttemptState, Payment, PaymentAttempt, PaymentId, State
from payments.domain.payment_method import PaymentMethod, PaymentMethodId

metadata = MetaData()
Instant = TIMESTAMP(timezone=True)

payment_methods = Table(
    "payment_methods",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("gateway", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("is_default", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Index("payment_methods_customer", "seller_id", "customer_id", "id"),
    Index("payment_methods_default", "seller_id", "customer_id", unique=True, postgresql_where=text("is_default")),
)

payments = Table(
    "payments",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("invoice_id", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("failure_code", Text, nullable=False),
    Column("retryable", Boolean, nullable=False),
    Column("collect_time", Instant),
    Column("invoice_settled", Boolean, nullable=False),
    Column("traceparent", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
    Column("invoice_number", Text, nullable=False, server_default=""),
    Column("told_again_count", Integer, nullable=False, server_default="0"),
    UniqueConstraint("seller_id", "invoice_id", name="payments_invoice"),
    Index("payments_customer", "seller_id", "customer_id", "id"),
    Index("payments_collect_time", "collect_time", postgresql_where=text("collect_time IS NOT NULL")),
    Index(
        "payments_seller_collect_time",
        "seller_id",
        "collect_time",
        postgresql_where=text("collect_time IS NOT NULL"),
    ),
)

payment_attempts = Table(
    "payment_attempts",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("payment_id", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("payment_method_id", Text, nullable=False),
    Column("gateway", Text, nullable=False),
    Column("gateway_reference", Text, nullable=False),
    Column("failure_code", Text, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("record_time", Instant, nullable=False),
    Column("settle_time", Instant),
    Column("ask_time", Instant),
    Column("asked_count", Integer, nullable=False),
    Column("deferred", Boolean, nullable=False),
    Column("traceparent", Text, nullable=False),
    Column("amount_minor", BigInteger),
    UniqueConstraint("seller_id", "payment_id", "number", name="payment_attempts_number"),
    ForeignKeyConstraint(
        ["seller_id", "payment_id"], ["payments.seller_id", "payments.id"], name="payment_attempts_payment"
    ),
    ForeignKeyConstraint(
        ["seller_id", "payment_method_id"],
        ["payment_methods.seller_id", "payment_methods.id"],
        name="payment_attempts_payment_method",
    ),
    Index(
        "payment_attempts_one_open",
        "seller_id",
        "payment_id",
        unique=True,
        postgresql_where=text("state IN ('PENDING', 'UNKNOWN')"),
    ),
    Index(
        "payment_attempts_one_succeeded",
        "seller_id",
        "payment_id",
        unique=True,
        postgresql_where=text("state = 'SUCCEEDED'"),
    ),
    Index("payment_attempts_ask_time", "ask_time", postgresql_where=text("ask_time IS NOT NULL")),
    Index("payment_attempts_seller_ask_time", "seller_id", "ask_time", postgresql_where=text("ask_time IS NOT NULL")),
)

recorded_payments = Table(
    "recorded_payments",
    metadata,
    Column("seller_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("invoice_id", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("means", Text, nullable=False),
    Column("reference", Text, nullable=False),
    Column("paid_time", Instant, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("told_again_count", Integer, nullable=False, server_default="0"),
    # What makes it impossible to record the same money twice.
    UniqueConstraint("seller_id", "invoice_id", "reference", name="recorded_payments_reference"),
    Index("recorded_payments_customer", "seller_id", "customer_id", "id"),
    comment="money that came in by another way than through a gateway",
)

PAYMENTS_DUE: Final[Select[Any]] = select(  # Any: columns by convention, see common.jobs
    payments.c.seller_id, payments.c.id, payments.c.collect_time.label("due_time"), payments.c.traceparent
).where(payments.c.collect_time.is_not(None))

ATTEMPTS_DUE: Final[Select[Any]] = select(  # Any: as above
    payment_attempts.c.seller_id,
    payment_attempts.c.id,
    payment_attempts.c.ask_time.label("due_time"),
    payment_attempts.c.traceparent,
).where(payment_attempts.c.ask_time.is_not(None))

ATTEMPTS_UNKNOWN: Final = (
    select(func.count()).select_from(payment_attempts).where(payment_attempts.c.state == AttemptState.UNKNOWN.name)
)
"""How many attempts there are, of all sellers, of which nobody can say whether they captured."""


async def lock_customer(tx: Tx, customer_id: str) -> None:
    """One at a time for a customer of whom there may be no row yet."""
    key = func.hashtextextended(f"{tx.seller_id} {customer_id}", 0)
    await tx.execute(select(func.pg_advisory_xact_lock(key)))


async def add_method(tx: Tx, method: PaymentMethod) -> None:
    await tx.execute(insert(payment_methods).values(_method_row(tx, method)))


async def save_method(tx: Tx, method: PaymentMethod) -> None:
    await tx.execute(
        update(payment_methods)
        .where(payment_methods.c.seller_id == tx.seller_id, payment_methods.c.id == method.id)
        .values(_method_row(tx, method))
    )


async def method(tx: Tx, method_id: PaymentMethodId) -> PaymentMethod:
    """One that is known to exist: an attempt was made with it."""
    query = select(payment_methods).where(
        payment_methods.c.seller_id == tx.seller_id, payment_methods.c.id == method_id
    )
    return _method((await tx.execute(query)).one())


async def default_method(tx: Tx, customer_id: str) -> PaymentMethod | None:
    """What the customer's invoices are collected from."""
    query = select(payment_methods).where(
        payment_methods.c.seller_id == tx.seller_id,
        payment_methods.c.customer_id == customer_id,
        payment_methods.c.is_default,
    )
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else _method(row)


async def list_methods(tx: Tx, *, customer_id: str, after: str, limit: int) -> list[PaymentMethod]:
    query = (
        select(payment_methods)
        .where(
            payment_methods.c.seller_id == tx.seller_id,
            payment_methods.c.customer_id == customer_id,
            payment_methods.c.id > after,
        )
        .order_by(payment_methods.c.id)
        .limit(limit)
    )
    return [_method(row) for row in await tx.execute(query)]


async def add_payment(tx: Tx, payment: Payment) -> bool:
    """Whether it went in; False when there is a payment for the invoice already."""
    values = {**_payment_row(tx, payment), "traceparent": telemetry.traceparent()}
    result = await tx.execute(insert(payments).values(values).on_conflict_do_nothing())
    return bool(result.rowcount)


async def save_payment(tx: Tx, payment: Payment) -> None:
    """The payment and its last attempt: the ones before have an outcome, which does not change."""
    values = _payment_row(tx, payment)
    if payment.collect_time is not None:
        values["traceparent"] = telemetry.traceparent()
    await tx.execute(
        update(payments).where(payments.c.seller_id == tx.seller_id, payments.c.id == payment.id).values(values)
    )
    if payment.attempts:
        changed = _attempt_row(tx, payment)
        await tx.execute(
            insert(payment_attempts)
            .values({**changed, "traceparent": telemetry.traceparent()})
            .on_conflict_do_update(index_elements=["seller_id", "id"], set_=changed)
        )


async def payment(tx: Tx, payment_id: PaymentId, *, lock: bool = False) -> Payment:
    found = await _one(tx, select(payments).where(payments.c.id == payment_id), lock=lock)
    if found is None:
        raise PaymentNotFound(f"there is no payment {payment_id}", payment=payment_id)
    return found


async def find_payment_for(tx: Tx, invoice_id: str, *, lock: bool = False) -> Payment | None:
    """The one that collects an invoice, if there is one."""
    return await _one(tx, select(payments).where(payments.c.invoice_id == invoice_id), lock=lock)


async def payment_for(tx: Tx, invoice_id: str, *, lock: bool = False) -> Payment:
    found = await find_payment_for(tx, invoice_id, lock=lock)
    if found is None:
        raise PaymentNotFound(f"there is no payment for {invoice_id}", invoice=invoice_id)
    return found


async def payment_of(tx: Tx, attempt_id: AttemptId, *, lock: bool = False) -> Payment:
    payment_id = (
        select(payment_attempts.c.payment_id)
        .where(payment_attempts.c.seller_id == tx.seller_id, payment_attempts.c.id == attempt_id)
        .scalar_subquery()
    )
    found = await _one(tx, select(payments).where(payments.c.id == payment_id), lock=lock)
    if found is None:
        raise PaymentNotFound(f"there is no attempt {attempt_id}", attempt=attempt_id)
    return found


async def list_payments(tx: Tx, *, customer_id: str, after: str, limit: int) -> list[Payment]:
    query = select(payments).where(payments.c.seller_id == tx.seller_id, payments.c.id > after)
    if customer_id:
        query = query.where(payments.c.customer_id == customer_id)
    return await _payments(tx, (await tx.execute(query.order_by(payments.c.id).limit(limit))).all())


async def add_recorded_payment(tx: Tx, recorded: RecordedPayment) -> bool:
    """Whether it went in; False when something for the invoice is on record under its reference."""
    values = {
        "seller_id": tx.seller_id,
        "id": recorded.id,
        "invoice_id": recorded.invoice_id,
        "customer_id": recorded.customer_id,
        "amount_minor": recorded.amount.minor,
        "currency": recorded.amount.currency,
        "means": recorded.means.name,
        "reference": recorded.reference,
        "paid_time": recorded.paid_time,
        "create_time": recorded.create_time,
    }
    result = await tx.execute(insert(recorded_payments).values(values).on_conflict_do_nothing())
    return bool(result.rowcount)


async def recorded_payment(tx: Tx, payment_id: PaymentId) -> RecordedPayment | None:
    query = select(recorded_payments).where(
        recorded_payments.c.seller_id == tx.seller_id, recorded_payments.c.id == payment_id
    )
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else _recorded(row)


async def recorded_under(tx: Tx, invoice_id: str, reference: str) -> RecordedPayment:
    """What is known to be on record for an invoice under a reference."""
    query = select(recorded_payments).where(
        recorded_payments.c.seller_id == tx.seller_id,
        recorded_payments.c.invoice_id == invoice_id,
        recorded_payments.c.reference == reference,
    )
    return _recorded((await tx.execute(query)).one())


async def recorded_again(tx: Tx, invoice_id: str) -> list[RecordedPayment]:
    """All that is on record for an invoice; that it is told again is counted."""
    told = (
        update(recorded_payments)
        .where(recorded_payments.c.seller_id == tx.seller_id, recorded_payments.c.invoice_id == invoice_id)
        .values(told_again_count=recorded_payments.c.told_again_count + 1)
        .returning(recorded_payments)
    )
    return sorted((_recorded(row) for row in await tx.execute(told)), key=lambda each: each.id)


async def recorded_for(tx: Tx, invoice_id: str, currency: str) -> Money:
    """What came in otherwise for an invoice."""
    query = select(func.coalesce(func.sum(recorded_payments.c.amount_minor), 0)).where(
        recorded_payments.c.seller_id == tx.seller_id, recorded_payments.c.invoice_id == invoice_id
    )
    return Money(int((await tx.execute(query)).scalar_one()), currency)


async def list_recorded_payments(tx: Tx, *, customer_id: str, after: str, limit: int) -> list[RecordedPayment]:
    query = select(recorded_payments).where(
        recorded_payments.c.seller_id == tx.seller_id, recorded_payments.c.id > after
    )
    if customer_id:
        query = query.where(recorded_payments.c.customer_id == customer_id)
    return [_recorded(row) for row in await tx.execute(query.order_by(recorded_payments.c.id).limit(limit))]


def _recorded(row: Row[Any]) -> RecordedPayment:  # Any: a row of `recorded_payments`
    return RecordedPayment(
        id=PaymentId(row.id),
        invoice_id=row.invoice_id,
        customer_id=row.customer_id,
        amount=Money(row.amount_minor, row.currency),
        means=Means[row.means],
        reference=row.reference,
        paid_time=row.paid_time,
        create_time=row.create_time,
    )


async def _one(tx: Tx, query: Select[Any], *, lock: bool) -> Payment | None:  # Any: a query of `payments`
    query = query.where(payments.c.seller_id == tx.seller_id)
    rows = (await tx.execute(query.with_for_update() if lock else query)).all()
    found = await _payments(tx, rows)
    return found[0] if found else None


async def _payments(tx: Tx, rows: Iterable[Row[Any]]) -> list[Payment]:  # Any: rows of `payments`
    rows = list(rows)
    amounts = {row.id: Money(row.amount_minor, row.currency) for row in rows}
    query = (
        select(payment_attempts)
        .where(
            payment_attempts.c.seller_id == tx.seller_id, payment_attempts.c.payment_id.in_([row.id for row in rows])
        )
        .order_by(payment_attempts.c.payment_id, payment_attempts.c.number)
    )
    of_payment: dict[str, list[PaymentAttempt]] = defaultdict(list)
    for row in await tx.execute(query):
        of_payment[row.payment_id].append(_attempt(row, amounts[row.payment_id]))
    return [
        Payment(
            id=PaymentId(row.id),
            invoice_id=row.invoice_id,
            customer_id=row.customer_id,
            amount=amounts[row.id],
            state=State[row.state],
            attempts=tuple(of_payment[row.id]),
            failure_code=row.failure_code,
            retryable=row.retryable,
            collect_time=row.collect_time,
            invoice_settled=row.invoice_settled,
            revision=row.revision,
            create_time=row.create_time,
            update_time=row.update_time,
            invoice_number=row.invoice_number,
            told_again_count=row.told_again_count,
        )
        for row in rows
    ]


def _payment_row(tx: Tx, payment: Payment) -> dict[str, object]:
    return {
        "seller_id": tx.seller_id,
        "id": payment.id,
        "invoice_id": payment.invoice_id,
        "customer_id": payment.customer_id,
        "amount_minor": payment.amount.minor,
        "currency": payment.amount.currency,
        "state": payment.state.name,
        "failure_code": payment.failure_code,
        "retryable": payment.retryable,
        "collect_time": payment.collect_time,
        "invoice_settled": payment.invoice_settled,
        "revision": payment.revision,
        "create_time": payment.create_time,
        "update_time": payment.update_time,
        "invoice_number": payment.invoice_number,
        "told_again_count": payment.told_again_count,
    }


def _attempt_row(tx: Tx, payment: Payment) -> dict[str, object]:
    attempt = payment.attempts[-1]
    return {
        "seller_id": tx.seller_id,
        "id": attempt.id,
        "payment_id": payment.id,
        "number": len(payment.attempts),
        "state": attempt.state.name,
        "payment_method_id": attempt.payment_method_id,
        "gateway": attempt.gateway,
        "gateway_reference": attempt.gateway_reference,
        "failure_code": attempt.failure_code,
        "create_time": attempt.create_time,
        "record_time": attempt.record_time,
        "settle_time": attempt.settle_time,
        "ask_time": attempt.ask_time,
        "asked_count": attempt.asked_count,
        "deferred": attempt.deferred,
        "amount_minor": attempt.amount.minor,
    }


def _attempt(row: Row[Any], of_payment: Money) -> PaymentAttempt:  # Any: a row of `payment_attempts`
    return PaymentAttempt(
        id=AttemptId(row.id),
        amount=of_payment if row.amount_minor is None else Money(row.amount_minor, of_payment.currency),
        state=AttemptState[row.state],
        payment_method_id=PaymentMethodId(row.payment_method_id),
        gateway=row.gateway,
        gateway_reference=row.gateway_reference,
        failure_code=row.failure_code,
        create_time=row.create_time,
        record_time=row.record_time,
        settle_time=row.settle_time,
        ask_time=row.ask_time,
        asked_count=row.asked_count,
        deferred=row.deferred,
    )


def _method_row(tx: Tx, method: PaymentMethod) -> dict[str, object]:
    return {
        "seller_id": tx.seller_id,
        "id": method.id,
        "customer_id": method.customer_id,
        "gateway": method.gateway,
        "token": method.token,
        "display_name": method.display_name,
        "is_default": method.default,
        "revision": method.revision,
        "create_time": method.create_time,
    }


def _method(row: Row[Any]) -> PaymentMethod:  # Any: a row of `payment_methods`
    return PaymentMethod(
        id=PaymentMethodId(row.id),
        customer_id=row.customer_id,
        gateway=row.gateway,
        token=row.token,
        display_name=row.display_name,
        default=row.is_default,
        revision=row.revision,
        create_time=row.create_time,
    )
