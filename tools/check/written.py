"""Invariants of what somebody wrote by hand: it costs what it says, and is on one invoice, or waits for one."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Final

from tools.check import rater
from tools.check.rater import Used
from tools.check.records import Records
from tools.check.report import Invariant, Tally
from tools.check.tariff import tariffs


def lines_cost_what_they_say(records: Records, tally: Tally) -> None:
    """The quantity at the unit price, or rated by the price that is named, or the one amount that was agreed."""
    prices = tariffs(records)
    for line in records.rows("invoicing", "invoice_lines"):
        if line["kind"] != "MANUAL":
            continue
        with tally.checking(line["id"]):
            quantity = Fraction(line["quantity"])
            steps = json.loads(line["rating_steps"])
            if line["price_id"]:
                currency, tariff = prices[line["price_id"]]
                exact = rater.cost(tariff, Used(quantity=quantity))
            else:
                currency = line["currency"]
                (step,) = steps
                exact = Fraction(step["amount"])
                if step["unit_price"] is not None:
                    exact = quantity * Fraction(step["unit_price"])
            amount = rater.minor(exact, currency)
            tally.check(
                (amount, currency) == (line["amount_minor"], line["currency"]) and amount >= 0,
                f"{line['id']} is {line['amount_minor']} {line['currency']}, by what it says {amount} {currency}",
            )


def written_once(records: Records, tally: Tally) -> None:
    """A line waits or is on an invoice, never both; none waits beyond its time; nothing else is on what was written."""
    billed = {line["id"] for line in records.rows("invoicing", "invoice_lines")}
    for row in records.rows("invoicing", "pending_lines"):
        tally.check(row["id"] not in billed, f"{row['id']} waits, and is on an invoice")
        alone, now = row["bill_alone_time"], records.now("invoicing", row["seller_id"])
        tally.check(alone is None or alone > now, f"{row['id']} waits since {alone}")
    lines = records.by("invoicing", "invoice_lines", "invoice_id")
    for invoice in records.rows("invoicing", "invoices"):
        if invoice["origin"] == "MANUAL":
            others = [line["id"] for line in lines.get(invoice["id"], ()) if line["kind"] != "MANUAL"]
            tally.check(not others, f"{invoice['id']} was written by hand and has {', '.join(others)}")


INVARIANTS: Final = (
    Invariant(
        name="what was written by hand costs what it says",
        needs=("catalog", "invoicing"),
        verify=lines_cost_what_they_say,
    ),
    Invariant(name="what was written by hand is billed at most once", needs=("invoicing",), verify=written_once),
)
