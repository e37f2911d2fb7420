"""Invariant of usage that nobody counts: as far as was looked for it, what it names and there is not was told."""

from __future__ import annotations

from collections import Counter
from typing import Final

from tools.check import corrections
from tools.check.records import Records
from tools.check.report import Invariant, Tally

METER, CUSTOMER = "UNKNOWN_METER", "UNKNOWN_CUSTOMER"
OPEN_MAX: Final = 1_000
"""While so many of a seller are told of and not there, no more are told of."""


def unmatched_told(records: Records, tally: Tally) -> None:
    """Found anew from the log, the meters and the names of customers; and what is there by now is not said to be
    missing.
    """
    meters = {(row["seller_id"], row["code"]) for row in records.rows("metering", "meters")}
    names = {(row["seller_id"], row["name"]) for row in records.rows("metering", "customer_names")}
    heard = {row["seller_id"] for row in records.rows("metering", "sellers_with_customers")}
    looked = {row["seller_id"]: row["position"] for row in records.rows("metering", "unmatched_looks")}
    there = {METER: meters, CUSTOMER: names}
    told = set()
    for row in records.rows("metering", "unmatched_names"):
        if row["matched_time"] is None:
            told.add((row["seller_id"], row["reason"], row["name"]))
            appeared = (row["seller_id"], row["name"]) in there[row["reason"]]
            tally.check(not appeared, f"{row['id']} is there, and said to be missing")
    count = Counter(seller_id for seller_id, *_ in told)
    ends = corrections.ends(records)
    missing: set[tuple[str, str, str]] = set()
    for event in corrections.events(records):
        seller_id = event["seller_id"]
        stands = (seller_id, event["position"]) not in ends
        if not stands or event["position"] > looked.get(seller_id, 0) or count[seller_id] >= OPEN_MAX:
            continue
        if (seller_id, event["meter"]) not in meters:
            missing.add((seller_id, METER, event["meter"]))
        elif seller_id in heard and (seller_id, event["customer"]) not in names:
            missing.add((seller_id, CUSTOMER, event["customer"]))
    for seller_id, reason, name in sorted(missing):
        tally.check((seller_id, reason, name) in told, f"{reason} of {seller_id}: nobody was told of {name}")


INVARIANTS: Final = (Invariant(name="what nobody counts was told of", needs=("metering",), verify=unmatched_told),)
