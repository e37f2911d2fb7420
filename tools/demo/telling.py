"""Knows how the outcome is told to people: tables, the trail of one amount as a tree, and the checker's verdict."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from common.document import Fault
from saldo.dunning.v1.dunning_campaign_pb2 import DunningCampaign
from saldo.invoicing.v1.invoice_pb2 import Invoice, LineItem
from saldo.metering.v1.usage_event_pb2 import UsageEvent
from saldo.payments.v1.payment_pb2 import Payment, PaymentAttempt
from saldo.subscriptions.v1.subscription_pb2 import Subscription
from tools.demo.account import Account, amount
from tools.demo.performance import Outcome
from tools.demo.trail import Branch, Trail

FAULTS_SHOWN: Final = 50
INVOICES_SHOWN: Final = 200
BRANCHES_SHOWN: Final = 60
NO_TRAIL: Final = "The way of an amount is drawn when the demo starts the services itself: saldo down first."


def tell_faults(console: Console, faults: Iterable[Fault]) -> None:
    """As compilers do, so that editors can jump there."""
    known = list(faults)
    for fault in known[:FAULTS_SHOWN]:
        console.print(str(fault), markup=False, highlight=False, soft_wrap=True)
    if len(known) > FAULTS_SHOWN:
        console.print(f"and {len(known) - FAULTS_SHOWN} more")


def tell(console: Console, outcome: Outcome) -> None:
    account = outcome.account
    console.print()
    console.print(_invoices(account))
    console.print()
    console.print(_collected(account))
    _tell_dunning(console, account)
    _tell_corrections(console, account)
    _tell_settled(console, account)
    if outcome.documents:
        folder = _short(outcome.documents[0].parent)
        console.print(f"\n{len(outcome.documents)} invoices as PDF in [bold]{escape(folder)}[/]", soft_wrap=True)
    sent = outcome.sent
    console.print(
        f"usage events: {sent.accepted:,} accepted, {sent.duplicate:,} recognised as sent before,"
        f" {sent.rejected:,} rejected"
        + (f", {outcome.unsent:,} lie after the end of the story" if outcome.unsent else "")
    )
    for rejection in sent.rejections[:FAULTS_SHOWN]:
        console.print(f"  {rejection}", style="red", markup=False, soft_wrap=True)
    console.print()
    if outcome.trail is not None:
        console.print(_trail(outcome.trail, outcome.event))
    else:
        console.print(NO_TRAIL, style="dim")
    console.print()
    outcome.report.print(console)
    console.print()
    if outcome.report.content:
        console.print("[green]Everything that must hold does.[/]")
    else:
        console.print("[red]Something that must hold does not.[/]")


def _invoices(account: Account) -> Table:
    table = Table(title="Invoices", title_justify="left", show_edge=False, pad_edge=False)
    for name in ("number", "customer", "date"):
        table.add_column(name, no_wrap=True)
    table.add_column("lines", no_wrap=True)
    table.add_column("", justify="right")
    table.add_column("total", justify="right")
    table.add_column("state")
    for invoice in account.invoices[:INVOICES_SHOWN]:
        date = invoice.invoice_date
        table.add_row(
            invoice.number,
            escape(account.customers.get(invoice.customer_id, invoice.customer_id)),
            f"{date.year}-{date.month:02}-{date.day:02}",
            escape("\n".join(line.description for line in invoice.line_items)),
            "\n".join(f"{amount(line.amount).amount:f}" for line in invoice.line_items),
            str(amount(invoice.total)),
            _state(invoice),
        )
    if len(account.invoices) > INVOICES_SHOWN:
        table.add_row("…", f"{len(account.invoices) - INVOICES_SHOWN} more")
    return table


def _state(invoice: Invoice) -> str:
    name = Invoice.State.Name(invoice.state)
    return f"[green]{name}[/]" if invoice.state == Invoice.PAID else f"[yellow]{name}[/]"


def _collected(account: Account) -> Table:
    table = Table(title="Collected", title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("")
    for name in ("invoiced", "paid", "still open"):
        table.add_column(name, justify="right")
    for each in account.collected:
        table.add_row(each.currency, *(f"{value.amount:f}" for value in (each.invoiced, each.paid, each.open)))
    return table


def _tell_dunning(console: Console, account: Account) -> None:
    cancelled = {
        subscription.id for subscription in account.subscriptions if subscription.state == Subscription.CANCELLED
    }
    numbers = {invoice.id: invoice.number for invoice in account.invoices}
    for invoice_id, campaign in account.campaigns.items():
        state = DunningCampaign.State.Name(campaign.state)
        customer = account.customers.get(campaign.customer_id, campaign.customer_id)
        gone = ", subscription cancelled" if set(campaign.subscription_ids) & cancelled else ""
        number = numbers.get(invoice_id, invoice_id)
        console.print(
            f"dunning of {number} ({customer}): {state} after {len(campaign.steps)} steps{gone}",
            markup=False,
        )


def _tell_corrections(console: Console, account: Account) -> None:
    for invoice, line in account.corrections:
        console.print(
            f"late usage on {invoice.number}: {line.quantity.value} {line.unit_label} of {_period(invoice, line)},"
            f" {amount(line.amount)}",
            markup=False,
        )


def _tell_settled(console: Console, account: Account) -> None:
    """Attempts whose answer was lost: settled later than they were made, and captured once."""
    numbers = {invoice.id: invoice.number for invoice in account.invoices}
    for payment in account.payments.values():
        for attempt in payment.attempts:
            waited = attempt.settle_time.ToSeconds() - attempt.create_time.ToSeconds()
            if attempt.state == PaymentAttempt.SUCCEEDED and waited > 0:
                console.print(
                    f"lost answer for {numbers.get(payment.invoice_id, payment.invoice_id)}: the gateway was asked"
                    f" {waited // 60} minutes later; captured once, as {attempt.gateway_reference}",
                    markup=False,
                )


def _trail(trail: Trail, event: UsageEvent | None) -> Tree:
    line, payment = trail.line, trail.payment
    tree = Tree("[bold]One amount, from usage event to payment[/]")
    what = f"{event.value.value} {line.unit_label} at {event.time.ToJsonString()}" if event is not None else "usage"
    first = tree.add(escape(f"usage event {event.id if event is not None else ''}: {what}"))
    _grow(first, trail.ingest)
    second = tree.add(
        escape(
            f"line {line.description} of {trail.invoice.number}: {line.quantity.value} {line.unit_label}"
            f" of {line.usage.event_count} usage events, {amount(line.amount)}; digest {line.usage.digest[:12]}…"
        )
    )
    _grow(second, trail.bill)
    paid = payment.attempts[-1]
    tree.add(escape(f"payment {payment.id}: {amount(payment.amount)} {_name(payment)}, {paid.gateway_reference}"))
    return tree


def _grow(tree: Tree, branches: Iterable[Branch], room: int = BRANCHES_SHOWN) -> int:
    for branch in branches:
        if room <= 0:
            return 0
        span = branch.span
        what = span.name.rpartition("/")[2]
        called = f" → {branch.answered_by}" if branch.answered_by else ""
        grown = tree.add(f"[cyan]{span.service}{called}[/] {escape(what)} [dim]{span.milliseconds:.1f} ms[/]")
        room = _grow(grown, branch.branches, room - 1)
    return room


def _name(payment: Payment) -> str:
    return Payment.State.Name(payment.state)


def _period(invoice: Invoice, line: LineItem) -> str:
    """The days it covers, as the customer counts them."""
    zone = ZoneInfo(invoice.time_zone)
    first = line.period.start_time.ToDatetime(UTC).astimezone(zone).date()
    last = (line.period.end_time.ToDatetime(UTC) - timedelta(microseconds=1)).astimezone(zone).date()
    return f"{first} to {last}"


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
