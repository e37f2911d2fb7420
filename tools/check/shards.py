"""The invariant of shards: whoever stores a seller's usage knows all of it, for all of it is in one place."""

from __future__ import annotations

from typing import Final

from tools.check.records import Records
from tools.check.report import Invariant, Tally


def each_seller_is_in_one_shard(records: Records, tally: Tally) -> None:
    """Everything of a seller, archived or not, is in leaves of the shard that was decided for the seller, and that is
    one of those that replicas look for to own."""
    shard_of = {row["leaf"]: row["shard"] for row in records.rows("metering", "usage_leaves")}
    if not shard_of:
        return  # who reads one seller's records alone sees no part of the log
    shards = {row["shard"] for row in records.rows("metering", "shards")}
    decided = {row["seller_id"]: row["shard"] for row in records.rows("metering", "positions")}
    for seller_id, shard in decided.items():
        tally.check(shard in shards, f"nobody would own shard {shard} of {seller_id}")
    found = {
        (row["seller_id"], row["leaf"])
        for table in ("usage_events", "usage_archives")
        for row in records.rows("metering", table)
    }
    for seller_id, leaf in sorted(found):
        shard = shard_of.get(leaf)
        tally.check(shard == decided.get(seller_id), f"{seller_id} has usage in leaf {leaf} of shard {shard}")


INVARIANTS: Final = (
    Invariant(
        name="a seller's usage is in one shard of the log", needs=("metering",), verify=each_seller_is_in_one_shard
    ),
)
