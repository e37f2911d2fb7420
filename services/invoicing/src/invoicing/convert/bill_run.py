"""Knows how bill runs, their results and customers who are parked look on the wire."""

from __future__ import annotations

from typing import Final

from common import ids, wire
from common.errors import InvalidArgument
from invoicing.domain.bill_run import NAMED_MAX, BillingState, BillRun, BillRunId, Outcome, Parked, Result, Scope
from saldo.invoicing.v1 import bill_run_pb2 as runs
from saldo.invoicing.v1 import bill_runs_service_pb2 as pb

_SCOPES: Final = runs.BillRun.Scope
_STATES: Final = runs.BillRun.State
_OUTCOMES: Final = runs.BillRunResult.Outcome


def parse_bill_run_id(text: str) -> BillRunId:
    return BillRunId(ids.check(text, "brun"))


def parse_outcome(number: runs.BillRunResult.Outcome.ValueType) -> Outcome | None:
    """None is all."""
    return Outcome[wire.enum_name(_OUTCOMES, number, field="outcome")] if number else None


def parse_order(request: pb.CreateBillRunRequest) -> tuple[Scope, list[str]]:
    """Who is to be billed, each customer once."""
    scope = Scope[wire.enum_name(_SCOPES, request.scope, field="scope")]
    customer_ids = sorted({ids.check(each, "cus", field="customer_ids") for each in request.customer_ids})
    if scope is not Scope.CUSTOMERS and customer_ids:
        raise InvalidArgument("must be empty unless the scope is CUSTOMERS", field="customer_ids")
    if scope is Scope.CUSTOMERS and not 1 <= len(request.customer_ids) <= NAMED_MAX:
        raise InvalidArgument(f"must be 1 to {NAMED_MAX}", field="customer_ids")
    return scope, customer_ids


def bill_run_to_proto(run: BillRun, *, is_told_whole: bool = True) -> runs.BillRun:
    return runs.BillRun(
        id=run.id,
        scope=_SCOPES.Value(run.scope.name),
        state=_STATES.Value(run.state.name),
        customer_count=run.customer_count,
        progress=_progress_to_proto(run) if is_told_whole else None,
        totals=[
            runs.BillRunTotal(
                invoice_count=each.invoice_count, line_count=each.line_count, total=wire.money(each.total)
            )
            for each in run.totals
        ],
        create_time=wire.timestamp(run.create_time),
        end_time=None if run.end_time is None else wire.timestamp(run.end_time),
    )


def result_to_proto(result: Result) -> runs.BillRunResult:
    return runs.BillRunResult(
        customer_id=result.customer_id,
        outcome=_OUTCOMES.Value(result.outcome.name),
        invoice_ids=result.invoice_ids,
        reason=result.reason,
        message=result.message,
        end_time=None if result.end_time is None else wire.timestamp(result.end_time),
    )


def parked_to_proto(found: Parked) -> runs.ParkedCustomer:
    return runs.ParkedCustomer(
        customer_id=found.customer_id,
        reason=found.reason,
        message=found.message,
        park_time=None if found.park_time is None else wire.timestamp(found.park_time),
    )


def state_to_proto(state: BillingState) -> pb.BillingState:
    return pb.BillingState(
        due_count=state.due_count,
        oldest_due_time=None if state.oldest_due_time is None else wire.timestamp(state.oldest_due_time),
        next_due_time=None if state.next_due_time is None else wire.timestamp(state.next_due_time),
        parked_counts=state.parked_counts,
        draft_count=state.draft_count,
        held_draft_count=state.held_draft_count,
    )


def _progress_to_proto(run: BillRun) -> runs.BillRunProgress:
    return runs.BillRunProgress(
        waiting_count=run.counts.get(Outcome.WAITING, 0),
        billed_count=run.counts.get(Outcome.BILLED, 0),
        nothing_owed_count=run.counts.get(Outcome.NOTHING_OWED, 0),
        parked_count=run.counts.get(Outcome.PARKED, 0),
        cancelled_count=run.counts.get(Outcome.CANCELLED, 0),
    )
