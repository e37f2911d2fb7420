"""One request for each RPC about taxes, that names only things which exist."""

from __future__ import annotations

from google.protobuf.message import Message
from google.type.decimal_pb2 import Decimal
from google.type.money_pb2 import Money

from saldo.invoicing.v1 import tax_pb2
from saldo.invoicing.v1 import tax_service_pb2 as pb
from saldo.subscriptions.v1.customer_pb2 import Customer
from tests.support.sandbox import Sandbox


async def tax_requests(sandbox: Sandbox, payer: Customer) -> list[Message]:
    three, ten = Decimal(value="3"), Money(currency_code="GBP", units=10)
    vat = tax_pb2.TaxRate(name="Fuzzed", category=tax_pb2.TaxRate.S, percent=Decimal(value="20"))
    exempt = tax_pb2.TaxRate(
        name="Exempt",
        category=tax_pb2.TaxRate.E,
        percent=Decimal(value="0"),
        exemption_reason="X",
        country="FR",
        region="A",
    )
    rate = await sandbox.client.tax.CreateTaxRate(pb.CreateTaxRateRequest(tax_rate=vat))
    scope = tax_pb2.TaxScope(customer_id=payer.id)
    rule = await sandbox.client.tax.SetTaxRule(pb.SetTaxRuleRequest(scope=scope, tax_rate_ids=[rate.id]))
    allowance = pb.AllowanceOrCharge(kind=pb.AllowanceOrCharge.ALLOWANCE, amount=ten)
    return [
        pb.CreateTaxRateRequest(tax_rate=exempt),
        pb.GetTaxRateRequest(id=rate.id),
        pb.ListTaxRatesRequest(page_size=10),
        pb.ArchiveTaxRateRequest(id=rate.id),
        pb.SetTaxRuleRequest(scope=scope, tax_rate_ids=[rate.id]),
        pb.ListTaxRulesRequest(scope=scope, page_size=10),
        pb.DeleteTaxRuleRequest(id=rule.id),
        pb.CalculateTaxRequest(
            currency="GBP",
            customer_id=payer.id,
            lines=[
                pb.LineToTax(
                    units=pb.UnitsToTax(quantity=three, unit_price=three, base_quantity=three),
                    allowances_and_charges=[allowance],
                    tax=pb.TaxToApply(tax_rate_ids=[rate.id], tax_rates=[vat]),
                )
            ],
            allowances_and_charges=[allowance],
            prepaid=ten,
            rounding=ten,
        ),
    ]
