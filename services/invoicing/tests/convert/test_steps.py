"""What is kept of a rating step, and what is told of it."""

from __future__ import annotations

from decimal import Decimal

from invoicing.convert.invoice import step_to_proto
from invoicing.domain.price import Graduated, Operators, Price, Tier
from invoicing.domain.rating import rate
from invoicing.domain.steps import RatingStep, StepKind
from invoicing.domain.usage import UsageToRate
from invoicing.store.rows import step_of, step_row
from saldo.invoicing.v1 import invoice_pb2 as pb

PRICE = Price(
    id="price_1",
    currency="EUR",
    model=Graduated(
        tiers=(
            Tier(up_to=Decimal(10), percent=Decimal("2.5"), flat_amount=Decimal(1)),
            Tier(up_to=Decimal(20), unit_price=Decimal(3), package_size=Decimal(4)),
            Tier(up_to=None, unit_price=Decimal("0.5")),
        )
    ),
    product="Calls",
    unit_label="call",
    operators=Operators(discount_percent=Decimal(10), free_units=Decimal(1)),
)
STEPS = rate(PRICE, UsageToRate.of(Decimal(33))).steps


def test_a_step_is_read_as_it_was_written() -> None:
    """With all its numbers, and the sentence that the customer was told."""
    assert len({step.kind for step in STEPS}) == 6
    for step in (*STEPS, STEPS[1]._replace(cell="region=eu")):
        again = step_of(step_row(step))
        assert again == step
        assert again.description == step.description


def test_a_step_of_before_stays_readable() -> None:
    """Lines that were written when a step had four fields are not rewritten."""
    stored = {"description": "12 seat at 9.50 GBP each", "quantity": "12", "unit_price": "9.50", "amount": "114.00"}
    assert step_of(stored) == RatingStep(
        kind=StepKind.KIND_UNSPECIFIED,
        quantity=Decimal(12),
        unit_price=Decimal("9.50"),
        amount=Decimal(114),
        words="12 seat at 9.50 GBP each",
    )
    assert step_of({**stored, "unit_price": None}).unit_price is None


def test_steps_that_say_something_else_are_not_equal() -> None:
    """A line is saved again when it has changed: also when only the words have."""
    one = STEPS[-1]
    assert one != one._replace(amount=Decimal(0))
    assert one != one._replace(words="something else")
    assert one != one._replace(cell="region=eu")


def test_a_step_is_told_with_the_numbers_it_has_and_no_others() -> None:
    """What is absent is not 0: a tier without an end has no bound."""
    told = [step_to_proto(step) for step in STEPS]
    assert [each.kind for each in told] == [
        pb.RatingStep.FREE,
        pb.RatingStep.PERCENT,
        pb.RatingStep.FLAT,
        pb.RatingStep.PACKAGES,
        pb.RatingStep.UNITS,
        pb.RatingStep.DISCOUNT,
    ]
    _, percent, flat, packages, units, discount = told
    assert (percent.percent.value, percent.over.value, percent.up_to.value) == ("2.5", "0", "10")
    assert not percent.HasField("unit_price")
    assert (flat.amount.value, flat.quantity.value) == ("1", "1")
    assert (packages.quantity.value, packages.package_size.value, packages.unit_price.value) == ("3", "4", "3")
    assert (units.over.value, units.HasField("up_to")) == ("20", False)
    assert (discount.percent.value, discount.HasField("over")) == ("10", False)


def test_every_kind_is_one_of_the_contract() -> None:
    """Their names are the same, so that converting is looking up."""
    assert {kind.name for kind in StepKind} == set(pb.RatingStep.Kind.keys())
