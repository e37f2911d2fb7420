"""Knows a payment and its attempts: one amount for one invoice, at most one attempt of unknown outcome, never a second
capture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, NewType

from common.money import Money
from payments.domain.errors import AttemptSettled, AttemptUnsettled, PaymentNotFailed, PaymentNotRetryable
from payments.domain.payment_method import PaymentMethod, PaymentMethodId

PaymentId = NewType("PaymentId", str)
AttemptId = NewType("AttemptId", str)

NO_PAYMENT_METHOD: Final = "NO_PAYMENT_METHOD"
LOST: Final = "lost"
"""The failure code of an attempt that the gateway has never heard of, and by now never will."""

ATTEMPTS_MAX: Final = 100

PENDING_WAIT: Final = timedelta(minutes=1)
"""How long an attempt may go unanswered before it is asked after: its process may have died."""

DEFERRED_WAITS: Final = (PENDING_WAIT, timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1))
"""How long to wait before calling again a gateway that turned the call away, the first time and so on; then hourly."""

UNKNOWN_WAITS: Final = (
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(days=1),
)
"""How long to wait before asking the gateway again, the first time, the second time and so on; then daily."""


class State(Enum):
    PROCESSING = "PROCESSING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class AttemptState(Enum):
    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"


class Missing(Enum):
    """What to do about an attempt that the gateway does not know."""

    WAIT = "WAIT"
    CALL_AGAIN = "CALL_AGAIN"
    GIVE_UP = "GIVE_UP"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentAttempt:
    """One try. `ask_time` is when the gateway is asked about it, and absent once the outcome is known.

    `amount` is what was to be collected when it was begun. Less may be owed by now, but under its key the gateway is
    never told of another. `record_time` is wall time also for a sandbox: a gateway elsewhere knows no other. `deferred`
    says that the gateway has declined to look at it, so that it may be called again at once.
    """

    id: AttemptId
    amount: Money
    state: AttemptState
    payment_method_id: PaymentMethodId
    gateway: str
    gateway_reference: str
    failure_code: str
    create_time: datetime
    record_time: datetime
    settle_time: datetime | None
    ask_time: datetime | None
    asked_count: int
    deferred: bool

    @property
    def is_open(self) -> bool:
        return self.state in (AttemptState.PENDING, AttemptState.UNKNOWN)

    def missing(self, *, age: timedelta, processing_max: timedelta, key_lifetime: timedelta, wanted: bool) -> Missing:
        """The gateway was asked and does not know the attempt, which was recorded `age` ago.

        It is called again only under the same key, and only while the gateway remembers keys; when that is over and the
        last such call can no longer be under way, nothing was captured and nothing will be. What is not wanted any more
        is not called again.
        """
        if age >= key_lifetime + processing_max:
            return Missing.GIVE_UP
        if age >= key_lifetime or not wanted:
            return Missing.WAIT
        if self.deferred or age >= processing_max:
            return Missing.CALL_AGAIN
        return Missing.WAIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """`amount` is what is to be collected, and what was collected in the end. `collect_time` is when an attempt is
    wanted; absent while one is under way and when none is wanted.
    """

    id: PaymentId
    invoice_id: str
    customer_id: str
    amount: Money
    state: State
    attempts: tuple[PaymentAttempt, ...]
    failure_code: str
    retryable: bool
    collect_time: datetime | None
    invoice_settled: bool
    revision: int
    create_time: datetime
    update_time: datetime
    invoice_number: str = ""
    """By which the invoice was announced first; empty where it was heard of by none."""
    told_again_count: int = 0
    """How often its success was told to somebody who had forgotten it."""

    @property
    def is_due(self) -> bool:
        return self.collect_time is not None

    def attempt(self, attempt_id: AttemptId) -> PaymentAttempt:
        return next(attempt for attempt in self.attempts if attempt.id == attempt_id)

    def begin_attempt(
        self, attempt_id: AttemptId, method: PaymentMethod, *, at: datetime, recorded: datetime
    ) -> Payment:
        """Record what is about to be tried, before anybody is called."""
        if self.state is not State.PROCESSING or any(attempt.is_open for attempt in self.attempts):
            raise AttemptUnsettled(f"payment {self.id} does not wait for an attempt", payment=self.id)
        attempt = PaymentAttempt(
            id=attempt_id,
            amount=self.amount,
            state=AttemptState.PENDING,
            payment_method_id=method.id,
            gateway=method.gateway,
            gateway_reference="",
            failure_code="",
            create_time=at,
            record_time=recorded,
            settle_time=None,
            ask_time=at + PENDING_WAIT,
            asked_count=0,
            deferred=False,
        )
        return self._changed(at, attempts=(*self.attempts, attempt), collect_time=None)

    def fail_without_method(self, *, at: datetime) -> Payment:
        """Nothing to collect from. Trying again can help: there may be a payment method by then."""
        return self._changed(at, state=State.FAILED, failure_code=NO_PAYMENT_METHOD, retryable=True, collect_time=None)

    def succeed(self, attempt_id: AttemptId, *, gateway_reference: str, at: datetime) -> Payment:
        """The gateway has captured the amount of the attempt, though less may be owed by now."""
        attempt = self._open(attempt_id)
        return self._settled(attempt, AttemptState.SUCCEEDED, at, gateway_reference=gateway_reference)._changed(
            at, amount=attempt.amount, state=State.SUCCEEDED, failure_code="", retryable=False
        )

    def fail(self, attempt_id: AttemptId, *, code: str, retryable: bool, at: datetime) -> Payment:
        """The gateway has refused, or has never heard of the attempt and never will."""
        failed = self._settled(self._open(attempt_id), AttemptState.FAILED, at, failure_code=code)
        if self.invoice_settled:
            return failed._changed(at, state=State.CANCELLED)
        return failed._changed(at, state=State.FAILED, failure_code=code, retryable=retryable)

    def ask_later(self, attempt_id: AttemptId, *, at: datetime) -> Payment:
        """The outcome is not known: the answer was lost, or the gateway cannot tell yet."""
        attempt = self._open(attempt_id)
        wait = UNKNOWN_WAITS[min(attempt.asked_count, len(UNKNOWN_WAITS) - 1)]
        return self._with(
            replace(
                attempt,
                state=AttemptState.UNKNOWN,
                ask_time=at + wait,
                asked_count=attempt.asked_count + 1,
                deferred=False,
            )
        )._changed(at)

    def defer(self, attempt_id: AttemptId, *, at: datetime) -> Payment:
        """The gateway would not look at it now, so nothing has happened: the same call is made again soon.

        Less and less soon: credentials that are refused stay refused, and a sandbox passes its minutes in no time.
        """
        attempt = self._open(attempt_id)
        # An earlier call under the same key may have got through: what is UNKNOWN stays so.
        deferred = attempt.deferred or attempt.state is AttemptState.PENDING
        wait = DEFERRED_WAITS[min(attempt.asked_count, len(DEFERRED_WAITS) - 1)]
        return self._with(
            replace(attempt, ask_time=at + wait, asked_count=attempt.asked_count + 1, deferred=deferred)
        )._changed(at)

    def retry(self, *, default_method_id: PaymentMethodId | None, at: datetime) -> Payment:
        """Another attempt is wanted now."""
        if self.state is not State.FAILED or self.invoice_settled:
            raise PaymentNotFailed(f"payment {self.id} is {self._standing}", payment=self.id, state=self.state)
        refused_for_good = not self.retryable and self.attempts[-1].payment_method_id == default_method_id
        if refused_for_good or len(self.attempts) >= ATTEMPTS_MAX:
            raise PaymentNotRetryable(
                f"payment {self.id} failed with {self.failure_code} after {len(self.attempts)} attempts",
                payment=self.id,
                failure_code=self.failure_code,
            )
        return self._changed(
            at,
            state=State.PROCESSING,
            failure_code="",
            retryable=False,
            # A moment of its own: a sandbox's clock may stand still between one try and the next.
            collect_time=at - timedelta(microseconds=self.revision),
        )

    def want_less(self, amount: Money, *, at: datetime) -> Payment:
        """No more than that remains to be paid. An attempt that is under way is for what it was begun with."""
        if self.state is State.SUCCEEDED or self.invoice_settled or amount >= self.amount:
            return self
        return self._changed(at, amount=amount)

    def want_again(self, amount: Money, *, at: datetime) -> Payment:
        """Its invoice is announced once more: whoever announces it does not know any more what became of it.

        What was collected is told again. Less is collected of an invoice that came to less this time, but not more of
        one that came to more: what was heard of first may be the later fact.
        """
        if self.state is State.SUCCEEDED:
            return replace(self, told_again_count=self.told_again_count + 1)
        return self.want_less(amount, at=at)

    def came_in_otherwise(self, amount: Money, *, at: datetime) -> Payment:
        """So much less is to be collected. While an attempt may still bring in the same, nobody can say how much."""
        unsettled = next((attempt for attempt in self.attempts if attempt.is_open), None)
        if unsettled is not None:
            raise AttemptUnsettled(
                f"attempt {unsettled.id} at {self.invoice_id} has no outcome yet", payment=self.id, attempt=unsettled.id
            )
        if self.state is State.SUCCEEDED or self.invoice_settled:
            return self
        left = self.amount - amount
        return self.want_less(left, at=at) if left.minor > 0 else self.settle_invoice(at=at)

    def settle_invoice(self, *, at: datetime) -> Payment:
        """Nothing remains to be paid: no further attempt is made. An open one is still followed to its end."""
        if self.state is State.SUCCEEDED or self.invoice_settled:
            return self
        settled = self._changed(at, collect_time=None, invoice_settled=True)
        if any(attempt.is_open for attempt in self.attempts):
            return settled
        return replace(settled, state=State.CANCELLED, failure_code="", retryable=False)

    @property
    def _standing(self) -> str:
        return "no longer wanted: its invoice is settled" if self.invoice_settled else self.state.name

    def _open(self, attempt_id: AttemptId) -> PaymentAttempt:
        attempt = self.attempt(attempt_id)
        if not attempt.is_open:
            raise AttemptSettled(f"attempt {attempt.id} is {attempt.state.name}", attempt=attempt.id)
        return attempt

    def _settled(
        self,
        attempt: PaymentAttempt,
        state: AttemptState,
        at: datetime,
        *,
        gateway_reference: str = "",
        failure_code: str = "",
    ) -> Payment:
        return self._with(
            replace(
                attempt,
                state=state,
                gateway_reference=gateway_reference,
                failure_code=failure_code,
                settle_time=at,
                ask_time=None,
                deferred=False,
            )
        )

    def _with(self, changed: PaymentAttempt) -> Payment:
        return replace(self, attempts=tuple(changed if each.id == changed.id else each for each in self.attempts))

    def _changed(self, at: datetime, **changes: object) -> Payment:
        return replace(self, revision=self.revision + 1, update_time=at, **changes)  # type: ignore[arg-type] # fields
