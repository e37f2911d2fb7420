"""Knows `saldo tax`: the tax rates of a seller, and the rules that say what they apply to."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from google.type import decimal_pb2
from rich.markup import escape
from rich.table import Table

from common import wire
from common.caller import Role
from saldo.invoicing.v1 import tax_service_pb2 as pb
from saldo.invoicing.v1.tax_pb2 import TaxRate, TaxScope
from tools.client import Client, pages
from tools.commands import console

app = typer.Typer(help="Tax rates, and what they apply to.", no_args_is_help=True)

CATEGORIES: Final = tuple(each.name for each in TaxRate.Category.DESCRIPTOR.values if each.number)

Id = Annotated[str, typer.Argument(help="as the list shows it")]


@app.command()
def rates(context: typer.Context, seller: console.Seller) -> None:
    """The rates that were declared, oldest first."""
    _run(context, seller, _rates)


@app.command()
def declare(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="as printed, for example VAT")],
    percent: Annotated[str, typer.Argument(help="0 to 100")],
    seller: console.Seller,
    category: Annotated[str, typer.Option(help="of UNTDID 5305: S, Z, E, AE, K, G, O, L or M")] = "S",
    inclusive: Annotated[bool, typer.Option("--inclusive", help="amounts include it")] = False,
    compound: Annotated[bool, typer.Option("--compound", help="it is a share of the other taxes as well")] = False,
    reason: Annotated[str, typer.Option(help="why nothing is due, in E, AE, K, G and O")] = "",
    country: Annotated[str, typer.Option(help="where it is due, for example FR; otherwise where customers are")] = "",
    region: Annotated[str, typer.Option(help="where in the country")] = "",
) -> None:
    """Declare a rate, and print its id."""
    if category not in CATEGORIES:
        console.fail(f"--category must be one of {', '.join(CATEGORIES)}", code=console.MISUSED)
    rate = TaxRate(
        name=name,
        category=TaxRate.Category.Value(category),
        percent=decimal_pb2.Decimal(value=percent),
        is_inclusive=inclusive,
        is_compound=compound,
        exemption_reason=reason,
        country=country,
        region=region,
    )

    async def work(client: Client) -> None:
        typer.echo((await client.tax.CreateTaxRate(pb.CreateTaxRateRequest(tax_rate=rate))).id)

    _run(context, seller, work)


@app.command()
def archive(context: typer.Context, rate: Id, seller: console.Seller) -> None:
    """Keep a rate out of new rules; those that name it go on."""

    async def work(client: Client) -> None:
        await client.tax.ArchiveTaxRate(pb.ArchiveTaxRateRequest(id=rate))

    _run(context, seller, work)


@app.command()
def rules(context: typer.Context, seller: console.Seller) -> None:
    """What applies to what, and from when on, in the order in which it was set."""
    _run(context, seller, _rules)


@app.command(name="set")
def set_(
    context: typer.Context,
    rate: Annotated[list[str], typer.Argument(help="ids of rates, as the list shows them")],
    seller: console.Seller,
    tax_code: Annotated[str, typer.Option(help="only for products with this tax code")] = "",
    customer: Annotated[str, typer.Option(help="only for this customer, whatever it is")] = "",
    start: Annotated[str, typer.Option(help="from when on, as 2026-03-01T00:00:00Z; otherwise now")] = "",
) -> None:
    """Say which rates apply, by default to everything, and print the id of the rule."""
    if tax_code and customer:
        console.fail("a rule is about a tax code or about a customer", code=console.MISUSED)
    scope = TaxScope(tax_code=tax_code) if tax_code else TaxScope(customer_id=customer) if customer else TaxScope()
    request = pb.SetTaxRuleRequest(scope=scope, tax_rate_ids=rate)
    if start:
        request.start_time.CopyFrom(wire.timestamp(console.instant(start, option="--start")))

    async def work(client: Client) -> None:
        typer.echo((await client.tax.SetTaxRule(request)).id)

    _run(context, seller, work)


@app.command()
def end(context: typer.Context, rule: Id, seller: console.Seller) -> None:
    """Leave what a rule is about without one from now on."""

    async def work(client: Client) -> None:
        await client.tax.DeleteTaxRule(pb.DeleteTaxRuleRequest(id=rule))

    _run(context, seller, work)


async def _rates(client: Client) -> None:
    table = _table("id", "name", "category", "percent", "", "where", "archived")
    async for page in pages(client.tax.ListTaxRates, pb.ListTaxRatesRequest(page_size=1000), pb.ListTaxRatesResponse):
        for rate in page.tax_rates:
            what = [each for each, holds in (("included", rate.is_inclusive), ("compound", rate.is_compound)) if holds]
            table.add_row(
                rate.id,
                escape(rate.name),
                TaxRate.Category.Name(rate.category),
                rate.percent.value,
                escape(", ".join([*what, *([rate.exemption_reason] if rate.exemption_reason else [])])),
                "-".join(each for each in (rate.country, rate.region) if each),
                console.when(rate.archive_time) if rate.HasField("archive_time") else "",
            )
    _print(table)


async def _rules(client: Client) -> None:
    table = _table("id", "about", "rates", "from", "until")
    async for page in pages(client.tax.ListTaxRules, pb.ListTaxRulesRequest(page_size=1000), pb.ListTaxRulesResponse):
        for rule in page.tax_rules:
            table.add_row(
                rule.id,
                rule.scope.tax_code or rule.scope.customer_id or "everything else",
                " ".join(rule.tax_rate_ids),
                console.when(rule.start_time),
                console.when(rule.end_time) if rule.HasField("end_time") else "",
            )
    _print(table)


def _run(context: typer.Context, seller: str, work: console.Work) -> None:
    console.run(work, console.suite(context), role=Role.OWNER, seller=console.seller_id(seller))


def _table(*headings: str) -> Table:
    table = Table(box=None, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _print(table: Table) -> None:
    if table.row_count:
        console.out.print(table)
    else:
        console.out.print("none")
