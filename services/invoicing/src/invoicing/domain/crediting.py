"""Knows what can be taken back of an invoice: parts of its lines, with their share of discounts and taxes.

The net of a line is rounded, the tax of a credit note is rounded from the net before that, the total is their sum; and
whatever takes the last of a line, of a tax or of the invoice takes the rest of the cents. So what was credited in full,
in however many parts, cancels to nothing: line by line, tax by tax, and in total.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from common.money import Money, exact_sum, round_half_up, sum_money
from invoicing.domain.credit_note import CreditLine, CreditNote, Taken
from invoicing.domain.errors import CreditExceedsLine, LineNotFound
from invoicing.domain.invoice import Invoice
from invoicing.domain.line import Line
from invoicing.domain.tax import TaxLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """How much of a line is wanted: at most one of the three, or all that is left."""

    line_id: str
    amount: Money | None = None
    quantity: Decimal | None = None
    share: Fraction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Left:
    """What earlier notes have left of a line."""

    line: Line
    amount: Money
    discount: Money
    quantity: Decimal | None
    """None once a part of it was taken back that was no quantity."""

    @property
    def is_nothing(self) -> bool:
        return not (self.amount.minor or self.discount.minor)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Credited:
    """What is taken back of a line, and which share of it that was before it was rounded."""

    line: CreditLine
    share: Fraction
    is_last: bool


def taken_back(invoice: Invoice, earlier: Sequence[CreditNote], wanted: Sequence[Part]) -> Taken:
    """The parts of its lines that are wanted, in the order of the invoice; all that is left if there are none."""
    left = _left_of_lines(invoice, earlier)
    parts = {part.line_id: part for part in wanted}
    for line_id in parts.keys() - left.keys():
        raise LineNotFound(f"there is no line {line_id} on invoice {invoice.id}", invoice=invoice.id, line=line_id)
    if not wanted:
        parts = {line_id: Part(line_id=line_id) for line_id, each in left.items() if not each.is_nothing}
    credited = {line_id: _credited(left[line_id], parts[line_id]) for line_id in left if line_id in parts}
    done = {line_id for line_id, each in left.items() if each.is_nothing}
    done |= {line_id for line_id, each in credited.items() if each.is_last}
    rounding = invoice.rounding - sum_money((note.taken.rounding for note in earlier), invoice.currency)
    taken = Taken(
        lines=tuple(each.line for each in credited.values()),
        taxes=tuple(_taxes(invoice, earlier, credited, done)),
        rounding=rounding if len(done) == len(left) else Money.zero(invoice.currency),
        refundable=Money.zero(invoice.currency),
    )
    return replace(taken, refundable=_refundable(invoice, earlier, taken, left))


def bearers(invoice: Invoice) -> list[tuple[TaxLine, AbstractSet[str]]]:
    """Every tax of an invoice, with the lines that bear it: all of them, where it names no rate that they do."""
    everything = frozenset(line.id for line in invoice.lines)
    return [
        (tax, frozenset(line.id for line in invoice.lines if tax.rate_id in line.tax_rate_ids) or everything)
        for tax in invoice.taxes
    ]


def _left_of_lines(invoice: Invoice, earlier: Iterable[CreditNote]) -> dict[str, _Left]:
    """By line, in the order of the invoice."""
    before: dict[str, list[CreditLine]] = defaultdict(list)
    for note in earlier:
        for each in note.lines:
            before[each.line_id].append(each)
    return {line.id: _left(line, before[line.id]) for line in invoice.lines}


def _left(line: Line, before: Sequence[CreditLine]) -> _Left:
    currency = line.amount.currency
    quantities = [each.quantity for each in before if each.quantity is not None]
    return _Left(
        line=line,
        amount=line.amount - sum_money((each.amount for each in before), currency),
        discount=line.discount - sum_money((each.discount for each in before), currency),
        quantity=exact_sum([line.quantity, *(each.copy_negate() for each in quantities)])
        if len(quantities) == len(before)
        else None,
    )


def _credited(left: _Left, part: Part) -> _Credited:
    line = left.line
    share, amount, quantity = _wanted(left, part)
    is_last = amount == left.amount
    sign = -1 if line.amount.minor < 0 else 1
    if amount.minor * sign <= 0 or amount * sign > left.amount * sign:
        raise CreditExceedsLine(
            f"{amount} is not of the {left.amount} that is left of line {line.id}", line=line.id, left=left.amount
        )
    discount = left.discount
    if not is_last:
        discount = _within(
            round_half_up(line.discount.minor * share),
            # Never so little that the rest of the line could not bear the rest of its discounts.
            least=left.discount.minor - abs(left.amount.minor - amount.minor),
            most=min(left.discount.minor, abs(amount.minor)),
            currency=amount.currency,
        )
    return _Credited(
        line=CreditLine(
            line_id=line.id,
            description=line.description,
            quantity=quantity,
            unit_label=line.unit_label if quantity is not None else "",
            amount=amount,
            discount=discount,
        ),
        share=share,
        is_last=is_last,
    )


def _wanted(left: _Left, part: Part) -> tuple[Fraction, Money, Decimal | None]:
    """Which share of the whole line, how much that is, and how many if that is known."""
    line, currency = left.line, left.line.amount.currency
    rest = Fraction(left.amount.minor, line.amount.minor) if line.amount.minor else Fraction(1)
    if part.amount is not None:
        share = Fraction(part.amount.minor, line.amount.minor) if line.amount.minor else Fraction(0)
        return share, part.amount, None
    if part.share is not None:
        return part.share, Money(round_half_up(line.amount.minor * part.share), currency), None
    if part.quantity is None:
        return rest, left.amount, left.quantity
    if line.quantity <= 0 or part.quantity <= 0 or part.quantity > line.quantity:
        raise CreditExceedsLine(f"{part.quantity} is not of the {line.quantity} of line {line.id}", line=line.id)
    if left.quantity is not None and part.quantity == left.quantity:
        return rest, left.amount, part.quantity
    share = Fraction(part.quantity) / Fraction(line.quantity)
    return share, Money(round_half_up(line.amount.minor * share), currency), part.quantity


def _taxes(
    invoice: Invoice, earlier: Sequence[CreditNote], credited: Mapping[str, _Credited], done: AbstractSet[str]
) -> Iterable[TaxLine]:
    nets = {line.id: line.net_amount.minor for line in invoice.lines}
    before: dict[TaxLine, list[TaxLine]] = defaultdict(list)
    for note in earlier:
        for each in note.taken.taxes:
            before[_kind(each)].append(each)
    for tax, lines in bearers(invoice):
        if not lines & credited.keys():
            continue
        currency = invoice.currency
        left = replace(
            tax,
            taxable=tax.taxable - sum_money((each.taxable for each in before[_kind(tax)]), currency),
            amount=tax.amount - sum_money((each.amount for each in before[_kind(tax)]), currency),
        )
        if lines <= done:
            yield left
            continue
        base = sum(nets[line_id] for line_id in lines)
        own = [credited[line_id] for line_id in lines & credited.keys()]
        exact = sum((nets[each.line.line_id] * each.share for each in own), Fraction(0))
        net = sum(each.line.net_amount.minor for each in own)
        # Of what the tax is a share of, as much as of the lines; the tax of that, not of the rounded net.
        share = exact / base if base else Fraction(0)
        amount = _part_of(round_half_up(tax.taxable.minor * share * Fraction(tax.percent) / 100), left.amount)
        if tax.is_included and tax.taxable.minor + tax.amount.minor == base:
            taxable = _part_of(net - amount.minor, left.taxable)
        else:
            taxable = _part_of(round_half_up(Fraction(tax.taxable.minor * net, base)) if base else 0, left.taxable)
        yield replace(tax, taxable=taxable, amount=amount)


def _kind(tax: TaxLine) -> TaxLine:
    """What it is, whatever it comes to."""
    nothing = Money.zero(tax.amount.currency)
    return replace(tax, taxable=nothing, amount=nothing)


def _refundable(invoice: Invoice, earlier: Sequence[CreditNote], taken: Taken, left: Mapping[str, _Left]) -> Money:
    """The share of the payments that falls to each line, less what the customer keeps of it; less what came back."""
    currency = invoice.currency
    nothing = Money.zero(currency)
    if not (invoice.amount_paid.minor and invoice.total.minor):
        return nothing
    now = {each.line_id: each.amount.minor for each in taken.lines}
    owed = {line.id: Fraction(line.net_amount.minor) for line in invoice.lines}
    for tax, lines in bearers(invoice):
        base = sum(left[line_id].line.net_amount.minor for line_id in lines)
        for line_id in lines if base and not tax.is_included else ():
            owed[line_id] += Fraction(tax.amount.minor * left[line_id].line.net_amount.minor, base)
    back = 0
    for line_id, each in left.items():
        whole = each.line.amount.minor
        kept = Fraction(each.amount.minor - now.get(line_id, 0), whole) if whole else Fraction(1)
        paid = round_half_up(invoice.amount_paid.minor * owed[line_id] / invoice.total.minor)
        back += max(0, paid - round_half_up(owed[line_id] * kept))
    given = [each.settlement.refund + each.settlement.customer_credit for each in earlier]
    refunds = [each.settlement.refund for each in earlier]
    most = min(taken.total, invoice.amount_paid - sum_money(refunds, currency))
    return max(nothing, min(Money(back, currency) - sum_money(given, currency), most))


def _part_of(minor: int, whole: Money) -> Money:
    """As much of it, and never more than there is, on either side of nothing."""
    low, high = min(0, whole.minor), max(0, whole.minor)
    return _within(minor, least=low, most=high, currency=whole.currency)


def _within(minor: int, *, least: int, most: int, currency: str) -> Money:
    return Money(min(max(minor, least), most), currency)
