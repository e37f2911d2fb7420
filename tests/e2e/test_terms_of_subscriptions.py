"""What is agreed beside prices: ramps, coupons, commitments, payers, seats; tried out first, or for many at once."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction

import grpc
from google.type.decimal_pb2 import Decimal
from google.type.money_pb2 import Money

from common import wire
from common.money import round_half_up
from common.testing import refused
from saldo.catalog.v1 import coupon_service_pb2 as coupons
from saldo.catalog.v1.coupon_pb2 import Coupon, PercentOff
from saldo.subscriptions.v1 import plan_migration_service_pb2 as migrations
from saldo.subscriptions.v1 import seat_service_pb2 as seats
from saldo.subscriptions.v1 import subscriptions_service_pb2 as subscriptions
from saldo.subscriptions.v1.customer_pb2 import Customer
from saldo.subscriptions.v1.plan_migration_pb2 import PlanMigration, PlanMigrationOutcome
from saldo.subscriptions.v1.subscription_pb2 import (
    BillablePeriod,
    Commitment,
    ItemSpec,
    Subscription,
    SubscriptionAction,
    SubscriptionChange,
)
from tests.support.changes import Billed, all_billed, billed, change, set_quantity
from tests.support.sandbox import Sandbox, flat, per_unit, text


def day(month: int, of_month: int, *, hour: int = 0) -> datetime:
    return datetime(2026, month, of_month, hour, tzinfo=UTC)


async def _schedule(sandbox: Sandbox, customer: Customer, *, through: datetime) -> subscriptions.CustomerSchedule:
    answer = await sandbox.client.subscriptions.ListBillablePeriods(
        subscriptions.ListBillablePeriodsRequest(customer_ids=[customer.id], through_time=wire.timestamp(through))
    )
    return answer.schedules[0]


async def test_a_ramp_over_three_periods(sandbox: Sandbox) -> None:
    """2 seats at 10 in June, 5 in July, 8 at the volume price of 8 from August on, as agreed in the beginning."""
    plan = await sandbox.plan("seats", per_unit("seat", "10"), per_unit("volume", "8"))
    seat, volume = (price.id for price in plan.prices)
    ada = await sandbox.customer("ada", token="sim:ok")
    await sandbox.travel(day(6, 1))
    await sandbox.client.subscriptions.CreateSubscription(
        subscriptions.CreateSubscriptionRequest(
            customer_id=ada.id,
            plan_id=plan.id,
            items=[_how_many(seat, 2)],
            ramp=[
                subscriptions.RampStep(after_months=1, quantities=[_how_many(seat, 5)]),
                subscriptions.RampStep(
                    after_months=2,
                    prices=[subscriptions.PriceReplacement(from_price_id=seat, to_price_id=volume)],
                    quantities=[_how_many(volume, 8)],
                ),
            ],
        )
    )
    await sandbox.travel(day(9, 2))

    assert all_billed(await sandbox.invoices(ada)) == [
        Billed("2026-06-01", "2026-07-01", "2", "1/1", "20.00 EUR"),
        Billed("2026-07-01", "2026-08-01", "5", "1/1", "50.00 EUR"),
        Billed("2026-08-01", "2026-09-01", "8", "1/1", "64.00 EUR"),
        Billed("2026-09-01", "2026-10-01", "8", "1/1", "64.00 EUR"),
    ]


async def test_a_change_is_billed_as_it_was_previewed(sandbox: Sandbox) -> None:
    """Previewed at nine, agreed to at six in the evening: to the cent what was shown, as if agreed at nine.

    On 12 June 19 of 30 days are left: 3 x 9.99 x 19/30 = 18.981 are taken off, 7 x 9.99 x 19/30 = 44.289 and
    for the support 33.33 x 19/30 = 21.109 are billed. On 1 July it is 69.93 and 33.33, and no longer 29.97.
    """
    plan = await sandbox.plan("suite", per_unit("seat", "9.99"), flat("support", "33.33"))
    unit_prices = {plan.prices[0].id: "9.99", plan.prices[1].id: "33.33"}
    ada = await sandbox.customer("ada", token="sim:ok")
    await sandbox.travel(day(6, 1))
    agreed = await sandbox.subscribe(ada, plan, quantities={"seat": "3"})
    await sandbox.travel(day(6, 12, hour=9))
    wanted = subscriptions.ChangeSubscriptionRequest(
        id=agreed.id,
        actions=[
            set_quantity(agreed, "7"),
            SubscriptionAction(add_item=SubscriptionAction.AddItem(price_id=plan.prices[1].id)),
        ],
        timing=SubscriptionChange.NOW,
    )
    preview = await sandbox.client.subscriptions.PreviewChange(subscriptions.PreviewChangeRequest(change=wanted))
    (untouched,) = await sandbox.subscriptions(ada)
    assert untouched == agreed
    shown = {_key(each): _cents(each, unit_prices[each.price_id]) for each in preview.added}
    assert sorted(shown.values()) == [-1898, 2111, 3333, 4429, 6993]
    assert [_cents(each, unit_prices[each.price_id]) for each in preview.removed] == [2997]
    await sandbox.travel(day(6, 12, hour=18))
    wanted.preview_token = preview.token
    changed = await sandbox.client.subscriptions.ChangeSubscription(wanted)
    with refused("PREVIEW_OUTDATED", grpc.StatusCode.FAILED_PRECONDITION):
        await sandbox.client.subscriptions.ChangeSubscription(wanted)
    assert [item.quantity.value for item in changed.items] == ["7", "1"]
    await sandbox.travel(day(7, 2))

    june, upgrade, july = await sandbox.invoices(ada)
    assert billed(june) == [Billed("2026-06-01", "2026-07-01", "3", "1/1", "29.97 EUR")]
    assert sorted(billed(upgrade)) == [
        Billed("2026-06-12 09:00", "2026-07-01", "1", "19/30", "21.11 EUR"),
        Billed("2026-06-12 09:00", "2026-07-01", "3", "19/30", "-18.98 EUR", "CREDIT"),
        Billed("2026-06-12 09:00", "2026-07-01", "7", "19/30", "44.29 EUR"),
    ]
    assert (text(upgrade.total), text(july.total)) == ("46.42 EUR", "103.26 EUR")
    owed = await _schedule(sandbox, ada, through=day(7, 2))
    _, *others = owed.periods
    assert {_key(each): _cents(each, unit_prices[each.price_id]) for each in others} == shown


async def test_coupons_in_the_schedule(sandbox: Sandbox) -> None:
    """One from the beginning for two periods, one from 16 June on for ever: in advance it begins with the next."""
    first, second = [await _coupon(sandbox, code) for code in ("welcome", "loyal")]
    plan = await sandbox.plan("suite", flat("fee", "30"))
    ada = await sandbox.customer("ada", token="sim:ok")
    await sandbox.travel(day(6, 1))
    agreed = await sandbox.client.subscriptions.CreateSubscription(
        subscriptions.CreateSubscriptionRequest(
            customer_id=ada.id,
            plan_id=plan.id,
            discounts=[SubscriptionAction.ApplyDiscount(coupon_id=first, periods=2)],
        )
    )
    await sandbox.travel(day(6, 16))
    apply = SubscriptionAction.ApplyDiscount(coupon_id=second)
    changed = await change(sandbox, agreed, SubscriptionAction(apply_discount=apply))
    assert [each.coupon_id for each in changed.discounts] == [first, second]
    await sandbox.travel(day(9, 10))
    taken_off = SubscriptionAction.RemoveDiscount(coupon_id=second)
    await change(sandbox, agreed, SubscriptionAction(remove_discount=taken_off))
    await sandbox.travel(day(10, 2))

    owed = await _schedule(sandbox, ada, through=day(10, 2))
    assert [(each.period.start_time.ToDatetime(UTC), list(each.coupon_ids)) for each in owed.periods] == [
        (day(6, 1), [first]),
        (day(7, 1), [first, second]),
        (day(8, 1), [second]),
        (day(9, 1), [second]),
        (day(10, 1), []),
    ]
    (after,) = await sandbox.subscriptions(ada)
    assert list(after.discounts) == []


async def test_a_commitment_is_made_raised_and_given_up(sandbox: Sandbox) -> None:
    """From 16 June 300 a month are committed, from 11 July 600, and nothing from August on: each for its days."""
    plan = await sandbox.plan("suite", flat("fee", "30"))
    ada = await sandbox.customer("ada", token="sim:ok")
    await sandbox.travel(day(6, 1))
    agreed = await sandbox.subscribe(ada, plan)
    for when, units in ((day(6, 16), 300), (day(7, 11), 600), (day(8, 1), None)):
        await sandbox.travel(when)
        commitment = None if units is None else Commitment(minimum=Money(currency_code="EUR", units=units), months=1)
        set_to = SubscriptionAction.SetCommitment(commitment=commitment)
        await change(sandbox, agreed, SubscriptionAction(set_commitment=set_to))
    await sandbox.travel(day(9, 2))

    owed = await _schedule(sandbox, ada, through=day(9, 2))
    assert [
        (
            each.period.start_time.ToDatetime(UTC),
            each.period.end_time.ToDatetime(UTC),
            text(each.minimum),
            Fraction(each.proration.numerator, each.proration.denominator),
            each.bill_time.ToDatetime(UTC),
        )
        for each in owed.commitments
    ] == [
        (day(6, 16), day(7, 1), "300.00 EUR", Fraction(15, 30), day(7, 1)),
        (day(7, 1), day(7, 11), "300.00 EUR", Fraction(10, 31), day(8, 1)),
        (day(7, 11), day(8, 1), "600.00 EUR", Fraction(21, 31), day(8, 1)),
    ]


async def test_somebody_else_pays(sandbox: Sandbox) -> None:
    """The group from the start, the customer himself from 16 July on: whoever pays when a period is billed."""
    plan = await sandbox.plan("suite", flat("fee", "30"))
    group = await sandbox.customer("group", token="sim:ok")
    shop = await sandbox.customer("shop", token="sim:ok")
    await sandbox.travel(day(6, 1))
    agreed = await sandbox.client.subscriptions.CreateSubscription(
        subscriptions.CreateSubscriptionRequest(customer_id=shop.id, plan_id=plan.id, payer_id=group.id)
    )
    assert agreed.payer_id == group.id
    await sandbox.travel(day(7, 16))
    set_payer = SubscriptionAction.SetPayer(payer_id=shop.id)
    changed = await change(sandbox, agreed, SubscriptionAction(set_payer=set_payer))
    assert changed.payer_id == shop.id
    await sandbox.travel(day(8, 2))

    owed = await _schedule(sandbox, shop, through=day(8, 2))
    assert [(each.bill_time.ToDatetime(UTC), each.payer_id) for each in owed.periods] == [
        (day(6, 1), group.id),
        (day(7, 1), group.id),
        (day(8, 1), shop.id),
    ]
    assert {each.customer_id for each in owed.periods} == {shop.id}


async def test_seats_are_not_assigned_above_the_quantity(sandbox: Sandbox) -> None:
    """Three are paid for, and three are given away: neither a fourth, nor two only, until one comes back.

    On 16 June 15 of 30 days are left: 3 x 10 x 1/2 are credited and 2 x 10 x 1/2 billed.
    """
    plan = await sandbox.plan("seats", per_unit("seat", "10"))
    ada = await sandbox.customer("ada", token="sim:ok")
    await sandbox.travel(day(6, 1))
    agreed = await sandbox.subscribe(ada, plan, quantities={"seat": "3"})
    invited = [await _invite(sandbox, agreed, holder) for holder in ("ann", "bob", "eve")]
    await sandbox.client.seats.ClaimSeat(seats.ClaimSeatRequest(token=invited[0].token))
    await sandbox.travel(day(6, 16))
    invited[1:] = [await _invite(sandbox, agreed, holder) for holder in ("bob", "eve")]  # nobody claimed in a week
    with refused("SEATS_EXHAUSTED", grpc.StatusCode.FAILED_PRECONDITION):
        await _invite(sandbox, agreed, "dan")
    with refused("SEATS_ASSIGNED", grpc.StatusCode.FAILED_PRECONDITION):
        await change(sandbox, agreed, set_quantity(agreed, "2"))
    (still,) = await sandbox.subscriptions(ada)
    assert still.items[0].quantity.value == "3"
    await sandbox.client.seats.RevokeSeat(seats.RevokeSeatRequest(id=invited[2].seat.id))
    await change(sandbox, agreed, set_quantity(agreed, "2"))
    usage = await sandbox.client.seats.GetSeatUsage(
        seats.GetSeatUsageRequest(subscription_id=agreed.id, item_id=agreed.items[0].id)
    )
    assert (usage.seat_count, usage.claimed_count, usage.invited_count, usage.unassigned_count) == (2, 1, 1, 0)
    await sandbox.travel(day(7, 2))

    assert sorted(all_billed(await sandbox.invoices(ada))) == sorted(
        [
            Billed("2026-06-01", "2026-07-01", "3", "1/1", "30.00 EUR"),
            Billed("2026-06-16", "2026-07-01", "2", "1/2", "10.00 EUR"),
            Billed("2026-06-16", "2026-07-01", "3", "1/2", "-10.00 EUR", "CREDIT"),
            Billed("2026-06-16", "2026-07-01", "3", "1/2", "-5.00 EUR", "CREDIT"),
            Billed("2026-07-01", "2026-08-01", "2", "1/1", "20.00 EUR"),
        ]
    )


async def test_many_subscriptions_move_to_another_plan(sandbox: Sandbox) -> None:
    """Thirty of ten customers on 16 June, from 10 to 14 a seat: half a month back, half a month anew, each its own.

    One had been cancelled and one is in another plan: they are as they were.
    """
    old = await sandbox.plan("old", per_unit("seat", "10"))
    dearer = per_unit("seat", "14")
    dearer.product_id = old.prices[0].product_id
    new = await sandbox.plan("new", dearer)
    other = await sandbox.plan("other", flat("fee", "5"))
    await sandbox.travel(day(6, 1))
    customers = [await sandbox.customer(f"customer-{n}", token="sim:ok") for n in range(10)]
    agreed = [
        (n, await sandbox.subscribe(customer, old, quantities={"seat": str(each)}))
        for n, customer in enumerate(customers)
        for each in (1, 2, n + 3)
    ]
    gone = await sandbox.customer("gone", token="sim:ok")
    cancelled = await sandbox.subscribe(gone, old, quantities={"seat": "4"})
    await sandbox.cancel(cancelled)
    elsewhere = await sandbox.subscribe(gone, other)
    await sandbox.travel(day(6, 16))
    migration = await sandbox.client.plan_migrations.CreatePlanMigration(
        migrations.CreatePlanMigrationRequest(from_plan_id=old.id, to_plan_id=new.id)
    )
    await sandbox.quiet()
    await sandbox.client.plan_migrations.StartPlanMigration(migrations.StartPlanMigrationRequest(id=migration.id))
    await sandbox.quiet()
    done = await sandbox.client.plan_migrations.GetPlanMigration(migrations.GetPlanMigrationRequest(id=migration.id))
    assert (done.state, done.counts.migrated) == (PlanMigration.DONE, len(agreed))
    moved = await sandbox.client.plan_migrations.ListPlanMigrationOutcomes(
        migrations.ListPlanMigrationOutcomesRequest(
            migration_id=migration.id, result=PlanMigrationOutcome.MIGRATED, page_size=1000
        )
    )
    assert {each.subscription_id for each in moved.outcomes} == {subscription.id for _, subscription in agreed}
    await sandbox.travel(day(7, 2))

    for n, customer in enumerate(customers):
        quantities = (1, 2, n + 3)
        assert sorted(all_billed(await sandbox.invoices(customer))) == sorted(
            line
            for each in quantities
            for line in (
                Billed("2026-06-01", "2026-07-01", str(each), "1/1", f"{10 * each}.00 EUR"),
                Billed("2026-06-16", "2026-07-01", str(each), "1/2", f"-{5 * each}.00 EUR", "CREDIT"),
                Billed("2026-06-16", "2026-07-01", str(each), "1/2", f"{7 * each}.00 EUR"),
                Billed("2026-07-01", "2026-08-01", str(each), "1/1", f"{14 * each}.00 EUR"),
            )
        )
        assert {each.plan_id for each in await sandbox.subscriptions(customer)} == {new.id}
    assert {(each.id, each.plan_id) for each in await sandbox.subscriptions(gone)} == {
        (cancelled.id, old.id),
        (elsewhere.id, other.id),
    }
    assert all_billed(await sandbox.invoices(gone)) == [
        Billed("2026-06-01", "2026-07-01", "4", "1/1", "40.00 EUR"),
        Billed("2026-06-01", "2026-07-01", "1", "1/1", "5.00 EUR"),
        Billed("2026-07-01", "2026-08-01", "1", "1/1", "5.00 EUR"),
    ]


def _how_many(price_id: str, quantity: int) -> ItemSpec:
    return ItemSpec(price_id=price_id, quantity=Decimal(value=str(quantity)))


async def _coupon(sandbox: Sandbox, code: str) -> str:
    coupon = await sandbox.client.coupons.CreateCoupon(
        coupons.CreateCouponRequest(
            coupon=Coupon(
                code=code,
                display_name=code.title(),
                percent_off=PercentOff(percent=Decimal(value="10")),
                duration=Coupon.FOREVER,
            )
        )
    )
    return coupon.id


async def _invite(sandbox: Sandbox, subscription: Subscription, holder: str) -> seats.InviteSeatResponse:
    return await sandbox.client.seats.InviteSeat(
        seats.InviteSeatRequest(subscription_id=subscription.id, item_id=subscription.items[0].id, holder=holder)
    )


def _key(period: BillablePeriod) -> tuple[str, ...]:
    """Of what is told with a change that has no id yet."""
    return (
        period.item_id if period.kind == BillablePeriod.CREDIT else "",
        period.price_id,
        period.quantity.value,
        BillablePeriod.Kind.Name(period.kind),
        period.period.start_time.ToJsonString(),
        period.period.end_time.ToJsonString(),
    )


def _cents(period: BillablePeriod, unit_price: str) -> int:
    """What it comes to by the price of the catalog, worked out here and not by invoicing."""
    share = Fraction(period.proration.numerator, period.proration.denominator)
    exact = share * Fraction(period.quantity.value) * Fraction(unit_price) * 100
    return round_half_up(exact) * (-1 if period.kind == BillablePeriod.CREDIT else 1)
