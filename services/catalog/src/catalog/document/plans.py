"""Knows how a plan is written in a document: an entry for each version that is open, will be, or is being written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

from catalog.convert import plan_terms_from_proto
from catalog.document.entries import PlanEntry, PriceEntry
from catalog.document.places import INT32_MAX, NUMBER, UTC, Places, interval
from catalog.document.prices import read_price
from catalog.domain.plan import State
from common.document import Faults, Value, check_unique
from common.errors import InvalidArgument
from saldo.catalog.v1 import catalog_service_pb2, plan_pb2

KINDS: Final = ("BASE", "ADD_ON")
STATES: Final = ("ACTIVE", "DRAFT", "ARCHIVED")
UNLIMITED: Final = "unlimited"


def read_plan(value: Value) -> PlanEntry:
    fields = value.fields(
        required=["code", "display_name"],
        optional=["state", "effective", "kind", "trial_days", "entitlements", "prices"],
    )
    faults = Faults()
    places = Places(value)
    request = catalog_service_pb2.CreatePlanRequest()
    state = State.ACTIVE
    effective: datetime | None = None
    prices: list[PriceEntry] = []
    with faults.kept():
        fields["code"].code()
    with faults.kept():
        request.display_name = places.note("display_name", fields["display_name"]).text()
    with faults.kept():
        if "state" in fields:
            state = State[fields["state"].choice(STATES)]
    with faults.kept():
        if "effective" in fields:
            effective = _effective(fields["effective"], state)
    with faults.kept():
        if "kind" in fields:
            request.kind = plan_pb2.Plan.Kind.Value(fields["kind"].choice(KINDS))
    with faults.kept():
        if "trial_days" in fields:
            request.trial_days = places.note("trial_days", fields["trial_days"]).whole(0, INT32_MAX)
    with faults.kept():
        if "entitlements" in fields:
            request.entitlements.extend(_entitlements(fields["entitlements"], places))
    with faults.kept():
        if "prices" in fields:
            prices = fields["prices"].each(read_price)
            check_unique(fields["prices"].items(), [price.price.code for price in prices], "price")
    faults.check()
    try:
        terms = plan_terms_from_proto(request, ())
    except InvalidArgument as error:
        raise places.malformed(error) from None
    return PlanEntry(code=fields["code"].written, state=state, effective=effective, terms=terms, prices=tuple(prices))


def check_versions(entries: Sequence[tuple[PlanEntry, Value]]) -> None:
    """Entries of one code are versions in order of time: at most the first without an instant, a draft last."""
    faults = Faults()
    for (before, _), (entry, value) in pairwise(entries):
        with faults.kept():
            _check_version(entry, value, before)
    faults.check()


def _check_version(entry: PlanEntry, value: Value, before: PlanEntry) -> None:
    if before.state is State.DRAFT:
        raise value.fault(f"there is a draft of plan {entry.code} before it, which can only stand last")
    if entry.state is State.DRAFT:
        return
    if State.ARCHIVED in (entry.state, before.state):
        raise value.fault(f"plan {entry.code} cannot be ARCHIVED and open")
    if entry.effective is None:
        raise value.fault(f"plan {entry.code} stands before it, so it must say from when on it is effective")
    if before.effective is not None and entry.effective <= before.effective:
        raise value.fault(f"must be effective later than what stands before it of plan {entry.code}")


def _effective(value: Value, state: State) -> datetime:
    if state is not State.ACTIVE:
        raise value.fault(f"must be absent: what is {state.name} does not take effect")
    return value.moment(UTC)


def _entitlements(value: Value, places: Places) -> list[plan_pb2.PlanEntitlement]:
    places.note("entitlements", value)
    return [
        _entitlement(feature, grant, places, path=f"entitlements[{n}]")
        for n, (feature, grant) in enumerate(value.entries())
    ]


def _entitlement(feature: Value, grant: Value, places: Places, *, path: str) -> plan_pb2.PlanEntitlement:
    """`true`, `false`, the most there may be, `unlimited`, or `{quota: 1000, every: MONTH}`."""
    places.note(path, grant)
    proto = plan_pb2.PlanEntitlement(feature=places.note(f"{path}.feature", feature).code())
    if grant.is_mapping:
        fields = grant.fields(required=["quota"], optional=["every"])
        if "every" in fields:
            proto.reset_interval.CopyFrom(interval(places.note(f"{path}.reset_interval", fields["every"])))
        grant, name = fields["quota"], "quota"
    else:
        name = "limit"
    written = grant.scalar(f"true, false, {NUMBER} or {UNLIMITED}")
    if written == UNLIMITED:
        proto.unlimited = True
    elif written in ("true", "false") and name == "limit":
        proto.enabled = grant.boolean()
    else:
        places.number(proto, name, grant, path=f"{path}.{name}")
    return proto
