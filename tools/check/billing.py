"""Invariants of what is billed: every period once, every amount as an independent rater has it, every number used."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final

from tools.check import rater
from tools.check.agreement import agreement_of
from tools.check.calendar import Span
from tools.check.counting import Counting, counting_of
from tools.check.covers import without
from tools.check.credited import Credited
from tools.check.early import Early
from tools.check.payers import Payers, used_by
from tools.check.rater import Capacity, Dynamic, Matrix, Percentage, Tariff, Used
from tools.check.records import Records, Row
from tools.check.refusals import Refusals
from tools.check.report import Invariant, Tally
from tools.check.schedule import Billable, BilledKey, billables
from tools.check.tariff import tariffs

OF_EVENTS: Final = (Percentage, Matrix, Dynamic, Capacity)
"""The models for which one quantity says too little."""

OWED: Final = "OWED"
OF_NO_ITEM: Final = ("MANUAL", "TRUE_UP")


def every_period_once(records: Records, tally: Tally) -> None:
    """What subscriptions agreed to, computed anew, is what stands on invoices: nothing missing, nothing twice.

    A credit may wait for an invoice that it can be taken off: whether it waits too long, another invariant says. What
    stood on an invoice that is void may wait for a bill run that will look back as far.
    """
    void, early = _void_lines(records), Early(records)
    firsts: dict[BilledKey, list[Row]] = defaultdict(list)
    waiting: set[BilledKey] = set()
    for key, all_lines in lines_by_key(records).items():
        if early.is_begun(all_lines):
            firsts[key].append(early.whole_of(all_lines))
            waiting |= {key} if early.waits(all_lines) else set()
        for line in all_lines if key not in firsts else ():
            if line["correction"] == 0:
                firsts[key].append(line)
    for billable in expected(records):
        lines = firsts.pop(billable.key, [])
        if billable.key in waiting:
            continue
        where = f"{billable.item_id} {billable.period}"
        can_wait = billable.kind != OWED or _will_be_looked_at(billable, void.get(billable.key, ()), records)
        tally.check(len(lines) == 1 or (can_wait and not lines), f"{where} is on {len(lines)} invoices")
        for line in lines[:1]:
            same = (line["period_end"], line["full_period_start"], line["full_period_end"], line["subscription_id"])
            due = (billable.period.end, billable.full.start, billable.full.end, billable.subscription_id)
            tally.check(same == due, f"{line['id']} covers another period than {where}")
    for billable in early.under_way:
        for line in firsts.pop(billable.key, ()):
            holds = line["id"] in early.ids and line["period_end"] <= billable.period.end
            tally.check(holds, f"{line['id']} bills {billable.item_id} {billable.period} before it is over")
    for key, lines in firsts.items():
        tally.check(False, f"{lines[0]['id']} bills {key.item_id} from {key.period_start} for no reason")


def _will_be_looked_at(billable: Billable, void: Sequence[Row], records: Records) -> bool:
    """Whether a bill run is to come that looks back to what was on invoices that are void."""
    invoices = records.by("invoicing", "invoices", "id")
    for line in void:
        for invoice in invoices[line["invoice_id"]]:
            for row in records.by("invoicing", "billing", "customer_id").get(invoice["customer_id"], ()):
                through = row["billed_through_time"]
                if row["due_time"] is not None and (through is None or through <= billable.bill_time):
                    return True
    return False


def no_overlap(records: Records, tally: Tally) -> None:
    """Two lines of one item and price cover the same instant only when one corrects the other, or when a change made
    one of them due: what it was due instead of was credited, or kept at somebody's wish.
    """
    periods: dict[tuple[str, str], dict[datetime, Row]] = defaultdict(dict)
    for line in _standing_lines(records):
        if line["kind"] == OWED and not line["change_id"]:
            periods[line["item_id"], line["price_id"]].setdefault(line["period_start"], line)
    credited: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for billable in expected(records):
        if billable.kind != OWED:
            credited[billable.item_id, billable.terms.price.id].append(billable.period)
    kept: dict[str, list[datetime]] = defaultdict(list)
    for change in records.rows("subscriptions", "subscription_changes"):
        if change["unused"] == "KEEP" and change["revoked_time"] is None:
            kept[change["subscription_id"]].append(change["effective_time"])
    for key, lines in periods.items():
        ordered = [lines[start] for start in sorted(lines)]
        for before, after in pairwise(ordered):
            start, end = after["period_start"], min(before["period_end"], after["period_end"])
            wishes = kept[before["subscription_id"]]
            holds = (
                start >= end
                or any(before["period_start"] < wish <= start for wish in wishes)
                or not list(without(Span(start, end), credited[key]))
            )
            tally.check(holds, f"{before['id']} and {after['id']}")


def credits_taken_off(records: Records, tally: Tally) -> None:
    """Every credit is taken off, never more than it is, as soon as an invoice leaves anything to take it off."""
    prices = tariffs(records)
    lines = lines_by_key(records)
    left = left_of_fees(records)
    invoices: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in records.rows("invoicing", "invoices"):
        # What buys credit has no room for what is taken off what was bought.
        if row["state"] not in ("DRAFT", "VOID") and not row["top_up_rule_id"] and not _is_replaced(row, records):
            for customer_id in beneficiaries(records, row):
                invoices[customer_id, row["customer_id"], row["currency"]].append(row)
    payers = Payers(records)
    declaring = {row["seller_id"] for row in records.rows("invoicing", "consolidation_policies")}
    declaring |= {row["seller_id"] for row in records.rows("invoicing", "invoices") if row["consolidation_key"]}
    for billable in expected(records):
        if billable.kind == OWED:
            continue
        where = f"{billable.kind} {billable.item_id} {billable.period}"
        with tally.checking(where):
            currency, _ = prices[billable.terms.price.id]
            taken = -sum(line["amount_minor"] for line in lines.get(billable.key, ()))
            due = -_licensed(billable, prices)
            tally.check(0 <= taken <= due, f"{where}: {taken} of {due} {currency} taken off")
            if billable.source is not None and billable.source in left:
                # What was given back in another way does not come back once more.
                due = min(due, taken + max(0, left[billable.source]))
            customer_id = billable.terms.customer_id
            payer_id = payers.at(billable.subscription_id, customer_id, billable.bill_time)
            for row in invoices.get((customer_id, payer_id, currency), ()) if taken < due else ():
                # As much is taken off as there is: what waits has left nothing to be paid by those who knew. Where
                # keys are declared it waits for an invoice that has the same.
                is_apart = row["seller_id"] in declaring
                free = _has_room(row, records) and _knew_of(row, billable, records) and not is_apart
                free = free and not _is_held(row, billable, records)
                tally.check(not free, f"{where}: {due - taken} {currency} could be taken off {row['id']}")


def _is_replaced(invoice: Row, records: Records) -> bool:
    """Whether what it billed was taken back, and is billed by another."""
    own = records.by("invoicing", "invoice_lines", "invoice_id").get(invoice["id"], ())
    return any(line.get("voided") for line in own)


def _has_room(invoice: Row, records: Records) -> bool:
    """Whether more could be taken off: of the net amount, and for its taxes but a cent each that rounding may leave."""
    own = records.by("invoicing", "invoice_lines", "invoice_id").get(invoice["id"], ())
    net = sum(line["amount_minor"] - line["discount_minor"] for line in own)
    return net > 0 and bool(invoice["total_minor"] > len(json.loads(invoice["taxes"])))


def _knew_of(invoice: Row, credit: Billable, records: Records) -> bool:
    """Whether an invoice was made after a credit was due, or bills what the same change made due."""
    own = records.by("invoicing", "invoice_lines", "invoice_id").get(invoice["id"], ())
    told = credit.change_id != "" and any(line["change_id"] == credit.change_id for line in own)
    return bool(invoice["bill_time"] > credit.bill_time) or (told and bool(invoice["bill_time"] == credit.bill_time))


def left_of_fees(records: Records) -> Mapping[BilledKey, int]:
    """Of all that was billed in advance what nobody has given back: by credit notes, or by credits, less what notes
    took back of these.
    """
    return records.once("left of fees", lambda: _left_of_fees(records))


def _left_of_fees(records: Records) -> Mapping[BilledKey, int]:
    credited, lines = Credited(records), lines_by_key(records)
    standing = {key: sum(line["amount_minor"] for line in own) - credited.all(own) for key, own in lines.items()}
    left = {key: standing[key] for key, own in lines.items() if key.kind == OWED and not own[0]["meter"]}
    for billable in expected(records):
        if billable.source is not None and billable.source in left:
            left[billable.source] += standing.get(billable.key, 0)
    return left


def source_of(credit: Row, records: Records) -> Row | None:
    """The line that a credit is of: of those for all of its time the one that began last, if the same change did not
    make it due, nor what was decided later.
    """
    change_id, written = credit["change_id"], credit.get("id") or "~"
    return max(
        (
            line
            for line in records.by("invoicing", "invoice_lines", "item_id").get(credit["item_id"], ())
            if line["kind"] == OWED
            and line["correction"] == 0
            and line["price_id"] == credit["price_id"]
            and line["period_start"] <= credit["period_start"]
            and credit["period_end"] <= line["period_end"]
        ),
        key=lambda line: (
            line["change_id"] != change_id or not change_id,
            line["id"] < written,
            line["period_start"],
            line["quantity"] == credit["quantity"],
            line["id"],
        ),
        default=None,
    )


def _is_held(invoice: Row, credit: Billable, records: Records) -> bool:
    """Whether what the credit is of was still a draft then, on which a coupon might be spread in another way."""
    quantity = credit.terms.price.quantity
    told = {
        "item_id": credit.item_id,
        "price_id": credit.terms.price.id,
        "period_start": credit.period.start,
        "period_end": credit.period.end,
        "change_id": credit.change_id,
        "quantity": None if quantity is None else Decimal(quantity.numerator) / Decimal(quantity.denominator),
    }
    source = source_of(told, records)
    if source is None or not source["coupon_ids"]:
        return False
    (billed,) = records.by("invoicing", "invoices", "id")[source["invoice_id"]]
    return bool(billed["state"] == "DRAFT" or billed["finalize_time"] > invoice["create_time"])


def amounts_rated_anew(records: Records, tally: Tally) -> None:
    """Every line costs what the price says for its quantity and share; corrections are the difference, to the cent.
    What was refused of late usage is left out of what is owed, and what credit notes gave back of what comes back.

    A credit is the same the other way round, all of it or as much as an invoice had room for.
    """
    prices, counting = tariffs(records), counting_of(records)
    refusals, credited = Refusals(records), Credited(records)
    invoices = {row["id"]: row for row in records.rows("invoicing", "invoices")}
    shares = {billable.key: billable for billable in expected(records)}
    for key, lines in lines_by_key(records).items():
        billed = 0
        for line in lines:
            with tally.checking(line["id"]):
                billable = shares.get(key)
                currency, tariff = prices[line["price_id"]]
                used = _used(line, billable, tariff, counting)
                share = billable.share if billable is not None else Fraction(1)
                whole = rater.minor(rater.cost(tariff, used) * share, currency)
                due = (whole if key.kind == OWED else -whole) - billed
                if key.kind == OWED and due > 0:
                    due = max(0, due - refusals.before(key, line, invoices[line["invoice_id"]]))
                amount = line["amount_minor"]
                holds = amount == due if key.kind == OWED else due <= amount < 0
                if key.kind == OWED and due < 0:
                    back = credited.before(lines, invoices[line["invoice_id"]]["finalize_time"])
                    holds = amount in {max(due, min(0, given - billed)) for given in back}
                tally.check(
                    holds and line["currency"] == currency,
                    f"{line['id']} is {amount} {line['currency']}, rated anew {due} {currency}",
                )
                told = Fraction(line["proration_numerator"], line["proration_denominator"])
                tally.check(told == share, f"{line['id']} says {told} of the period, not {share}")
                billed += amount


def corrections_add_up(records: Records, tally: Tally) -> None:
    """Corrections of a period are numbered from 1, and their quantities add up to what was counted last."""
    for lines in lines_by_key(records).values():
        for number, line in enumerate(lines):
            tally.check(line["correction"] == number, f"{line['id']} is correction {line['correction']}, not {number}")
        last = lines[-1]
        if last["usage_quantity"] is not None:
            total = sum((Fraction(line["quantity"]) for line in lines), Fraction(0))
            tally.check(total == Fraction(last["usage_quantity"]), f"{last['id']}: the quantities add up to {total}")


def steps_explain_amounts(records: Records, tally: Tally) -> None:
    """The rating steps that a customer can read add up to the line."""
    for line in records.rows("invoicing", "invoice_lines"):
        with tally.checking(line["id"]):
            steps = json.loads(line["rating_steps"])
            told = sum((Fraction(step["amount"]) for step in steps), Fraction(0))
            exact = Fraction(line["exact_amount"])
            rounded = rater.minor(exact, line["currency"])
            # What was billed before is taken off after rounding, which at half a cent below zero is another rounding.
            near = abs(rounded - line["amount_minor"]) <= (1 if line["correction"] or line["kind"] != OWED else 0)
            tally.check(told == exact and near, f"{line['id']}: its steps add up to {told}")
            for number, step in enumerate(steps):
                if step.get("kind"):
                    sign = -1 if line["kind"] in ("CREDIT", "REFUND") else 1
                    explained = Fraction(step["amount"]) == _explained(step, sign)
                    tally.check(explained, f"{line['id']}: step {number} is not {step['amount']}")


def negotiated_for_its_customer(records: Records, tally: Tally) -> None:
    """A price that was negotiated with a customer is on no line of anybody else."""
    prices = records.by("catalog", "prices", "id")
    invoices = {row["id"]: row for row in records.rows("invoicing", "invoices")}
    for line in standing_lines(records):
        if not line["price_id"]:
            continue  # what is of no item may have none
        with tally.checking(line["id"]):
            (price,) = prices[line["price_id"]]
            # Databases that are older than negotiated prices have no such column.
            whose = price.get("customer_id") or ""
            customer_id = used_by(line, invoices[line["invoice_id"]])
            tally.check(whose in ("", customer_id), f"{line['id']} of {customer_id} is at the price of {whose}")


def lines_sum_to_totals(records: Records, tally: Tally) -> None:
    """An invoice is the sum of its lines, all in its currency, less discounts, with taxes that they do not include."""
    lines = records.by("invoicing", "invoice_lines", "invoice_id")
    for invoice in records.rows("invoicing", "invoices"):
        own = lines.get(invoice["id"], ())
        for line in own:
            taken_off = sum(each["amount_minor"] for each in json.loads(line["discounts"]))
            tally.check(taken_off == line["discount_minor"], f"{line['id']}: discounts of {taken_off}")
        discount = sum(line["discount_minor"] for line in own)
        taxes = json.loads(invoice["taxes"])
        added = sum(tax["amount_minor"] for tax in taxes if not tax["is_included"])
        total = sum(line["amount_minor"] for line in own) - discount + added + invoice["rounding_minor"]
        alike = {line["currency"] for line in own} <= {invoice["currency"]}
        parts = (sum(tax["amount_minor"] for tax in taxes), discount)
        told = (invoice["tax_minor"], invoice["discount_minor"])
        holds = total == invoice["total_minor"] and len(own) == invoice["line_count"] and alike and parts == told
        tally.check(holds, f"{invoice['id']}: {invoice['total_minor']}, its {len(own)} lines {total}")


def numbers_gapless(records: Records, tally: Tally) -> None:
    """Every number of every series from 1 to the last is on exactly one document; a draft has none, nor has what came
    to nothing and was to be no document.
    """
    declared = {row["seller_id"] for row in records.rows("invoicing", "issuing_policies")}
    lines = records.by("invoicing", "invoice_lines", "invoice_id")
    used: dict[tuple[str, str], list[int]] = defaultdict(list)
    for invoice in records.rows("invoicing", "invoices"):
        number = invoice["number"] or ""
        is_draft = invoice["state"] == "DRAFT"
        tally.check(not (is_draft and number), f"{invoice['id']} is {invoice['state']} with {number!r}")
        if not is_draft and not number:
            amounts = {line["amount_minor"] for line in lines.get(invoice["id"], ())}
            holds = _may_be_unnumbered(invoice) and amounts <= {0} and invoice["seller_id"] in declared
            tally.check(holds, f"{invoice['id']} is {invoice['state']} over {sorted(amounts)} without a number")
        if number:
            prefix, _, digits = number.rpartition("-")
            used[invoice["seller_id"], prefix].append(int(digits))
    for note in records.rows("invoicing", "credit_notes"):
        prefix, _, digits = note["number"].rpartition("-")
        used[note["seller_id"], prefix].append(int(digits))
    for series in records.rows("invoicing", "number_series"):
        numbers = sorted(used.pop((series["seller_id"], series["prefix"]), []))
        missing = sorted(set(range(1, series["last"] + 1)) - set(numbers))
        extra = len(numbers) - len(set(numbers)) or max(numbers, default=0) > series["last"]
        fault = f"{missing[0]} is missing" if missing else "a number too many"
        tally.check(not missing and not extra, f"{series['seller_id']} {series['prefix']}: {fault}")
    for seller_id, prefix in used:
        tally.check(False, f"{seller_id} has numbers {prefix}- of no series")


def _may_be_unnumbered(invoice: Row) -> bool:
    """As far as it is not seen by its lines."""
    total: int = invoice["total_minor"]
    is_derived = invoice["origin"] == "BILL_RUN" and not invoice["top_up_rule_id"]
    return invoice["state"] in ("PAID", "VOID") and is_derived and total == 0


def expected(records: Records) -> Sequence[Billable]:
    """Everything that has to be billed by now, computed anew."""
    return records.once("billables", lambda: list(_expected(records)))


def _expected(records: Records) -> Iterator[Billable]:
    changes = records.by("subscriptions", "subscription_changes", "subscription_id")
    for row in records.rows("subscriptions", "subscriptions"):
        agreement = agreement_of(row, changes.get(row["id"], ()))
        yield from billables(agreement, through=records.now("invoicing", row["seller_id"]))


def lines_by_key(records: Records) -> Mapping[BilledKey, Sequence[Row]]:
    """The lines of each billed period, the first billing before its corrections."""
    return records.once("lines by key", lambda: _lines_by_key(records))


def _lines_by_key(records: Records) -> dict[BilledKey, list[Row]]:
    found: dict[BilledKey, list[Row]] = defaultdict(list)
    for line in _standing_lines(records):
        found[key_of(line)].append(line)
    return {key: sorted(lines, key=lambda line: line["correction"]) for key, lines in found.items()}


def beneficiaries(records: Records, invoice: Row) -> set[str]:
    """Whoever used what is on an invoice."""
    lines = records.by("invoicing", "invoice_lines", "invoice_id").get(invoice["id"], ())
    return {used_by(line, invoice) for line in lines}


def standing_lines(records: Records) -> Iterator[Row]:
    """All of them, whoever wrote them and for whatever."""
    # Databases that are older than void invoices have no such column.
    return (line for line in records.rows("invoicing", "invoice_lines") if not line.get("voided"))


def key_of(line: Row) -> BilledKey:
    return BilledKey(line["item_id"], line["price_id"], line["period_start"], line["kind"], line["change_id"])


def span_of(line: Row) -> Span:
    return Span(line["period_start"], line["period_end"])


def _standing_lines(records: Records) -> Iterator[Row]:
    """Of items, on invoices that count: what is annulled was never billed. Other invariants look at all else."""
    return (line for line in standing_lines(records) if line["kind"] not in OF_NO_ITEM)


def _void_lines(records: Records) -> Mapping[BilledKey, Sequence[Row]]:
    found: dict[BilledKey, list[Row]] = defaultdict(list)
    for line in records.rows("invoicing", "invoice_lines"):
        if line.get("voided") and line["kind"] not in OF_NO_ITEM:
            found[key_of(line)].append(line)
    return found


def _used(line: Row, billable: Billable | None, tariff: Tariff, counting: Counting) -> Used:
    """A quantity as the line tells it, which another invariant counts anew, or all else from the usage events."""
    if isinstance(tariff.model, OF_EVENTS) and line["meter"]:
        return counting.used(line, counting.considered(line, span_of(line), tariff.model), tariff.model)
    if line["usage_quantity"] is not None:
        return Used(quantity=Fraction(line["usage_quantity"]))
    if billable is not None and billable.terms.price.quantity is not None:
        return Used(quantity=billable.terms.price.quantity)
    return Used(quantity=Fraction(line["quantity"]))


def _explained(step: Mapping[str, Any], sign: int) -> Fraction:  # Any: JSON as invoicing stores a step
    """What a step comes to by its own numbers; of a kind that has none to multiply it is taken at its word."""
    match step["kind"]:
        case "UNITS" | "PACKAGES" | "FIXED_FEE":
            return sign * Fraction(step["quantity"]) * Fraction(step["unit_price"])
        case "PERCENT":
            return sign * Fraction(step["quantity"]) * Fraction(step["percent"]) / 100
        case "CONVERSION" | "FREE" | "REMARK":
            return Fraction(0)
    return Fraction(step["amount"])


def _licensed(billable: Billable, prices: Mapping[str, tuple[str, Tariff]]) -> int:
    """What a billable comes to that has a quantity, below zero for a credit."""
    currency, tariff = prices[billable.terms.price.id]
    assert billable.terms.price.quantity is not None, "only what is licensed is billed in advance"
    whole = rater.minor(rater.cost(tariff, Used(quantity=billable.terms.price.quantity)) * billable.share, currency)
    return whole if billable.kind == OWED else -whole


_BILLING: Final = ("subscriptions", "invoicing")

INVARIANTS: Final = (
    Invariant(name="every period of every item is invoiced exactly once", needs=_BILLING, verify=every_period_once),
    Invariant(name="no two lines of an item overlap", needs=_BILLING, verify=no_overlap),
    Invariant(
        name="every credit is taken off as soon as it can be", needs=("catalog", *_BILLING), verify=credits_taken_off
    ),
    Invariant(
        name="every amount agrees with the independent rater",
        needs=("catalog", "metering", *_BILLING),
        verify=amounts_rated_anew,
    ),
    Invariant(
        name="a negotiated price is only on lines of its customer",
        needs=("catalog", "invoicing"),
        verify=negotiated_for_its_customer,
    ),
    Invariant(name="corrections of a period add up", needs=("invoicing",), verify=corrections_add_up),
    Invariant(name="rating steps explain every amount", needs=("invoicing",), verify=steps_explain_amounts),
    Invariant(name="lines sum to totals", needs=("invoicing",), verify=lines_sum_to_totals),
    Invariant(name="invoice numbers are gapless and unique", needs=("invoicing",), verify=numbers_gapless),
)
