"""Answers `saldo.invoicing.v1.CreditService`: parse, call, answer."""

from __future__ import annotations

from collections.abc import Callable

from common import wire
from common.db import Database, Tx
from common.rpc import Desk, transactional
from invoicing import clients, store
from invoicing.convert.credit import (
    balance_to_proto,
    grant_to_proto,
    movement_to_proto,
    parse_amount,
    parse_customer,
    parse_grant,
    parse_grant_id,
    parse_key,
    parse_reference,
    parse_reservation_id,
    parse_rule,
    parse_threshold,
    parse_time_to_live,
    parse_use,
    reservation_to_proto,
    rule_to_proto,
)
from invoicing.domain.credit import HoldingKey
from invoicing.domain.party import Customer
from invoicing.usecases import credit, reservations, top_ups
from saldo.invoicing.v1 import credit_pb2
from saldo.invoicing.v1 import credit_service_pb2 as pb
from saldo.invoicing.v1.credit_service_pb2_grpc import CreditServiceServicer


class CreditApi(CreditServiceServicer):
    def __init__(self, database: Database, desk: Callable[[], Desk]) -> None:
        self.database = database
        self._desk = desk

    async def GrantCredit(self, request: pb.GrantCreditRequest, context: object) -> credit_pb2.CreditGrant:
        # Outside of the transaction, as whoever knows it is a neighbour: is there such a customer?
        await clients.customer(self._desk(), parse_customer(request.customer_id))
        return await self._GrantCredit(request, context)

    @transactional
    async def _GrantCredit(self, request: pb.GrantCreditRequest, tx: Tx) -> credit_pb2.CreditGrant:
        grant = parse_grant(request, id=tx.new_id("grant"), at=tx.now)
        return grant_to_proto(await credit.give(tx, grant), at=tx.now)

    @transactional
    async def GetCreditGrant(self, request: pb.GetCreditGrantRequest, tx: Tx) -> credit_pb2.CreditGrant:
        return grant_to_proto(await store.credit_grant(tx, parse_grant_id(request.id)), at=tx.now)

    @transactional
    async def ListCreditGrants(self, request: pb.ListCreditGrantsRequest, tx: Tx) -> pb.ListCreditGrantsResponse:
        page = wire.page(request)
        customer_id = parse_customer(request.customer_id) if request.customer_id else ""
        found = await store.list_grants(
            tx,
            store.GrantFilter(customer_id=customer_id, open_only=request.open_only),
            after=page.after[0] if page.after else "",
            limit=page.size + 1,
        )
        return pb.ListCreditGrantsResponse(
            grants=[grant_to_proto(each, at=tx.now) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )

    @transactional
    async def RevokeCreditGrant(self, request: pb.RevokeCreditGrantRequest, tx: Tx) -> credit_pb2.CreditGrant:
        return grant_to_proto(await credit.revoke(tx, parse_grant_id(request.id)), at=tx.now)

    @transactional
    async def GetCreditBalance(self, request: pb.GetCreditBalanceRequest, tx: Tx) -> credit_pb2.CreditBalance:
        return balance_to_proto(await credit.balance(tx, parse_key(request.customer_id, request.currency)))

    @transactional
    async def ListCreditBalances(self, request: pb.ListCreditBalancesRequest, tx: Tx) -> pb.ListCreditBalancesResponse:
        page = wire.page(request, keys=2)
        found = await credit.balances(
            tx,
            customer_id=parse_customer(request.customer_id) if request.customer_id else "",
            after=HoldingKey(*page.after) if page.after else None,
            limit=page.size + 1,
        )
        more = len(found) > page.size
        return pb.ListCreditBalancesResponse(
            balances=[balance_to_proto(each) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(*found[page.size - 1].holding.key) if more else "",
        )

    @transactional
    async def ListCreditMovements(
        self, request: pb.ListCreditMovementsRequest, tx: Tx
    ) -> pb.ListCreditMovementsResponse:
        page = wire.page(request)
        found = await store.list_movements(
            tx,
            customer_id=parse_customer(request.customer_id) if request.customer_id else "",
            grant_id=parse_grant_id(request.grant_id, field="grant_id") if request.grant_id else "",
            after=page.after[0] if page.after else "",
            limit=page.size + 1,
        )
        return pb.ListCreditMovementsResponse(
            movements=[movement_to_proto(each) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )

    async def SetLowCreditThreshold(
        self, request: pb.SetLowCreditThresholdRequest, context: object
    ) -> credit_pb2.CreditBalance:
        await clients.customer(self._desk(), parse_customer(request.customer_id))
        return await self._SetLowCreditThreshold(request, context)

    @transactional
    async def _SetLowCreditThreshold(
        self, request: pb.SetLowCreditThresholdRequest, tx: Tx
    ) -> credit_pb2.CreditBalance:
        key = parse_key(request.customer_id, request.currency)
        return balance_to_proto(await credit.watch(tx, key, parse_threshold(request)))

    @transactional
    async def ReserveCredit(self, request: pb.ReserveCreditRequest, tx: Tx) -> credit_pb2.CreditReservation:
        reservation = await reservations.reserve(
            tx,
            parse_customer(request.customer_id),
            parse_amount(request.amount),
            use=parse_use(request.use),
            time_to_live=parse_time_to_live(request.time_to_live_seconds),
            reference=parse_reference(request.reference),
        )
        return reservation_to_proto(reservation)

    @transactional
    async def GetCreditReservation(
        self, request: pb.GetCreditReservationRequest, tx: Tx
    ) -> credit_pb2.CreditReservation:
        return reservation_to_proto(await store.reservation(tx, parse_reservation_id(request.id)))

    @transactional
    async def CommitCreditReservation(
        self, request: pb.CommitCreditReservationRequest, tx: Tx
    ) -> credit_pb2.CreditReservation:
        amount = parse_amount(request.amount) if request.HasField("amount") else None
        return reservation_to_proto(await reservations.commit(tx, parse_reservation_id(request.id), amount))

    @transactional
    async def ReleaseCreditReservation(
        self, request: pb.ReleaseCreditReservationRequest, tx: Tx
    ) -> credit_pb2.CreditReservation:
        return reservation_to_proto(await reservations.release(tx, parse_reservation_id(request.id)))

    async def SetTopUpRule(self, request: pb.SetTopUpRuleRequest, context: object) -> credit_pb2.CreditTopUpRule:
        customer = await clients.customer(self._desk(), parse_customer(request.customer_id))
        return await _Setting(self.database, customer).SetTopUpRule(request, context)

    @transactional
    async def GetTopUpRule(self, request: pb.GetTopUpRuleRequest, tx: Tx) -> credit_pb2.CreditTopUpRule:
        return rule_to_proto(await top_ups.rule_of(tx, parse_key(request.customer_id, request.currency)))

    @transactional
    async def ListTopUpRules(self, request: pb.ListTopUpRulesRequest, tx: Tx) -> pb.ListTopUpRulesResponse:
        page = wire.page(request)
        found = await store.list_top_up_rules(tx, after=page.after[0] if page.after else "", limit=page.size + 1)
        return pb.ListTopUpRulesResponse(
            rules=[rule_to_proto(each) for each in found[: page.size]],
            next_page_token=wire.encode_page_token(found[page.size - 1].id) if len(found) > page.size else "",
        )

    @transactional
    async def DeleteTopUpRule(self, request: pb.DeleteTopUpRuleRequest, tx: Tx) -> credit_pb2.CreditTopUpRule:
        return rule_to_proto(await top_ups.delete_rule(tx, parse_key(request.customer_id, request.currency)))


class _Setting:
    """The half of SetTopUpRule that is a transaction, once it is known where the customer's days begin."""

    def __init__(self, database: Database, customer: Customer) -> None:
        self.database = database
        self._customer = customer

    @transactional
    async def SetTopUpRule(self, request: pb.SetTopUpRuleRequest, tx: Tx) -> credit_pb2.CreditTopUpRule:
        rule = parse_rule(request, id=tx.new_id("topup"), time_zone=self._customer.time_zone, at=tx.now)
        return rule_to_proto(await top_ups.set_rule(tx, rule))
