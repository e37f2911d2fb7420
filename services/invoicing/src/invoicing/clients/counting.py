"""What the invoicing service asks metering: what customers used, in as few calls as it can."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Final, NamedTuple

from common import wire
from common.period import Period
from common.rpc import Desk, NeighbourRefused
from invoicing.convert.neighbours import usage_from_proto
from invoicing.domain.errors import UsageTooDetailed
from invoicing.domain.line import Usage
from invoicing.domain.lines_due import UsageKey
from invoicing.domain.party import Customer
from saldo.metering.v1 import metering_service_pb2 as metering
from saldo.metering.v1 import usage_event_pb2
from saldo.metering.v1.metering_service_pb2_grpc import MeteringServiceStub

QUERIES_PER_CALL: Final = 1_000

NAMES_PER_CALL: Final = 10_000
"""Of customers, in all queries of a call: 5 MB if they are as long as names can be."""

VALUES_MAX: Final = 500_000
"""Of one period: they are gone through at once. When as many are held, no other period is asked for."""

VALUES_SHORTEST: Final = timedelta(milliseconds=1)
"""No period is halved further for its values. From a year, 35 halvings lead there."""


async def usages(
    desk: Desk, customer: Customer, keys: Collection[UsageKey], *, proven: bool = True
) -> dict[UsageKey, Usage]:
    """What the customer used in all these periods, on all these meters, told as each key needs it.

    Without a proof of what was counted it takes a fraction of the time: where it is only shown.
    What is told in detail may be too much to hold all of it. Then some keys are missing, those of the latest periods.
    """
    [found] = await usages_of_all(desk, [(customer, keys)], proven=proven)
    return found


async def usages_of_all(
    desk: Desk, asked: Sequence[tuple[Customer, Collection[UsageKey]]], *, proven: bool = True
) -> list[dict[UsageKey, Usage]]:
    """The same of many customers, in the order asked, in few calls."""
    found: list[dict[UsageKey, Usage]] = [{} for _ in asked]
    plain = (
        _Question(customer, key, answers)
        for (customer, keys), answers in zip(asked, found, strict=True)
        for key in sorted(keys, key=lambda key: (key.meter, key.period.start, key.period.end, key.needs.other_meters))
        if not in_detail(key)
    )
    for call in _calls(plain):
        queries = [
            usage_query(
                each.customer, plain_key(each.key, meter), begins=each.key.period.start, whole=None, proven=proven
            )
            for each in call
            for meter in each.key.meters
        ]
        counted = iter(await _counted(desk, queries))
        for each in call:
            own, *others = [usage_from_proto(next(counted), group_by=()) for _ in each.key.meters]
            each.answers[each.key] = own.beside(others)
    held = 0
    for (customer, keys), answers in zip(asked, found, strict=True):
        for key in sorted((key for key in keys if in_detail(key)), key=lambda key: key.period.start):
            if held > VALUES_MAX:
                break
            answers[key] = await _detailed(desk, customer, key)
            held += len(answers[key].values) + len(answers[key].groups)
    return found


async def as_counted(desk: Desk, customer: Customer, asked: Sequence[tuple[UsageKey, Usage]]) -> list[Usage]:
    """What was counted once for plain keys, through the same position by the same versions of the meters; in order."""
    found: list[Usage] = []
    rest = iter(asked)
    for call in _calls(_Question(customer, key, {}) for key, _ in asked):
        again = list(islice(rest, len(call)))
        queries = [
            usage_query(customer, plain_key(key, meter), begins=key.period.start, whole=before, proven=True)
            for key, before in again
            for meter in key.meters
        ]
        counted = iter(await _counted(desk, queries))
        for key, _ in again:
            own, *others = [usage_from_proto(next(counted), group_by=()) for _ in key.meters]
            found.append(own.beside(others))
    return found


class _Question(NamedTuple):
    """What is asked about a customer, and where the answer goes."""

    customer: Customer
    key: UsageKey
    answers: dict[UsageKey, Usage]


def in_detail(key: UsageKey) -> bool:
    return bool(key.needs.group_by) or key.needs.with_values


def plain_key(key: UsageKey, meter: str) -> UsageKey:
    return UsageKey(meter, key.period)


def _calls(questions: Iterable[_Question]) -> Iterator[list[_Question]]:
    """As many as one call answers. The meters of one key stay together: they are counted at the same moment."""
    call: list[_Question] = []
    size = names = 0
    for each in questions:
        meters = len(each.key.meters)
        more_names = meters * len(each.customer.names_from(each.key.period.start))
        if call and (size + meters > QUERIES_PER_CALL or names + more_names > NAMES_PER_CALL):
            yield call
            call, size, names = [], 0, 0
        call.append(each)
        size += meters
        names += more_names
    if call:
        yield call


async def _counted(desk: Desk, queries: Sequence[metering.UsageQuery]) -> Sequence[usage_event_pb2.Usage]:
    answer = await desk.ask(MeteringServiceStub).BatchQueryUsage(metering.BatchQueryUsageRequest(queries=queries))
    return answer.usages


async def usage_of(
    desk: Desk, customer: Customer, key: UsageKey, *, part_of: UsageKey | None = None, whole: Usage | None = None
) -> Usage:
    """`part_of`: what the customer is called depends on when the whole period begins, not on when a part of it does.
    `whole`: how far was counted, and by which version of the meter, was decided when that was asked for.
    """
    query = usage_query(customer, key, begins=(part_of or key).period.start, whole=whole, proven=True)
    [found] = await _counted(desk, [query])
    return usage_from_proto(found, group_by=key.needs.group_by)


def usage_query(
    customer: Customer, key: UsageKey, *, begins: datetime, whole: Usage | None, proven: bool
) -> metering.UsageQuery:
    names = customer.names_from(begins)
    return metering.UsageQuery(
        customer_id=customer.party.id,
        # Also by itself: the release before knows of no other names.
        external_id=customer.external_id if customer.external_id in names else "",
        names=names,
        meter=key.meter,
        period=wire.interval(key.period),
        group_by=key.needs.group_by,
        with_values=key.needs.with_values,
        through_position=whole.through_position if whole else None,
        meter_version=whole.meter_versions.get(key.meter, 0) if whole else 0,
        without_proof=not proven,
    )


async def _detailed(desk: Desk, customer: Customer, key: UsageKey) -> Usage:
    """In a call of its own: its answer may be as large as an answer can be, and would make those of others late."""
    try:
        return await usage_of(desk, customer, key)
    except NeighbourRefused as error:
        if reason_of(error) == "TOO_MANY_VALUES":
            return await _valued_in_parts(desk, customer, key)
        if reason_of(error) == "TOO_MANY_GROUPS":
            raise _too_detailed(error, customer, key) from error
        raise


async def _valued_in_parts(desk: Desk, customer: Customer, key: UsageKey) -> Usage:
    """With values that are too many for one answer: those that were counted in the whole, whatever comes meanwhile."""
    whole = await usage_of(desk, customer, plain_key(key, key.meter))
    if whole.event_count > VALUES_MAX:
        raise UsageTooDetailed(
            f"{key.meter} has {whole.event_count} values, more than {VALUES_MAX}, in {key.period}",
            customer=customer.party.id,
            meter=key.meter,
        )
    return replace(whole, values=tuple(await values_in_parts(desk, customer, key, whole=whole)))


async def values_in_parts(desk: Desk, customer: Customer, key: UsageKey, *, whole: Usage) -> list[Decimal]:
    """In order of time: of the halves of the period, of their halves, and so on."""
    found: list[Decimal] = []
    parts = _halves(key.period)
    while parts:
        part = key._replace(period=parts.pop())
        try:
            usage = await usage_of(desk, customer, part, part_of=key, whole=whole)
        except NeighbourRefused as error:
            if reason_of(error) != "TOO_MANY_VALUES":
                raise
            if part.period.end - part.period.start <= VALUES_SHORTEST:
                raise _too_detailed(error, customer, part) from error
            parts += _halves(part.period)
            continue
        found += usage.values
    return found


def _halves(period: Period) -> list[Period]:
    """The later one first."""
    middle = period.start + (period.end - period.start) / 2
    return [Period(middle, period.end), Period(period.start, middle)]


def _too_detailed(error: NeighbourRefused, customer: Customer, key: UsageKey) -> UsageTooDetailed:
    """As metering says it, and of whom and when."""
    return UsageTooDetailed(
        f"{reason_of(error)}: {error.message}, in {key.period}",
        customer=customer.party.id,
        meter=key.meter,
        neighbour_reason=reason_of(error),
    )


def reason_of(error: NeighbourRefused) -> str:
    """Why the neighbour refused, in its own words."""
    return error.metadata.get("neighbour_reason", "")
