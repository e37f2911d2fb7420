"""Answers `saldo.invoicing.v1.MoneyService`: the arithmetic of `common.money`, for whoever has to agree with it."""

from __future__ import annotations

from typing import Final

from common import wire
from common.errors import InvalidArgument
from common.money import Money, currencies, exact_sum, minor_units
from invoicing.domain.errors import WeightNotPositive
from saldo.invoicing.v1 import rating_service_pb2 as pb
from saldo.invoicing.v1.rating_service_pb2_grpc import MoneyServiceServicer

WEIGHTS_MAX: Final = 10_000
AMOUNT_PLACES_MAX: Final = 32
AMOUNT_DIGITS_MAX: Final = 64


class MoneyApi(MoneyServiceServicer):
    async def ListCurrencies(self, request: pb.ListCurrenciesRequest, context: object) -> pb.ListCurrenciesResponse:
        return pb.ListCurrenciesResponse(
            currencies=[pb.Currency(code=code, minor_units=places) for code, places in currencies()]
        )

    async def RoundAmount(self, request: pb.RoundAmountRequest, context: object) -> pb.RoundAmountResponse:
        minor_units(request.currency, field="currency")
        exact = wire.parse_decimal(
            request.amount, field="amount", places_max=AMOUNT_PLACES_MAX, digits_max=AMOUNT_DIGITS_MAX
        )
        amount = Money.rounded(exact, request.currency)
        return pb.RoundAmountResponse(
            amount=wire.money(amount), rounding=wire.decimal(exact_sum([amount.amount, exact.copy_negate()]))
        )

    async def AllocateAmount(self, request: pb.AllocateAmountRequest, context: object) -> pb.AllocateAmountResponse:
        amount = wire.parse_money(request.amount, field="amount")
        if not 1 <= len(request.weights) <= WEIGHTS_MAX:
            raise InvalidArgument(f"must be 1 to {WEIGHTS_MAX}", field="weights")
        weights = [wire.parse_decimal(each, field=f"weights[{n}]") for n, each in enumerate(request.weights)]
        for n, weight in enumerate(weights):
            if weight < 0:
                raise WeightNotPositive("must not be negative", field=f"weights[{n}]")
        if not any(weights):
            raise WeightNotPositive("must not all be zero", field="weights")
        return pb.AllocateAmountResponse(amounts=[wire.money(share) for share in amount.allocate(weights)])
