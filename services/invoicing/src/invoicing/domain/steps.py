"""Knows the rating step: what was done to a quantity or an amount, with its numbers and in words."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from common.money import minor_units
from invoicing.domain.exact import NOTHING

ONCE: Final = Decimal(1)
TEXTS_KEPT: Final = 10_000
"""Of prices and tiers: the same few are told of every customer."""

ALL_ELSE: Final = "All else"
"""In front of what no cell of a matrix names."""


class StepKind(Enum):
    KIND_UNSPECIFIED = "KIND_UNSPECIFIED"
    """Of a line written before steps had kinds."""
    FLAT = "FLAT"
    UNITS = "UNITS"
    PACKAGES = "PACKAGES"
    PERCENT = "PERCENT"
    FIXED_FEE = "FIXED_FEE"
    TRANSACTION_MINIMUM = "TRANSACTION_MINIMUM"
    TRANSACTION_MAXIMUM = "TRANSACTION_MAXIMUM"
    CONVERSION = "CONVERSION"
    FREE = "FREE"
    DISCOUNT = "DISCOUNT"
    MINIMUM = "MINIMUM"
    MAXIMUM = "MAXIMUM"
    PRORATION = "PRORATION"
    BILLED_BEFORE = "BILLED_BEFORE"
    REFUSED = "REFUSED"
    CREDITED_BEFORE = "CREDITED_BEFORE"
    CREDITED_LATER = "CREDITED_LATER"
    REMARK = "REMARK"
    COMMITTED = "COMMITTED"
    SPENT = "SPENT"


class Labels(NamedTuple):
    """What the numbers of a step are numbers of, for the sentence that is made when somebody reads it."""

    currency: str
    unit_label: str
    is_volume: bool = False
    """Whether a tier prices the whole quantity, and not what lies inside of it."""
    packed: Decimal | None = None
    """How many units are in the packages that a step counts."""
    is_all_else: bool = False
    """Whether it is about what no cell of a matrix names."""


class RatingStep(NamedTuple):
    """One step from a quantity to an amount. `unit_price` is None for an amount that does not depend on how many.

    A tuple, because very many are made; the sentence is made when it is read. Steps are equal that say the same.
    """

    kind: StepKind
    quantity: Decimal
    unit_price: Decimal | None
    amount: Decimal
    words: str | Labels
    """The sentence, or what it can be made with."""
    over: Decimal | None = None
    up_to: Decimal | None = None
    percent: Decimal | None = None
    package_size: Decimal | None = None
    cell: str = ""

    @property
    def description(self) -> str:
        if isinstance(self.words, str):
            return self.words
        where = ALL_ELSE if self.words.is_all_else else self.cell
        return f"{where}: {_sentence(self, self.words)}" if where else _sentence(self, self.words)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RatingStep):
            return NotImplemented
        return (
            self[:4] == other[:4]
            and self[5:] == other[5:]
            and (self.words == other.words or self.description == other.description)
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self[:4], self[5:]))


def flat_step(description: str, amount: Decimal, *, kind: StepKind = StepKind.FLAT) -> RatingStep:
    """A step whose amount is simply there, once; negative when it takes something off."""
    return RatingStep(kind, ONCE, None, amount, description)


def told_step(
    kind: StepKind, description: str, quantity: Decimal, *, cell: str = "", is_all_else: bool = False
) -> RatingStep:
    """A step that costs nothing."""
    where = ALL_ELSE if is_all_else else cell
    words = f"{where}: {description}" if where else description
    return RatingStep(kind, quantity, None, NOTHING, words, cell=cell)


def plain(value: Decimal) -> str:
    """For people: thousands in groups, no exponent, no zeros that say nothing."""
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def counted(quantity: Decimal, unit_label: str) -> str:
    return f"{plain(quantity)} {unit_label}".rstrip()


def several(count: Decimal | int, noun: str) -> str:
    return f"{plain(Decimal(count))} {noun}{'' if count == 1 else 's'}"


@lru_cache(maxsize=TEXTS_KEPT)
def price_text(unit_price: Decimal, currency: str) -> str:
    """`0.14228 GBP`, but `9.50 GBP` rather than `9.5`: every decimal there is, and as many as cash has."""
    whole, _, decimals = plain(unit_price).partition(".")
    decimals = decimals.ljust(minor_units(currency), "0")
    return f"{whole}.{decimals} {currency}" if decimals else f"{whole} {currency}"


@lru_cache(maxsize=TEXTS_KEPT)
def tier_name(over: Decimal, up_to: Decimal | None, unit_label: str) -> str:
    if up_to is None:
        return f"Over {counted(over, unit_label)}" if over else "All"
    if over:
        return f"Over {plain(over)} up to {counted(up_to, unit_label)}"
    return f"The first {counted(up_to, unit_label)}"


def lowered(text: str) -> str:
    return text[0].lower() + text[1:]


def _sentence(step: RatingStep, labels: Labels) -> str:
    if step.over is None:
        return _told(step, labels, counted(step.quantity, labels.unit_label))
    tier = tier_name(step.over, step.up_to, labels.unit_label)
    if step.kind is StepKind.FLAT:
        return f"{tier}, once"
    if labels.is_volume:
        # The quantity is not what lies inside of the tier: that would read as a wrong sum.
        return f"{_told(step, labels, counted(step.quantity, labels.unit_label))} ({lowered(tier)})"
    return f"{tier}: {_told(step, labels, plain(step.quantity))}"


def _told(step: RatingStep, labels: Labels, what: str) -> str:
    if step.percent is not None:
        return f"{plain(step.percent)}% of {price_text(step.quantity, labels.currency)}"
    unit_price = price_text(step.unit_price or NOTHING, labels.currency)
    if step.package_size is not None and labels.packed is not None:
        packed, size = counted(labels.packed, labels.unit_label), plain(step.package_size)
        return f"{packed} in {several(step.quantity, 'started package')} of {size} at {unit_price} each"
    return f"{what} at {unit_price} each"
