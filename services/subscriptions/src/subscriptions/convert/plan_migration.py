"""Knows how plan migrations look on the wire, and what may be asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common import ids, wire
from common.errors import InvalidArgument
from saldo.subscriptions.v1 import plan_migration_pb2, subscription_pb2
from saldo.subscriptions.v1 import plan_migration_service_pb2 as pb
from subscriptions.convert.subscription import decision_from_proto
from subscriptions.domain.change import Unused
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.errors import PriceNotInPlan
from subscriptions.domain.plan import Plan
from subscriptions.domain.plan_migration import CUSTOMERS_MAX, SUCCESSIONS_MAX, Outcome, PlanMigration, Result
from subscriptions.domain.subscription import Decision
from subscriptions.domain.terms import PlanId, PriceId

_Change = subscription_pb2.SubscriptionChange
_Migration = plan_migration_pb2.PlanMigration
_Outcome = plan_migration_pb2.PlanMigrationOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A migration that somebody wants."""

    from_plan_id: PlanId
    to_plan_id: PlanId
    decision: Decision
    successions: Mapping[PriceId, PriceId]
    customer_ids: tuple[CustomerId, ...]

    def check_prices(self, from_plan: Plan, to_plan: Plan) -> None:
        """Whether the prices that are named are of the plans that they are named for."""
        old = {price.id: price for price in from_plan.prices}
        new = {price.id: price for price in to_plan.prices}
        for n, (from_price_id, to_price_id) in enumerate(self.successions.items()):
            for name, price_id, plan, prices in (
                ("from", from_price_id, from_plan, old),
                ("to", to_price_id, to_plan, new),
            ):
                if price_id not in prices:
                    message = f"must be a price of the list of plan {plan.id}"
                    raise PriceNotInPlan(message, field=f"prices[{n}].{name}_price_id", plan=plan.id, price=price_id)
            if old[from_price_id].currency != new[to_price_id].currency:
                message = f"must be in {old[from_price_id].currency}, as the price whose place it takes"
                raise InvalidArgument(message, field=f"prices[{n}].to_price_id")


def asked_from_proto(request: pb.CreatePlanMigrationRequest) -> Asked:
    from_plan_id = PlanId(ids.check(request.from_plan_id, "plan", field="from_plan_id"))
    to_plan_id = PlanId(ids.check(request.to_plan_id, "plan", field="to_plan_id"))
    if from_plan_id == to_plan_id:
        raise InvalidArgument("must be another plan than the one that is left", field="to_plan_id")
    for name, given, most in (
        ("prices", request.prices, SUCCESSIONS_MAX),
        ("customer_ids", request.customer_ids, CUSTOMERS_MAX),
    ):
        if len(given) > most:
            raise InvalidArgument(f"must be at most {most}", field=name)
    decision = decision_from_proto(
        timing=request.timing,
        time=(
            wire.parse_timestamp(request.effective_time, field="effective_time")
            if request.HasField("effective_time")
            else None
        ),
        proration=request.proration,
        unused=request.unused,
        default=Unused.CREDIT,
        time_field="effective_time",
    )
    if decision.unused is Unused.REFUND:
        raise InvalidArgument("must be CREDIT or KEEP: only a cancellation is refunded", field="unused")
    successions: dict[PriceId, PriceId] = {}
    for n, each in enumerate(request.prices):
        from_price_id = PriceId(ids.check(each.from_price_id, "price", field=f"prices[{n}].from_price_id"))
        if from_price_id in successions:
            raise InvalidArgument("must be named once", field=f"prices[{n}].from_price_id")
        successions[from_price_id] = PriceId(ids.check(each.to_price_id, "price", field=f"prices[{n}].to_price_id"))
    return Asked(
        from_plan_id=from_plan_id,
        to_plan_id=to_plan_id,
        decision=decision,
        successions=successions,
        customer_ids=tuple(
            dict.fromkeys(
                CustomerId(ids.check(each, "cus", field=f"customer_ids[{n}]"))
                for n, each in enumerate(request.customer_ids)
            )
        ),
    )


def result_from_proto(value: plan_migration_pb2.PlanMigrationOutcome.Result.ValueType) -> Result | None:
    """None means all of them."""
    return Result[wire.enum_name(_Outcome.Result, value, field="result")] if value else None


def plan_migration_to_proto(migration: PlanMigration) -> plan_migration_pb2.PlanMigration:
    decision = migration.decision
    proto = _Migration(
        id=migration.id,
        from_plan_id=migration.from_plan_id,
        to_plan_id=migration.to_plan_id,
        timing=_Change.Timing.Value(decision.timing.name),
        proration=(
            _Change.PRORATION_UNSPECIFIED
            if decision.proration is None
            else _Change.Proration.Value(decision.proration.name)
        ),
        unused=_Change.Unused.Value(decision.unused.name),
        prices=[
            _Migration.PriceSuccession(from_price_id=old, to_price_id=new)
            for old, new in sorted(migration.successions.items())
        ],
        customer_ids=migration.customer_ids,
        state=_Migration.State.Value(migration.state.name),
        counts=_Migration.Counts(**{result.name.lower(): migration.counts.get(result, 0) for result in Result}),
        revision=migration.revision,
        create_time=wire.timestamp(migration.create_time),
        update_time=wire.timestamp(migration.update_time),
    )
    for name, time in (
        ("effective_time", decision.effective_time),
        ("preview_time", migration.preview_time),
        ("start_time", migration.start_time),
        ("finish_time", migration.finish_time),
        ("revert_time", migration.revert_time),
    ):
        if time is not None:
            getattr(proto, name).CopyFrom(wire.timestamp(time))
    return proto


def outcome_to_proto(outcome: Outcome, migration: PlanMigration) -> plan_migration_pb2.PlanMigrationOutcome:
    return _Outcome(
        migration_id=migration.id,
        subscription_id=outcome.subscription_id,
        result=_Outcome.Result.Value(outcome.result.name),
        reason=outcome.reason,
        message=outcome.message,
        change_id=outcome.change_id or "",
        effective_time=wire.timestamp(outcome.effective_time) if outcome.effective_time else None,
        items_kept=outcome.items_kept,
        items_added=outcome.items_added,
        items_removed=outcome.items_removed,
        revert_change_id=outcome.revert_change_id or "",
        update_time=wire.timestamp(outcome.update_time),
    )
