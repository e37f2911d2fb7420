"""Invariants of what is sold: one version of a plan at a time, for what was said when it was published."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC
from decimal import Decimal
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.type import decimal_pb2

from saldo.catalog.v1 import events_pb2, plan_pb2, price_pb2
from tools.check.records import Records, Row
from tools.check.report import Invariant, Tally

Plain = dict[str, Any]  # Any: what JSON can hold, numbers as Decimal

_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")


def one_version_at_a_time(records: Records, tally: Tally) -> None:
    """Versions count from 1, only the last is a draft, and each is sold until the next takes effect."""
    versions: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in sorted(records.rows("catalog", "plans"), key=lambda row: int(row["version"])):
        versions[row["seller_id"], row["code"]].append(row)
    for (_, code), rows in versions.items():
        numbers = [row["version"] for row in rows]
        tally.check(numbers == list(range(1, len(rows) + 1)), f"plan {code} has versions {numbers}")
        for row in rows[:-1]:
            tally.check(row["state"] != "DRAFT", f"{row['id']} is a draft and has a successor")
        sold = [row for row in rows if row["state"] == "ACTIVE"]
        for row, following in zip(sold, [*sold, None][1:], strict=True):
            until = _effective(following) if following else None
            tally.check(row["superseded_time"] == until, f"{row['id']} is sold until {row['superseded_time']}")
            tally.check(until is None or until > _effective(row), f"{row['id']} ends before it takes effect")


def as_published(records: Records, tally: Tally) -> None:
    """Plans and negotiated prices are what was announced when they were made for ever."""
    plans = records.by("catalog", "plans", "id")
    prices = records.by("catalog", "prices", "id")
    for row in records.rows("catalog", "outbox"):
        with tally.checking(row["aggregate_id"]):
            match row["subject"].rpartition(".")[2]:
                case "PlanPublished":
                    plan = events_pb2.PlanPublished.FromString(row["payload"]).plan
                    [stored] = plans[plan.id]
                    of_plan = records.by("catalog", "prices", "plan_id")[plan.id]
                    offered = [price for price in of_plan if price["position"] is not None]
                    offered.sort(key=lambda price: int(price["position"]))
                    _compare(tally, plan.id, _stored_plan(stored, offered), _told_plan(plan))
                    told = list(plan.prices)
                case "PriceNegotiated":
                    told = [events_pb2.PriceNegotiated.FromString(row["payload"]).price]
                case _:
                    continue
            for price in told:
                [stored] = prices[price.id]
                _compare(tally, price.id, _stored_price(stored), _told_price(price))


def _compare(tally: Tally, what: str, stored: Plain, told: Plain) -> None:
    differing = sorted(key for key in stored.keys() | told.keys() if stored.get(key) != told.get(key))
    tally.check(not differing, f"{what}: {', '.join(differing)} not as announced")


def _stored_plan(row: Row, prices: Sequence[Row]) -> Plain:
    return {
        "code": row["code"],
        "version": row["version"],
        "display_name": row["display_name"],
        "kind": row["kind"],
        "entitlements": [_plain(each) for each in json.loads(row["entitlements"])],
        "trial_days": row["trial_days"],
        "publish_time": row["publish_time"],
        "effective_time": _effective(row),
        "prices": [price["id"] for price in prices],
    }


def _told_plan(plan: plan_pb2.Plan) -> Plain:
    """What the first release announced says nothing of versions: there was one, in effect at once."""
    published = plan.publish_time.ToDatetime(UTC)
    return {
        "code": plan.code,
        "version": plan.version or 1,
        "display_name": plan.display_name,
        "kind": plan_pb2.Plan.Kind.Name(plan.kind or plan_pb2.Plan.BASE),
        "entitlements": [_told(each) for each in plan.entitlements],
        "trial_days": plan.trial_days,
        "publish_time": published,
        "effective_time": plan.effective_time.ToDatetime(UTC) if plan.HasField("effective_time") else published,
        "prices": [price.id for price in plan.prices],
    }


def _stored_price(row: Row) -> Plain:
    same = ("id", "plan_id", "code", "product_id", "currency", "meter", "customer_id", "list_price_id")
    stored: Plain = _plain(
        {
            **{name: row[name] for name in same},
            "billing_interval": {"unit": row["interval_unit"], "count": row["interval_count"]},
            "billing_timing": row["timing"],
            **json.loads(row["operators"]),
            **json.loads(row["model"]),
        }
    )
    return stored


def _told_price(price: price_pb2.Price) -> Plain:
    told = _told(price)
    told.pop("create_time", None)
    return told


def _told(message: Message) -> Plain:
    """A message in the form in which the catalog stores one: the name of the model beside its fields."""
    told: Plain = {}
    for field, value in message.ListFields():
        if field.containing_oneof is not None and field.containing_oneof.name == "model":
            told |= {"model": field.name.upper(), **_told(value)}
        else:
            told[field.name] = [_value(field, each) for each in value] if field.is_repeated else _value(field, value)
    plain: Plain = _plain(told)
    return plain


def _value(field: FieldDescriptor, value: Any) -> Any:  # Any: a field of any kind
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    if isinstance(value, decimal_pb2.Decimal):
        return value.value
    return _told(value) if isinstance(value, Message) else value


def _plain(value: Any) -> Any:  # Any: what JSON can hold
    """Without what is absent, empty or zero, which is the same; numbers as what they are worth."""
    match value:
        case Mapping():
            plain = {key: _plain(each) for key, each in value.items()}
            return {key: each for key, each in plain.items() if each}
        case list():
            return [_plain(each) for each in value]
        case str() if _NUMBER.fullmatch(value):
            return Decimal(value)
        case _:
            return value


def _effective(row: Row) -> Any:  # Any: an instant, or None in a draft
    return row["effective_time"] or row["publish_time"]


INVARIANTS: Final = (
    Invariant(name="one version of a plan is sold at a time", needs=("catalog",), verify=one_version_at_a_time),
    Invariant(name="what is sold is what was published", needs=("catalog",), verify=as_published),
)
