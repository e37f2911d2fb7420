"""Knows `saldo ledger`: the books of a seller, for beancount or to be read."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer
from google.type import money_pb2
from rich.table import Table

from common import wire
from common.caller import Role
from saldo.invoicing.v1 import ledger_service_pb2 as pb
from saldo.invoicing.v1.ledger_pb2 import LedgerAccount, LedgerEntry
from tools.books import ENTRIES_PER_PAGE, PAGES_MAX, BooksMoved, beancount, parse_day, today
from tools.client import Client, pages
from tools.commands import console

app = typer.Typer(help="The books of a seller.", no_args_is_help=True)

From = Annotated[str, typer.Option("--from", help="the first day, as 2026-01-01; otherwise from the beginning")]
To = Annotated[str, typer.Option("--to", help="the last day, as 2026-12-31; otherwise today")]


@app.command()
def export(context: typer.Context, seller: console.Seller, start: From = "", end: To = "") -> None:
    """Print the books as a file for beancount, with the balances that `bean-check` is to find."""
    first, last = _days(start, end)

    async def work(client: Client) -> None:
        try:
            async for line in beancount(client, start=first, end=last or await today(client)):
                typer.echo(line)
        except BooksMoved as error:
            console.fail(str(error))

    _carry_out(context, seller, work)


@app.command(name="trial-balance")
def trial_balance(
    context: typer.Context,
    seller: console.Seller,
    as_of: Annotated[str, typer.Option(help="the day, as 2026-12-31; otherwise today")] = "",
    currency: Annotated[str, typer.Option(help="only this one, as EUR")] = "",
) -> None:
    """What every account came to on a day. The balances of a currency add up to nothing."""
    day = _day(as_of, option="--as-of")

    async def work(client: Client) -> None:
        asked = pb.GetTrialBalanceRequest(as_of_date=None if day is None else wire.date(day), currency=currency)
        found = await client.ledger.GetTrialBalance(asked)
        table = _table(f"as of {parse_day(found.as_of_date)}", "account", "", "debits", "credits", "balance")
        for each in found.balances:
            amounts = (each.debits, each.credits, each.balance)
            table.add_row(LedgerAccount.Name(each.account), each.balance.currency_code, *map(_told, amounts))
        console.out.print(table)

    _carry_out(context, seller, work)


@app.command()
def statement(
    context: typer.Context,
    customer: Annotated[str, typer.Argument(help="the customer's id, cus_…")],
    seller: console.Seller,
    currency: Annotated[str, typer.Option(help="the currency, as EUR", show_default=False)],
    start: From = "",
    end: To = "",
) -> None:
    """What a customer owed, what changed it, and what is owed now."""
    first, last = _days(start, end)

    async def work(client: Client) -> None:
        until = last or await today(client)
        request = pb.GetCustomerStatementRequest(
            customer_id=customer,
            currency=currency,
            start_date=wire.date(first or date(1970, 1, 1)),
            end_date=wire.date(until),
            page_size=ENTRIES_PER_PAGE,
        )
        table = _table(f"{customer}, {currency}", "date", "", "number", "amount", "owed", "credit")
        found = pages(client.ledger.GetCustomerStatement, request, pb.CustomerStatement, pages_max=PAGES_MAX)
        page = pb.CustomerStatement()
        is_first = True
        async for page in found:
            if is_first:
                _balance(table, "before", page.opening_balance, page.opening_credit_balance)
            is_first = False
            for each in page.movements:
                table.add_row(
                    str(parse_day(each.date)),
                    LedgerEntry.Event.Name(each.event),
                    each.invoice_number,
                    *map(_told, (each.amount, each.balance, each.credit_balance)),
                )
        _balance(table, str(until), page.closing_balance, page.closing_credit_balance)
        console.out.print(table)

    _carry_out(context, seller, work)


def _carry_out(context: typer.Context, seller: str, work: console.Work) -> None:
    console.run(work, console.suite(context), role=Role.OWNER, seller=console.seller_id(seller))


def _table(title: str, *columns: str) -> Table:
    """Amounts are on the right, and words on the left."""
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for nth, column in enumerate(columns):
        table.add_column(column, justify="right" if nth >= len(columns) - 3 else "left", no_wrap=True)
    return table


def _balance(table: Table, when: str, owed: money_pb2.Money, credit: money_pb2.Money) -> None:
    table.add_row(when, "BALANCE", "", "", _told(owed), _told(credit), style="bold")


def _told(amount: money_pb2.Money) -> str:
    return f"{wire.parse_money(amount, field='amount').amount:,f}"


def _days(start: str, end: str) -> tuple[date | None, date | None]:
    first, last = _day(start, option="--from"), _day(end, option="--to")
    if first and last and last < first:
        console.fail("--to must not be before --from", code=console.MISUSED)
    return first, last


def _day(text: str, *, option: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        console.fail(f"{option} must be a day like 2026-12-31", code=console.MISUSED)
