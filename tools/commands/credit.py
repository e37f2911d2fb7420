"""Knows `saldo credit`: what customers have to their credit, for those who look after them."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Final

import typer
from google.type.money_pb2 import Money as MoneyPb
from rich.table import Table

from common import wire
from common.caller import Role
from common.errors import InvalidArgument
from common.money import Money
from saldo.invoicing.v1 import credit_pb2
from saldo.invoicing.v1 import credit_service_pb2 as pb
from tools.client import Client, pages
from tools.commands import console

GRANTS_PER_PAGE: Final = 1_000
GRANTS_PAGES_MAX: Final = 10

app = typer.Typer(help="What customers have to their credit.", no_args_is_help=True)

Customer = Annotated[str, typer.Argument(help="the customer's id, cus_…")]


@app.command()
def grant(
    context: typer.Context,
    customer: Customer,
    amount: Annotated[str, typer.Argument(help="how much, such as 50.00")],
    currency: Annotated[str, typer.Argument(help="its ISO 4217 code")],
    seller: console.Seller,
    promotional: Annotated[bool, typer.Option("--promotional", help="a present, not the customer's own money")] = False,
    priority: Annotated[int, typer.Option(help="lower ones are used first, 1 to 1000")] = 0,
    expires: Annotated[str, typer.Option(help="until when, such as 2027-01-01T00:00:00Z")] = "",
    note: Annotated[str, typer.Option(help="what to remember of it; no personal data")] = "",
) -> None:
    """Give a customer credit: it is taken off the invoices that come."""
    kind = credit_pb2.CreditGrant.PROMOTIONAL if promotional else credit_pb2.CreditGrant.PAID
    request = pb.GrantCreditRequest(
        customer_id=customer,
        amount=_money(amount, currency),
        kind=kind,
        priority=priority,
        expire_time=wire.timestamp(console.instant(expires, option="--expires")) if expires else None,
        note=note,
    )

    async def work(client: Client) -> None:
        made: credit_pb2.CreditGrant = await client.credit.GrantCredit(request)
        console.out.print(made.id)

    console.run(work, console.suite(context), role=Role.OWNER, seller=console.seller_id(seller))


@app.command()
def revoke(
    context: typer.Context, grant_id: Annotated[str, typer.Argument(help="grant_…")], seller: console.Seller
) -> None:
    """Take away what is left of a grant."""

    async def work(client: Client) -> None:
        revoked: credit_pb2.CreditGrant = await client.credit.RevokeCreditGrant(
            pb.RevokeCreditGrantRequest(id=grant_id)
        )
        console.out.print(f"{revoked.id} {credit_pb2.CreditGrant.State.Name(revoked.state)}", highlight=False)

    console.run(work, console.suite(context), role=Role.OWNER, seller=console.seller_id(seller))


@app.command()
def balance(context: typer.Context, customer: Customer, seller: console.Seller) -> None:
    """Tell what a customer has, in every currency, and the grants of which something is left."""

    async def work(client: Client) -> None:
        found = await client.credit.ListCreditBalances(pb.ListCreditBalancesRequest(customer_id=customer))
        for each in found.balances:
            console.out.print(_told(each), highlight=False, soft_wrap=True)
        if not found.balances:
            console.out.print("nothing")
            return
        table = Table("grant", "left", "reserved", "kind", "priority", "expires", "state", box=None, pad_edge=False)
        asked = pb.ListCreditGrantsRequest(customer_id=customer, open_only=True, page_size=GRANTS_PER_PAGE)
        answer = pb.ListCreditGrantsResponse
        async for page in pages(client.credit.ListCreditGrants, asked, answer, pages_max=GRANTS_PAGES_MAX):
            for one in page.grants:
                table.add_row(
                    one.id,
                    _text(one.remaining),
                    _text(one.reserved),
                    credit_pb2.CreditGrant.Kind.Name(one.kind),
                    str(one.priority),
                    console.when(one.expire_time) if one.HasField("expire_time") else "",
                    credit_pb2.CreditGrant.State.Name(one.state),
                )
        console.out.print(table)

    console.run(work, console.suite(context), role=Role.VIEWER, seller=console.seller_id(seller))


def _told(found: credit_pb2.CreditBalance) -> str:
    low = ", low" if found.is_low else ""
    return f"{_text(found.available)} available, {_text(found.reserved)} reserved, {_text(found.pending)} pending{low}"


def _money(amount: str, currency: str) -> MoneyPb:
    try:
        exact = Decimal(amount)
        money = Money.rounded(exact, currency)
    except (InvalidOperation, ValueError, InvalidArgument):
        console.fail(f"{amount} {currency} is no amount of money", code=console.MISUSED)
    if money.amount != exact:
        console.fail(f"{amount} {currency} is finer than {currency} is paid in", code=console.MISUSED)
    return wire.money(money)


def _text(amount: MoneyPb) -> str:
    return str(wire.parse_money(amount, field="amount"))
