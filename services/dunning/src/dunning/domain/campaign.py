"""Knows the life of a campaign: retries, each at its time, then giving up, unless the invoice is paid before.

    start ──wait──► retry ──wait──► retry ──final wait──► give up ──► EXHAUSTED
      │                                                    │  ▲ └───► CANCELLED   after 30 days of postponing
      ├── paid at any time ──► RECOVERED                   └──┘ a day later, while the money may be on its way
      └── annulled or given up at any time ──► CANCELLED

A new payment method of the customer is tried at once: the next retry comes early, or one is made beyond those of the
policy.

A day is 24 hours, counted from when the step before was taken: a campaign that was held up does not catch up in a
burst.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, NewType, Self

from common.money import Money
from dunning.domain.errors import DunningCampaignOver, StepOutOfTurn
from dunning.domain.policy import FinalAction, Policy

CampaignId = NewType("CampaignId", str)

POSTPONEMENTS_MAX: Final = 30
NEW_PAYMENT_METHODS_MAX: Final = 10
"""Further ones wait for the retries of the policy: nobody puts the end off for ever."""

DAY: Final = timedelta(days=1)


class State(Enum):
    ACTIVE = "ACTIVE"
    RECOVERED = "RECOVERED"
    EXHAUSTED = "EXHAUSTED"
    CANCELLED = "CANCELLED"


class Action(Enum):
    RETRY_PAYMENT = "RETRY_PAYMENT"
    SKIP_RETRY = "SKIP_RETRY"
    GIVE_UP = "GIVE_UP"
    POSTPONE = "POSTPONE"
    NEW_PAYMENT_METHOD = "NEW_PAYMENT_METHOD"


class Refusal(Enum):
    """Why payments would not try again, by the reason it gave; the value is the note for people."""

    PAYMENT_NOT_FOUND = "nothing is collected for this invoice automatically"
    PAYMENT_NOT_FAILED = "a payment is under way, the money is in, or the invoice was settled otherwise"
    PAYMENT_NOT_RETRYABLE = "the payment method was declined for good, and there is no other"


class PaymentState(Enum):
    """What payments knows of the money for an invoice; NONE when it collects nothing for it."""

    NONE = "NONE"
    PROCESSING = "PROCESSING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def may_bring_money(self) -> bool:
        """Cancelled is what was settled otherwise: payments has heard what became of the invoice, and we shall."""
        return self in (PaymentState.PROCESSING, PaymentState.SUCCEEDED, PaymentState.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverdueInvoice:
    """What there is to follow up."""

    invoice_id: str
    customer_id: str
    subscription_ids: tuple[str, ...]
    amount: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    action: Action
    time: datetime
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    id: CampaignId
    invoice: OverdueInvoice
    policy: Policy
    state: State
    steps: tuple[Step, ...]
    next_step_time: datetime | None
    revision: int
    start_time: datetime
    end_time: datetime | None

    @classmethod
    def start(cls, invoice: OverdueInvoice, policy: Policy, *, campaign_id: CampaignId, at: datetime) -> Self:
        campaign = cls(
            id=campaign_id,
            invoice=invoice,
            policy=policy,
            state=State.ACTIVE,
            steps=(),
            next_step_time=None,
            revision=1,
            start_time=at,
            end_time=None,
        )
        return replace(campaign, next_step_time=at + campaign._wait)

    @property
    def is_over(self) -> bool:
        return self.state is not State.ACTIVE

    @property
    def wants_retry(self) -> bool:
        """Whether the next step is a retry; if not, it is giving up."""
        untried = bool(self.steps) and self.steps[-1].action is Action.NEW_PAYMENT_METHOD
        return untried or self.retry_count < len(self.policy.terms.retry_wait_days)

    @property
    def retry_count(self) -> int:
        """How many retries have had their turn."""
        return sum(step.action in (Action.RETRY_PAYMENT, Action.SKIP_RETRY) for step in self.steps)

    def is_due(self, at: datetime) -> bool:
        return self.next_step_time is not None and self.next_step_time <= at

    def retry(self, *, at: datetime) -> Self:
        """Payments is trying again; the outcome comes as an event."""
        self._check_turn(retry=True)
        return self._taken(Action.RETRY_PAYMENT, "the payment is tried again", at=at)

    def skip_retry(self, refusal: Refusal, *, at: datetime) -> Self:
        """Payments would not try again, and the turn is over."""
        self._check_turn(retry=True)
        return self._taken(Action.SKIP_RETRY, refusal.value, at=at)

    def try_new_payment_method(self, *, at: datetime) -> Self:
        """The customer has attached another: the next step is a retry, now."""
        self._check_active()
        if sum(step.action is Action.NEW_PAYMENT_METHOD for step in self.steps) >= NEW_PAYMENT_METHODS_MAX:
            return self
        heard = self._taken(Action.NEW_PAYMENT_METHOD, "the customer has a new payment method", at=at)
        # A moment of its own: a sandbox's clock may not have moved since the last step.
        return replace(heard, next_step_time=at - timedelta(microseconds=heard.revision))

    def postpone(self, payment: PaymentState, *, at: datetime) -> Self:
        """Nobody is given up while the money may be in; but nobody is waited for without end either."""
        self._check_turn(retry=False)
        if sum(step.action is Action.POSTPONE for step in self.steps) >= POSTPONEMENTS_MAX:
            return self._ended(State.CANCELLED, at=at)
        postponed = self._taken(Action.POSTPONE, f"the payment is {payment.name}", at=at)
        return replace(postponed, next_step_time=at + DAY)

    def give_up(self, *, at: datetime) -> Self:
        """The final action has been carried out."""
        self._check_turn(retry=False)
        given_up = self._taken(Action.GIVE_UP, self._final_note(), at=at)
        return replace(given_up, state=State.EXHAUSTED, next_step_time=None, end_time=at)

    def recover(self, *, at: datetime) -> Self:
        """The invoice was paid, by whatever means."""
        self._check_active()
        return self._ended(State.RECOVERED, at=at)

    def call_off(self, *, at: datetime) -> Self:
        """The invoice was annulled or given up: nobody is to be followed up for it."""
        self._check_active()
        return self._ended(State.CANCELLED, at=at)

    def with_retry_that_recovered(self, before: Campaign, *, at: datetime) -> Self:
        """The retry asked for when the campaign stood as `before`, and whose money was in before it was recorded."""
        if self.state is not State.RECOVERED or self.steps != before.steps:
            return self
        taken = before.retry(at=at)
        return replace(self, steps=taken.steps, revision=self.revision + 1)

    @property
    def _wait(self) -> timedelta:
        """From one step to the next, as things stand."""
        terms = self.policy.terms
        turns_left = self.retry_count < len(terms.retry_wait_days)
        return DAY * (terms.retry_wait_days[self.retry_count] if turns_left else terms.final_wait_days)

    def _taken(self, action: Action, note: str, *, at: datetime) -> Self:
        taken = replace(self, steps=(*self.steps, Step(action=action, time=at, note=note)), revision=self.revision + 1)
        return replace(taken, next_step_time=at + taken._wait)

    def _ended(self, state: State, *, at: datetime) -> Self:
        return replace(self, state=state, next_step_time=None, end_time=at, revision=self.revision + 1)

    def _final_note(self) -> str:
        count = len(self.invoice.subscription_ids)
        subscriptions = f"{count} subscription{'' if count == 1 else 's'}"
        match self.policy.terms.final_action:
            case FinalAction.NONE:
                return "no action is taken"
            case FinalAction.PAUSE_SUBSCRIPTION:
                return f"{subscriptions} paused"
            case FinalAction.CANCEL_SUBSCRIPTION:
                return f"{subscriptions} cancelled"

    def _check_turn(self, *, retry: bool) -> None:
        self._check_active()
        if retry is not self.wants_retry:
            turn = "a retry" if self.wants_retry else "giving up"
            raise StepOutOfTurn(f"the next step of campaign {self.id} is {turn}", campaign=self.id)

    def _check_active(self) -> None:
        if self.is_over:
            raise DunningCampaignOver(f"campaign {self.id} is {self.state.name}", campaign=self.id, state=self.state)
