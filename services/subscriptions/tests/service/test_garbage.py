"""Requests of every sort, sensible and not: each is done, or refused by name and not stored."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import grpc
import pytest
from google.protobuf import timestamp_pb2
from google.type import decimal_pb2, money_pb2

from common import wire
from common.testing import Suite
from saldo.subscriptions.v1 import subscription_pb2
from saldo.subscriptions.v1 import subscriptions_service_pb2 as pb
from services.subscriptions.tests.service.test_bad_input import (
    NOBODY,
    NOTHING,
    Action,
    Cancel,
    Pause,
    Spec,
    day,
    decimal,
)
from tests.support.seeds import seeds

# `shop` is the fixture of conftest.py, whose class cannot be imported here: Any.
FUZZ_CALLS: Final = 200


class Garbage:
    """Requests of every sort, sensible and not, the same for the same seed."""

    def __init__(
        self, seed: int, *, subscriptions: list[Any], customers: list[Any], plans: list[Any], coupon_id: str
    ) -> None:
        self._random = random.Random(seed)
        self._subscriptions = [each.id for each in subscriptions]
        self._items = [item.id for each in subscriptions for item in each.items]
        self._customers = [each.id for each in customers]
        self._plans = [each.id for each in plans]
        self._prices = [price.id for each in plans for price in each.prices]
        self._coupon_id = coupon_id
        self.tokens = [""]

    def request(self) -> tuple[str, Any]:  # Any: whatever the RPC asks
        name = self._random.choice(self._subscriptions)
        change = pb.ChangeSubscriptionRequest(
            id=name,
            actions=[self._action() for _ in range(self._random.choice((1, 1, 1, 2, 4)))],
            timing=self._number(),
            effective_time=self._time(),
            proration=self._number(),
            unused=self._number(),
            preview_token=self._random.choice(self.tokens[-3:]),
        )
        requests = [
            *[("ChangeSubscription", change)] * 8,
            *[("PreviewChange", pb.PreviewChangeRequest(change=change, through_time=self._time()))] * 3,
            (
                "CancelSubscription",
                Cancel(
                    id=name,
                    timing=self._number(),
                    cancel_time=self._time(),
                    unused=self._number(),
                    proration=self._number(),
                ),
            ),
            (
                "PauseSubscription",
                Pause(
                    id=name,
                    scope=self._number(),
                    timing=self._number(),
                    pause_time=self._time(),
                    resume_time=self._time(),
                    unused=self._number(),
                ),
            ),
            ("ResumeSubscription", pb.ResumeSubscriptionRequest(id=name)),
            ("ReactivateSubscription", pb.ReactivateSubscriptionRequest(id=name)),
            ("RevokeCancellation", pb.RevokeCancellationRequest(id=name)),
            ("ExtendTrial", pb.ExtendTrialRequest(id=name, trial_end_time=self._time())),
            (
                "TransferSubscription",
                pb.TransferSubscriptionRequest(id=name, customer_id=self._of(self._customers), unused=self._number()),
            ),
            (
                "AlignSubscriptions",
                pb.AlignSubscriptionsRequest(customer_id=self._of(self._customers), billing_day=self._number(31)),
            ),
        ]
        return self._random.choice(requests)

    def _action(self) -> Action:
        spec = Spec(price_id=self._of(self._prices), quantity=self._quantity())
        specs = [spec] if self._random.random() < 0.3 else []
        item_id, plan_id = self._of(self._items), self._of(self._plans)
        return self._random.choice(
            [
                Action(),
                Action(add_item=Action.AddItem(price_id=spec.price_id, quantity=spec.quantity)),
                Action(remove_item=Action.RemoveItem(item_id=item_id)),
                Action(set_quantity=Action.SetQuantity(item_id=item_id, quantity=self._quantity())),
                Action(set_quantity=Action.SetQuantity(item_id=item_id, quantity=self._quantity())),
                Action(set_price=Action.SetPrice(item_id=item_id, price_id=spec.price_id)),
                Action(set_price=Action.SetPrice(item_id=item_id, price_id=spec.price_id)),
                Action(change_plan=Action.ChangePlan(plan_id=plan_id, items=specs)),
                Action(add_add_on=Action.AddAddOn(plan_id=plan_id, items=specs)),
                Action(remove_add_on=Action.RemoveAddOn(plan_id=plan_id)),
                Action(set_billing_day=Action.SetBillingDay(billing_day=self._number(31))),
                Action(apply_discount=Action.ApplyDiscount(coupon_id=self._coupon_id, periods=self._number(5))),
                Action(remove_discount=Action.RemoveDiscount(coupon_id=self._coupon_id)),
                Action(
                    set_commitment=Action.SetCommitment(
                        commitment=subscription_pb2.Commitment(
                            months=self._number(120),
                            minimum=money_pb2.Money(
                                currency_code=self._random.choice(["EUR", "EUR", "USD", "", "JPY"]),
                                units=self._random.choice([0, 1, -1, 2**62, 100]),
                                nanos=self._random.choice([0, 0, 1, 10_000_000, -1, 2**31 - 1]),
                            ),
                        )
                    )
                ),
                Action(
                    set_term=Action.SetTerm(
                        term=subscription_pb2.Term(
                            months=self._number(120), renewal=self._number(2), notice_days=self._number(365)
                        )
                    )
                ),
                Action(set_term=Action.SetTerm()),
                Action(set_commitment=Action.SetCommitment()),
                Action(set_payer=Action.SetPayer(payer_id=self._of(["", *self._customers]))),
                Action(end=Action.End()),
            ]
        )

    def _of(self, known: list[str]) -> str:
        """Mostly one that there is."""
        if self._random.random() < 0.85:
            return self._random.choice(known)
        return self._random.choice(["", "x", "sub_", "price_\x00", "é" * 300, NOBODY, NOTHING, known[0].upper()])

    def _number(self, usual: int = 3) -> Any:  # Any: also for enums, of which it may be no value
        if self._random.random() < 0.85:
            return self._random.randint(0, usual)
        return self._random.choice([-1, 99, usual + 1, 2**31 - 1, -(2**31)])

    def _quantity(self) -> decimal_pb2.Decimal | None:
        texts = ["1", "2", "0", "7.5", "1e3", "", "-1", "NaN", "1e999999", "0x1", "9" * 50, "1e12", "0.000000000001"]
        return self._random.choice([None, *map(decimal, texts)])

    def _time(self) -> timestamp_pb2.Timestamp | None:
        usual = wire.timestamp(day(1) + timedelta(hours=self._random.randint(-1_000, 3_000)))
        odd = timestamp_pb2.Timestamp(
            seconds=self._random.choice([0, -1, 10**10, 10**18, 253402300799]),
            nanos=self._random.choice([0, -1, 10**9]),
        )
        last = wire.timestamp(datetime(2299, 12, 31, tzinfo=UTC))
        return self._random.choice([None, None, usual, usual, usual, last, odd])


@pytest.mark.parametrize("seed", seeds(1, further=[2]))
async def test_garbage_is_never_our_error(suite: Suite, shop: Any, seed: int) -> None:
    """Whatever is asked, in whatever order: it is done, or refused by name and not stored; and what was billed by then
    is in every later schedule as it was.
    """
    customers = [await shop.customer() for _ in range(2)]
    product = await shop.product()
    prices = [
        shop.price("seats"),
        shop.price("yearly", unit="YEAR"),
        shop.price("weekly", unit="WEEK", timing="IN_ARREARS"),
        shop.price("setup", unit="ONCE"),
        shop.metered("calls"),
        shop.price("dollars", currency="USD"),
    ]
    others = [shop.price("seats"), shop.metered("calls")]
    for price in (prices[0], others[0]):
        price.product_id = product
    plans = [
        await shop.plan(*prices),
        await shop.plan(*others),
        await shop.plan(shop.price("extra"), add_on=True),
        await shop.plan(shop.price("draft"), published=False),
    ]
    subscriptions = [
        await shop.subscribe(customers[0], plans[0]),
        await shop.subscribe(customers[0], plans[0], trial_days=20),
        await shop.subscribe(customers[1], plans[1], start_time=wire.timestamp(day(2))),
    ]
    garbage = Garbage(
        seed, subscriptions=subscriptions, customers=customers, plans=plans, coupon_id=await shop.coupon()
    )
    window = pb.BatchListBillablePeriodsRequest(
        customer_ids=[each.id for each in customers], through_time=wire.timestamp(day(6, year=2027))
    )
    done, refused_by = 0, set()
    now, before, told = day(1), await shop.stored(), await _schedules(shop, window)
    for n in range(FUZZ_CALLS):
        if n % 40 == 39:
            now = day(1) + timedelta(days=n // 4)
            await suite.travel(now)
            before = await shop.stored()
            told = await _schedules(shop, window)
        method, request = garbage.request()
        try:
            answer = await getattr(shop.api, method)(request)
        except grpc.aio.AioRpcError as error:
            refused_by.add((error.code(), "" if error.code() in REFUSED else f"{method}({request})"))
            assert await shop.stored() == before, (method, request)
            continue
        done += 1
        await suite.quiet()  # what is due by it at once
        after = await shop.stored()
        if method == "PreviewChange":
            garbage.tokens.append(answer.token)
            assert after == before, request
        elif after != before:
            told, was_told = await _schedules(shop, window), {each for each, at in told.items() if at <= now}
            assert was_told <= told.keys(), (method, request)
        before = after
    assert refused_by <= {(code, "") for code in REFUSED}
    assert FUZZ_CALLS // 20 < done < FUZZ_CALLS


async def _schedules(shop: Any, window: pb.BatchListBillablePeriodsRequest) -> dict[bytes, datetime]:
    """Every period, of which each can be told from every other, and when it is billed."""
    found = await shop.api.BatchListBillablePeriods(window)
    periods = [each for schedule in found.schedules for each in schedule.periods]
    keys = {
        (each.item_id, each.price_id, each.period.start_time.ToNanoseconds(), each.kind, each.change_id)
        for each in periods
    }
    assert len(keys) == len(periods) > 0
    return {each.SerializeToString(deterministic=True): each.bill_time.ToDatetime(UTC) for each in periods}


REFUSED: Final = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
}
