"""Invariants of taxes: every line by the rules of its time, and every tax what its lines come to.

The arithmetic is written here once more. What is not included: the sum of what carries a rate, times its percent,
rounded half up once. What is included: with one rate the sum of what carries it, divided by one and the rate and
rounded half up, is without tax, and the rest is the tax; with several no part is further than a cent from what it is
exactly, for each different set of rates that has it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from common import ids
from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally

CATEGORIES: Final = {"VATEX-EU-AE": "AE", "VATEX-EU-IC": "K", "VATEX-EU-G": "G", "VATEX-EU-O": "O"}
"""Reasons that are a category of their own; every other one is E."""

ASKED_BEFORE: Final = timedelta(minutes=1)
"""Who the customer is may have been asked that long before what taxes there are."""

Stack = tuple[str, ...]
"""The ids of the rates that a line carries."""

Told = Mapping[str, Any]  # Any: JSON as a service stores a tax or an exemption


class Share(NamedTuple):
    """What a rate takes on an invoice."""

    percent: Fraction
    is_compound: bool


def taxes_add_up(records: Records, tally: Tally) -> None:
    """Every tax that an invoice tells is carried by lines, and comes to what they make of it; and no other is."""
    rates = _rates(records)
    lines = records.by("invoicing", "invoice_lines", "invoice_id")
    for invoice in records.rows("invoicing", "invoices"):
        stacks: dict[Stack, int] = defaultdict(int)
        for line in lines.get(invoice["id"], ()):
            stacks[tuple(sorted(line["tax_rate_ids"]))] += line["amount_minor"] - line["discount_minor"]
        told = json.loads(invoice["taxes"])
        carried = {rate_id for stack in stacks for rate_id in stack}
        if not carried and not told:
            continue
        own = {tax["rate_id"]: tax for tax in told}
        where = invoice["id"]
        same = own.keys() == carried and len(own) == len(told)
        tally.check(same, f"{where} tells taxes {sorted(own)}, its lines carry {sorted(carried)}")
        for rate_id in sorted(own.keys() & carried) if same else ():
            with tally.checking(f"{where} {rate_id}"):
                shares = {
                    each: Share(Fraction(tax["percent"]) / 100, rates[invoice["seller_id"], each]["is_compound"])
                    for each, tax in own.items()
                }
                _check_tax(where, own[rate_id], rates[invoice["seller_id"], rate_id], shares, stacks, tally)


def lines_taxed_by_their_rules(records: Records, tally: Tally) -> None:
    """Each line carries the rates that the most specific rule of its moment names, as it was known when it was taxed.

    A sandbox's clock may stand still while rules are set and bills are made: what happened at that very instant may
    have been known or not.
    """
    rules = _rules(records)
    lines = records.by("invoicing", "invoice_lines", "invoice_id")
    for invoice in records.rows("invoicing", "invoices"):
        known, at = invoice["tax_time"], invoice["bill_time"]
        for line in lines.get(invoice["id"], ()):
            carried = tuple(line["tax_rate_ids"])
            if known is None:
                tally.check(not carried, f"{line['id']} was taxed before there were taxes")
                continue
            scopes = [("CUSTOMER", invoice["customer_id"]), ("TAX_CODE", line["tax_code"]), ("DEFAULT", "")]
            could = _decided([rules.get((invoice["seller_id"], *scope), ()) for scope in scopes], known, at)
            tally.check(carried in could, f"{line['id']} is taxed at {carried}, by the rules at {sorted(could)}")


def exempt_are_not_taxed(records: Records, tally: Tally) -> None:
    """Where a customer was exempt when an invoice was taxed, and still is, nothing is due by the rates of the place."""
    exemptions = {row["id"]: json.loads(row["tax_exemptions"]) for row in records.rows("subscriptions", "customers")}
    rates = _rates(records)
    for invoice in records.rows("invoicing", "invoices"):
        if invoice["tax_time"] is None or invoice["state"] == "DRAFT":
            continue
        address = json.loads(invoice["customer_party"])["address"] or {}
        home = (address.get("region_code", ""), address.get("administrative_area", ""))
        on = invoice["bill_time"].astimezone(ZoneInfo(invoice["time_zone"])).date()
        valid = [
            each
            for each in exemptions.get(invoice["customer_id"], ())
            if ids.instant_of(each["id"]) < invoice["tax_time"] - ASKED_BEFORE and _holds(each, on)
        ]
        for tax in json.loads(invoice["taxes"]):
            rate = rates[invoice["seller_id"], tax["rate_id"]]
            country, region = (rate["country"], rate["region"]) if rate["country"] else home
            free = any(each["country"] == country and each["region"] in ("", region) for each in valid)
            told = Decimal(tax["percent"]) == 0 and bool(tax["exemption_reason"])
            tally.check(told or not free, f"{invoice['id']}: {rate['id']} of somebody who is exempt")


def _check_tax(
    where: str, tax: Told, rate: Row, own: Mapping[str, Share], stacks: Mapping[Stack, int], tally: Tally
) -> None:
    declared = (rate["name"], rate["is_inclusive"])
    tally.check((tax["name"], tax["is_included"]) == declared, f"{where}: {rate['id']} is told as another")
    if tax["category"] == rate["category"]:
        same = (Decimal(tax["percent"]), tax["exemption_reason"]) == (rate["percent"], rate["exemption_reason"])
    else:
        category = CATEGORIES.get(tax["exemption_reason"], "E")
        same = tax["exemption_reason"] != "" and tax["category"] == category and Decimal(tax["percent"]) == 0
    tally.check(same, f"{where}: {rate['id']} at {tax['percent']} % in {tax['category']}")
    found = {stack: minor for stack, minor in stacks.items() if rate["id"] in stack}
    told = (tax["taxable_minor"], tax["amount_minor"])
    percent = own[rate["id"]].percent
    if not rate["is_inclusive"]:
        base = _half_up(sum(minor * _base(rate["id"], stack, own) for stack, minor in found.items()))
        due = _half_up(base * percent)
        tally.check(told == (base, due), f"{where}: {rate['id']} comes to {due} of {base}, not {told}")
        return
    # What things cost without tax, of each set of rates that has this one, exactly.
    nets = {stack: minor / (1 + _all(stack, own)) for stack, minor in found.items()}
    taxable = sum((net * _base(rate["id"], stack, own) for stack, net in nets.items()), Fraction(0))
    if list(found) == [(rate["id"],)]:
        holds = told == (_half_up(taxable), sum(found.values()) - _half_up(taxable))
    else:
        many = len(found) * len(own)
        holds = abs(told[0] - taxable) < many and abs(told[1] - taxable * percent) < len(found)
    tally.check(holds, f"{where}: {rate['id']}, included, comes to {float(taxable * percent):.2f}, not {told}")


def _base(rate_id: str, stack: Stack, own: Mapping[str, Share]) -> Fraction:
    """What a rate is a share of, as a multiple of what a thing costs without tax."""
    if not own[rate_id].is_compound:
        return Fraction(1)
    return 1 + sum((own[each].percent for each in stack if not own[each].is_compound), Fraction(0))


def _all(stack: Stack, own: Mapping[str, Share]) -> Fraction:
    return sum((own[each].percent * _base(each, stack, own) for each in stack), Fraction(0))


def _half_up(number: Fraction | int) -> int:
    whole = int(abs(Fraction(number)) + Fraction(1, 2))
    return -whole if number < 0 else whole


def _decided(scopes: Iterable[Sequence[Row]], known: datetime, at: datetime) -> set[Stack]:
    """What rates the rules may have come to: those of the first scope that has a rule."""
    found: set[Stack] = set()
    for rules in scopes:
        outcomes = _outcomes(rules, known, at)
        found |= {outcome for outcome in outcomes if outcome is not None}
        if None not in outcomes:
            return found
    return found | {()}


def _outcomes(rules: Sequence[Row], known: datetime, at: datetime) -> set[Stack | None]:
    """What one scope may have come to; None for no rule."""
    sure = [rule for rule in rules if rule["create_time"] < known and not _never(rule) and rule["start_time"] <= at]
    last = max(sure, key=lambda rule: (rule["start_time"], rule["id"]), default=None)
    ended = last is not None and last["end_time"] is not None and last["end_time"] <= at
    outcomes: set[Stack | None] = {None if last is None or ended else tuple(last["rate_ids"])}
    for rule in rules:
        if rule["start_time"] <= at and known in (rule["create_time"], rule["end_time"]):
            outcomes |= {tuple(rule["rate_ids"]), None}
    return outcomes


def _never(rule: Row) -> bool:
    """Whether it was taken back before it began."""
    return rule["end_time"] is not None and bool(rule["end_time"] <= rule["start_time"])


def _holds(exemption: Told, on: date) -> bool:
    start, end = exemption["start_date"], exemption["end_date"]
    return (not start or date.fromisoformat(start) <= on) and (not end or on < date.fromisoformat(end))


def _rates(records: Records) -> dict[tuple[str, str], Row]:
    return {(row["seller_id"], row["id"]): row for row in records.rows("invoicing", "tax_rates")}


def _rules(records: Records) -> dict[tuple[str, str, str], list[Row]]:
    found: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in records.rows("invoicing", "tax_rules"):
        found[row["seller_id"], row["scope"], row["scope_key"]].append(row)
    return found


INVARIANTS: Final = (
    Invariant(name="taxes are what the lines come to", needs=("invoicing",), verify=taxes_add_up),
    Invariant(
        name="every line is taxed by the rules of its time", needs=("invoicing",), verify=lines_taxed_by_their_rules
    ),
    Invariant(name="who is exempt is not taxed", needs=("subscriptions", "invoicing"), verify=exempt_are_not_taxed),
)
