"""The door to plan migrations: parse, call, answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from common import ids, wire
from common.db import Database, Tx
from common.rpc import Desk, transactional
from saldo.subscriptions.v1 import plan_migration_pb2
from saldo.subscriptions.v1 import plan_migration_service_pb2 as pb
from saldo.subscriptions.v1.plan_migration_service_pb2_grpc import PlanMigrationServiceServicer
from subscriptions import clients
from subscriptions.convert.plan_migration import (
    Asked,
    asked_from_proto,
    outcome_to_proto,
    plan_migration_to_proto,
    result_from_proto,
)
from subscriptions.domain.plan_migration import PlanMigrationId
from subscriptions.store.plan_migrations import list_outcomes, plan_migration
from subscriptions.usecases import plan_migrations


class PlanMigrationsApi(PlanMigrationServiceServicer):
    def __init__(self, database: Database, desk: Callable[[], Desk]) -> None:
        self.database = database
        self.desk = desk

    async def CreatePlanMigration(
        self, request: pb.CreatePlanMigrationRequest, context: object
    ) -> plan_migration_pb2.PlanMigration:
        asked = asked_from_proto(request)
        desk = self.desk()
        from_plan = await clients.get_listed_plan(desk, asked.from_plan_id)
        to_plan = await clients.get_listed_plan(desk, asked.to_plan_id)
        asked.check_prices(from_plan, to_plan)
        return await _Creating(self.database, asked).CreatePlanMigration(request, context)

    @transactional
    async def StartPlanMigration(
        self, request: pb.StartPlanMigrationRequest, tx: Tx
    ) -> plan_migration_pb2.PlanMigration:
        return plan_migration_to_proto(await plan_migrations.start(tx, _migration_id(request.id)))

    @transactional
    async def GetPlanMigration(self, request: pb.GetPlanMigrationRequest, tx: Tx) -> plan_migration_pb2.PlanMigration:
        return plan_migration_to_proto(await plan_migration(tx, _migration_id(request.id)))

    @transactional
    async def ListPlanMigrationOutcomes(
        self, request: pb.ListPlanMigrationOutcomesRequest, tx: Tx
    ) -> pb.ListPlanMigrationOutcomesResponse:
        page = wire.page(request)
        migration = await plan_migration(tx, _migration_id(request.migration_id, field="migration_id"))
        found = await list_outcomes(
            tx,
            migration.id,
            result=result_from_proto(request.result),
            after=page.after[0] if page.after else "",
            limit=page.size + 1,
        )
        return pb.ListPlanMigrationOutcomesResponse(
            outcomes=[outcome_to_proto(each, migration) for each in found[: page.size]],
            next_page_token=(
                wire.encode_page_token(found[page.size - 1].subscription_id) if len(found) > page.size else ""
            ),
        )

    @transactional
    async def CancelPlanMigration(
        self, request: pb.CancelPlanMigrationRequest, tx: Tx
    ) -> plan_migration_pb2.PlanMigration:
        return plan_migration_to_proto(await plan_migrations.cancel(tx, _migration_id(request.id)))

    @transactional
    async def RevertPlanMigration(
        self, request: pb.RevertPlanMigrationRequest, tx: Tx
    ) -> plan_migration_pb2.PlanMigration:
        return plan_migration_to_proto(await plan_migrations.revert(tx, _migration_id(request.id)))


@dataclass(frozen=True, slots=True)
class _Creating:
    """The part of CreatePlanMigration that is a transaction, once the catalog has said what the plans consist of."""

    database: Database
    asked: Asked

    @transactional
    async def CreatePlanMigration(
        self, request: pb.CreatePlanMigrationRequest, tx: Tx
    ) -> plan_migration_pb2.PlanMigration:
        return plan_migration_to_proto(await plan_migrations.create_plan_migration(tx, self.asked))


def _migration_id(text: str, *, field: str = "id") -> PlanMigrationId:
    return PlanMigrationId(ids.check(text, "pmig", field=field))
