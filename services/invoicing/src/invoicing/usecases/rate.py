"""What usages cost: at a price of the catalog, or at one that may not exist yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from typing import Final, TypeVar

from common import ids
from common.errors import FailedPrecondition, InvalidArgument, NotFound, Violation
from common.money import Money
from common.rpc import Desk
from invoicing import clients
from invoicing.convert.rating import PricedBy, ToRate
from invoicing.domain.errors import PriceNotFound
from invoicing.domain.price import Price
from invoicing.domain.rating import Rating, rate, rate_amounts
from saldo.catalog.v1 import price_pb2

TURN_SIZE: Final = 1_000
"""How much of a batch is done before other calls have their turn: so many quantities looked at, and steps made."""

TOGETHER_MAX: Final = 250
"""How many are rated as one, in between."""

STEPS_MAX: Final = 150_000
"""Of a batch. More do not fit into an answer, whatever they say."""

CHECKS_AT_ONCE: Final = 16

REFUSALS: Final = (InvalidArgument, NotFound, FailedPrecondition)
"""What is wrong with one request of a batch. That a neighbour is away is wrong with none of them."""

Refusal = InvalidArgument | NotFound | FailedPrecondition
ItemT = TypeVar("ItemT")
Result = Rating | Money | Refusal
"""A rating, only what a whole period costs, or why there is neither."""


async def price_of(desk: Desk, priced_by: PricedBy, *, field: str = "") -> Price:
    """The price that is named, or the one that is told if it is sound; `field` is the path to what tells it."""
    match priced_by:
        case None:
            raise _unpriced(field)
        case str():
            return await clients.price(desk, ids.check(priced_by, "price", field=f"{field}price_id"))
        case _:
            return await clients.checked_price(desk, priced_by, field=f"{field}price")


async def rate_one(desk: Desk, asked: ToRate) -> tuple[Price, Rating]:
    price = await price_of(desk, asked.priced_by, field=asked.field)
    return price, _rated(price, asked)


async def rate_all(
    desk: Desk, asked: Sequence[ToRate | Refusal], *, default: Price | None, with_steps: bool
) -> list[Result]:
    """One for each, in their order. One that names no price is rated at the default one."""
    priced = await _prices_of(desk, asked, default)
    results: list[Result] = []
    pairs = zip(priced, asked, strict=True)
    step_count = 0
    rated = (_result(*pair) for pair in pairs) if with_steps else _amounts(pairs)
    async for result, _ in in_turns(zip(rated, asked, strict=True), size=_work):
        if isinstance(result, Rating):
            step_count += len(result.steps) if with_steps else 0
            if step_count > STEPS_MAX:
                raise too_much()
            results.append(result if with_steps else replace(result, steps=()))
        else:
            results.append(result)
    return results


def too_much() -> InvalidArgument:
    return InvalidArgument("must be fewer, or without_steps: this is too much to answer", field="requests")


async def in_turns(items: Iterable[ItemT], *, size: Callable[[ItemT], int]) -> AsyncIterator[ItemT]:
    """One after the other; when the making and the use of them was work enough, others have their turn."""
    done = 0
    for item in items:
        yield item
        done += size(item)
        if done >= TURN_SIZE:
            await asyncio.sleep(0)
            done = 0


def size_of(result: Result) -> int:
    return 1 + (len(result.steps) if isinstance(result, Rating) else 0)


def _work(rated: tuple[Result, ToRate | Refusal]) -> int:
    result, asked = rated
    return size_of(result) + (asked.usage.size if isinstance(asked, ToRate) else 0)


def _rated(price: Price, asked: ToRate) -> Rating:
    billed = asked.already_billed
    if billed is not None and billed.amount is not None and billed.amount.currency != price.currency:
        message = f"must be {price.currency}, the currency of the price"
        raise InvalidArgument(message, field=f"{asked.field}already_billed.amount.currency_code")
    try:
        return rate(price, asked.usage, already_billed=billed, period_under_way=asked.period_under_way)
    except InvalidArgument as error:
        # It may stand inside of another request.
        raise InvalidArgument.of(
            Violation(asked.field + each.field, each.description) for each in error.violations
        ) from error


def _result(price: Price | Refusal, asked: ToRate | Refusal) -> Rating | Refusal:
    if not isinstance(asked, ToRate):
        return asked
    if not isinstance(price, Price):
        return price
    try:
        return _rated(price, asked)
    except REFUSALS as error:
        return error


Pair = tuple[Price | Refusal, ToRate | Refusal]


def _amounts(pairs: Iterable[Pair]) -> Iterator[Result]:
    """The same without steps: neighbours that share a price and have a quantity only are rated together."""
    for price, run in groupby(pairs, key=_plain_price):
        if price is not None:
            while some := list(islice(run, TOGETHER_MAX)):
                yield from _amounts_at(price, some)
        else:
            yield from (_result(*pair) for pair in run)


def _plain_price(pair: Pair) -> Price | None:
    price, asked = pair
    return price if isinstance(price, Price) and isinstance(asked, ToRate) and asked.is_plain else None


def _amounts_at(price: Price, run: Sequence[Pair]) -> list[Result]:
    quantities = [asked.usage.total for _, asked in run if isinstance(asked, ToRate)]
    try:
        return [Money(minor, price.currency) for minor in rate_amounts(price, quantities)]
    except REFUSALS:
        # One of them cannot be rated. The others can, and which is which shows one by one.
        return [_result(*pair) for pair in run]


async def _prices_of(desk: Desk, asked: Sequence[ToRate | Refusal], default: Price | None) -> list[Price | Refusal]:
    """What each is rated at, or why there is no such price."""
    by_id = {each.priced_by for each in asked if isinstance(each, ToRate) and isinstance(each.priced_by, str)}
    known: dict[str, Price | Refusal] = {}
    for price_id in by_id:
        known[price_id] = PriceNotFound(f"there is no price {price_id}", price=price_id)
        try:
            ids.check(price_id, "price", field="price_id")
        except InvalidArgument as error:
            known[price_id] = error
    known |= await clients.prices_that_exist(
        desk, [price_id for price_id, each in known.items() if isinstance(each, PriceNotFound)]
    )
    told = await _checked(
        desk,
        [each.priced_by for each in asked if isinstance(each, ToRate) and isinstance(each.priced_by, price_pb2.Price)],
    )
    return [_price_for(each, known, told, default) for each in asked]


def _price_for(
    asked: ToRate | Refusal,
    known: dict[str, Price | Refusal],
    told: dict[bytes, Price | Refusal],
    default: Price | None,
) -> Price | Refusal:
    if not isinstance(asked, ToRate):
        return asked
    match asked.priced_by:
        case None:
            return default or _unpriced("")
        case str():
            return known[asked.priced_by]
        case _:
            return told[_key(asked.priced_by)]


async def _checked(desk: Desk, prices: Sequence[price_pb2.Price]) -> dict[bytes, Price | Refusal]:
    """Each price once, however many requests tell it."""
    distinct = {_key(each): each for each in prices}
    found: dict[bytes, Price | Refusal] = {}
    keys = list(distinct)
    for first in range(0, len(keys), CHECKS_AT_ONCE):
        some = keys[first : first + CHECKS_AT_ONCE]
        found.update(zip(some, await asyncio.gather(*(_check(desk, distinct[key]) for key in some)), strict=True))
    return found


async def _check(desk: Desk, price: price_pb2.Price) -> Price | Refusal:
    try:
        return await clients.checked_price(desk, price, field="price")
    except REFUSALS as error:
        return error


def _key(price: price_pb2.Price) -> bytes:
    return price.SerializeToString(deterministic=True)


def _unpriced(field: str) -> InvalidArgument:
    return InvalidArgument("is required, or a price", field=f"{field}price_id")
