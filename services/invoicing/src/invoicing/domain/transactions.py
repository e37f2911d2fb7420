"""Knows what transactions cost that pay a share of their amounts, with what of them is free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from invoicing.domain.exact import NOTHING, added, less, percent_of, product
from invoicing.domain.price import Percentage
from invoicing.domain.steps import Labels, RatingStep, StepKind, flat_step, price_text, several, told_step


@dataclass(slots=True)
class _Sums:
    """What the transactions come to, by what they are paid for."""

    base: Decimal = NOTHING
    total: Decimal = NOTHING
    """Without the corrections."""
    corrections: int = 0
    given_back: Decimal = NOTHING
    free: Decimal = NOTHING
    wholly_free: int = 0
    partly_free: Decimal = NOTHING
    """What fitted of the one that used the allowance up."""
    paying: int = 0
    raised: int = 0
    raised_by: Decimal = NOTHING
    lowered: int = 0
    lowered_by: Decimal = NOTHING


def transaction_steps(model: Percentage, amounts: Sequence[Decimal], labels: Labels) -> list[RatingStep]:
    """In order of time. One step for each kind of cost: nobody reads ten thousand."""
    sums = _add_up(model, amounts)
    currency = labels.currency
    steps = []
    if sums.free or sums.wholly_free:
        steps.append(told_step(StepKind.FREE, _free(sums, currency), sums.free))
    if sums.corrections:
        words = f"{several(sums.corrections, 'correction')} of {price_text(sums.given_back, currency)} in all"
        words = f"{words}: {price_text(sums.base, currency)} to pay for"
        steps.append(told_step(StepKind.REMARK, words, sums.given_back))
    share = percent_of(model.percent, sums.base)
    steps.append(RatingStep(StepKind.PERCENT, sums.base, None, share, labels, percent=model.percent))
    if model.fixed_fee and sums.paying:
        paying = Decimal(sums.paying)
        words = f"{several(sums.paying, 'transaction')} at {price_text(model.fixed_fee, currency)} each"
        amount = product(paying, model.fixed_fee)
        steps.append(RatingStep(StepKind.FIXED_FEE, paying, model.fixed_fee, amount, words))
    if sums.raised:
        least = model.transaction_minimum
        steps.append(_bounded(StepKind.TRANSACTION_MINIMUM, "raised", sums.raised, sums.raised_by, least, currency))
    if sums.lowered and model.transaction_maximum is not None:
        most, by = model.transaction_maximum, sums.lowered_by.copy_negate()
        steps.append(_bounded(StepKind.TRANSACTION_MAXIMUM, "lowered", sums.lowered, by, most, currency))
    return steps


def _free(sums: _Sums, currency: str) -> str:
    """How much, of how much, and which: the free ones come first."""
    whole = part = ""
    if sums.wholly_free:
        whole = "the first transaction" if sums.wholly_free == 1 else f"the first {sums.wholly_free:,} transactions"
    if sums.partly_free:
        part = f"{price_text(sums.partly_free, currency)} of the {'next' if whole else 'first'}"
    free, total = price_text(sums.free, currency), price_text(sums.total, currency)
    return f"{free} of {total} free: {', and '.join(filter(None, (whole, part)))}"


def _bounded(kind: StepKind, verb: str, count: int, by: Decimal, bound: Decimal, currency: str) -> RatingStep:
    """From what to what, so that what it adds or takes off can be checked."""
    before = price_text(less(product(Decimal(count), bound), by), currency)
    to = price_text(bound, currency)
    words = f"from {before} to {to}" if count == 1 else f"from {before} in all to {to} each"
    return flat_step(f"{several(count, 'transaction')} {verb} {words}", by, kind=kind)._replace(quantity=Decimal(count))


def _add_up(model: Percentage, amounts: Sequence[Decimal]) -> _Sums:
    sums = _Sums()
    seen = 0
    left = model.free_amount
    is_free = bool(model.free_transactions) or left is not None
    for amount in amounts:
        if amount < 0:
            # A correction: it gives back the share, and nothing else.
            sums.base = added(sums.base, amount)
            sums.corrections += 1
            sums.given_back = added(sums.given_back, amount)
            continue
        if (model.free_transactions and seen >= model.free_transactions) or (left is not None and left <= 0):
            is_free = False
        seen += 1
        sums.total = added(sums.total, amount)
        owed = amount
        if is_free:
            fits = amount if left is None else min(amount, left)
            left = None if left is None else less(left, fits)
            sums.free = added(sums.free, fits)
            owed = less(amount, fits)
            if not owed:
                sums.wholly_free += 1
                continue
            sums.partly_free = fits
        _pay(sums, model, owed)
    return sums


def _pay(sums: _Sums, model: Percentage, owed: Decimal) -> None:
    sums.base = added(sums.base, owed)
    sums.paying += 1
    cost = added(percent_of(model.percent, owed), model.fixed_fee)
    if cost < model.transaction_minimum:
        sums.raised += 1
        sums.raised_by = added(sums.raised_by, less(model.transaction_minimum, cost))
    elif model.transaction_maximum is not None and cost > model.transaction_maximum:
        sums.lowered += 1
        sums.lowered_by = added(sums.lowered_by, less(cost, model.transaction_maximum))
