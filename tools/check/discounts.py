"""Invariants of discounts: nothing is taken off but what was given, and never more than there is, or than is left."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Any, Final

from tools.check.billing import source_of, standing_lines
from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally

Json = Mapping[str, Any]  # Any: JSON as the services store it
Period = tuple[datetime, datetime]


def never_more_than_there_is(records: Records, tally: Tally) -> None:
    """Of each line something between nothing and all of it; of a credit as much of the discount as of the rest."""
    for line in records.rows("invoicing", "invoice_lines"):
        amount, shares = line["amount_minor"], _shares(line)
        total = sum(share for _, share in shares)
        if amount >= 0:
            fits = total <= amount and all(share > 0 for _, share in shares)
        else:
            fits = amount <= total and all(share < 0 for _, share in shares)
        tally.check(fits, f"{line['id']}: {total} off {amount}")
        if line["kind"] in ("CREDIT", "REFUND"):
            source = source_of(line, records)
            given = 0 if source is None else source["discount_minor"]
            of = 1 if source is None else source["amount_minor"]
            # Each share is rounded by itself, and so is each part of a credit.
            near = len(shares) + (1 if line["correction"] or given else 0)
            exact = Fraction(amount * given, of) if of else Fraction(0)
            tally.check(abs(total - exact) <= near, f"{line['id']} takes back {total}, its share is {float(exact)}")


def given_discounts_are_taken(records: Records, tally: Tally) -> None:
    """What was given by hand is what was taken: a percentage of what was left, or an amount as far as there was any."""
    lines = records.by("invoicing", "invoice_lines", "invoice_id")
    for invoice in records.rows("invoicing", "invoices"):
        own = lines.get(invoice["id"], ())
        for line in own:
            left = line["amount_minor"]
            for given in json.loads(line["given_discounts"]):
                taken = dict(_shares(line)).get(given["id"], 0)
                tally.check(taken == _worth(given, left), f"{line['id']}: {given['id']} took {taken}")
                left -= taken
        owed = [line for line in own if line["amount_minor"] >= 0]
        general = json.loads(invoice["given_discounts"])
        left = sum(line["amount_minor"] - _before(line, general) for line in owed)
        for given in general:
            taken = sum(dict(_shares(line)).get(given["id"], 0) for line in owed)
            tally.check(taken == _worth(given, left), f"{invoice['id']}: {given['id']} took {taken} of {left}")
            left -= taken


def coupons_are_applied(records: Records, tally: Tally) -> None:
    """A coupon discounts what it was applied to, by its percentage or its amount, in as many periods as it says."""
    coupons = {row["id"]: _Coupon(row) for row in records.rows("catalog", "coupons")}
    applied, products = _applied(records), _products(records)
    customers = {row["id"]: row["customer_id"] for row in records.rows("invoicing", "invoices")}
    for line in standing_lines(records):
        shares = dict(_shares(line))
        for coupon_id in dict.fromkeys([*line["coupon_ids"], *(each for each in shares if each.startswith("coup_"))]):
            with tally.checking(f"{line['id']} {coupon_id}"):
                coupon, share = coupons[coupon_id], shares.get(coupon_id, 0)
                coupon.note(line, share, customers[line["invoice_id"]])
                if line["amount_minor"] < 0:
                    continue  # what it takes back, another invariant looks at
                told = coupon_id in line["coupon_ids"] and coupon_id in applied.get(line["subscription_id"], ())
                fits = told and (not coupon.products or products.get(line["price_id"]) in coupon.products)
                tally.check(fits, f"{line['id']}: {coupon_id} was not applied to it")
                if coupon.percent is not None and (share or coupon.periods_max is None):
                    left = line["amount_minor"] - _until(line, coupon_id)
                    near = abs(share - left * coupon.percent / 100) <= 1
                    tally.check(near, f"{line['id']}: {coupon_id} took {share} of {left}")
    for coupon in coupons.values():
        for (whose, currency), used in coupon.used.items():
            most = coupon.amounts.get(currency, 0)
            tally.check(0 <= used <= most, f"{coupon.id}: {whose} used {used} of {most} {currency}")
        for item_id, periods in coupon.periods.items():
            few = coupon.periods_max is None or len(periods) <= coupon.periods_max
            tally.check(few, f"{coupon.id} discounts {len(periods)} periods of {item_id}")


class _Coupon:
    """A coupon of the catalog, and what became of it."""

    def __init__(self, row: Row) -> None:
        benefit = json.loads(row["benefit"])
        self.id = row["id"]
        self.duration = row["duration"]
        self._duration_periods: int = row["duration_periods"]
        self.products = frozenset(row["products"])
        self.percent = Fraction(benefit["percent"]) if "percent" in benefit else None
        self.amounts = {each["currency"]: int(each["minor"]) for each in benefit.get("amounts", ())}
        self.used: dict[tuple[object, str], int] = defaultdict(int)
        self.periods: dict[str, set[Period]] = defaultdict(set)

    @property
    def periods_max(self) -> int | None:
        """How many full periods of an item it discounts; None for as many as there are."""
        once = 1 if self.percent is not None else None
        return {"ONCE": once, "REPEATING": self._duration_periods}.get(self.duration)

    def note(self, line: Row, share: int, customer_id: str) -> None:
        full = (line["full_period_start"], line["full_period_end"])
        if self.percent is None:
            whose: object = customer_id if self.duration == "ONCE" else (line["subscription_id"], full)
            self.used[whose, line["currency"]] += share
        if share > 0:
            self.periods[line["item_id"]].add(full)


def _shares(line: Row) -> Sequence[tuple[str, int]]:
    return [(each["discount_id"], each["amount_minor"]) for each in json.loads(line["discounts"])]


def _until(line: Row, discount_id: str) -> int:
    """What those before it took off."""
    taken = 0
    for each, share in _shares(line):
        if each == discount_id:
            break
        taken += share
    return taken


def _before(line: Row, general: Sequence[Json]) -> int:
    """What was taken off before those of all lines together."""
    ids = {each["id"] for each in general}
    return sum(share for each, share in _shares(line) if each not in ids)


def _worth(given: Json, left: int) -> int:
    if "percent" in given:
        return _half_up(left * Fraction(given["percent"]) / 100)
    return min(int(given["amount_minor"]), left)


def _half_up(number: Fraction) -> int:
    return int(number + Fraction(1, 2))


def _products(records: Records) -> Mapping[str, str]:
    """The code of the product of every price."""
    codes = {row["id"]: row["code"] for row in records.rows("catalog", "products")}
    return {row["id"]: codes.get(row["product_id"], "") for row in records.rows("catalog", "prices")}


def _applied(records: Records) -> Mapping[str, set[str]]:
    """The coupons that were ever applied to each subscription."""
    found: dict[str, set[str]] = defaultdict(set)
    for change in records.rows("subscriptions", "subscription_changes"):
        found[change["subscription_id"]].update(_named(json.loads(change["actions"])))
    for row in records.rows("subscriptions", "subscriptions"):
        found[row["id"]].update(_named(json.loads(row["opening"])))
    return found


def _named(told: Any) -> Iterator[str]:  # Any: JSON
    """Every coupon that is named somewhere in it."""
    if isinstance(told, dict):
        for key, value in told.items():
            if key == "coupon_id":
                yield str(value)
            else:
                yield from _named(value)
    elif isinstance(told, list):
        for each in told:
            yield from _named(each)


INVARIANTS: Final = (
    Invariant(
        name="no discount is more than there is to take off", needs=("invoicing",), verify=never_more_than_there_is
    ),
    Invariant(name="what was given by hand was taken off", needs=("invoicing",), verify=given_discounts_are_taken),
    Invariant(
        name="coupons discount what they were applied to, as far as they go",
        needs=("catalog", "subscriptions", "invoicing"),
        verify=coupons_are_applied,
    ),
)
