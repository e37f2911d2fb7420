"""Answers the cases of money.jsonl: minor units, rounding, and splitting without losing any."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from google.type.decimal_pb2 import Decimal as DecimalPb
from google.type.money_pb2 import Money

from saldo.invoicing.v1 import rating_service_pb2 as pb
from tests.conformance.case import Answer, Case, Json, Unsupported, check_fields
from tests.conformance.system import Refused, System, attempt

CURRENCY_OF_PLACES: Final = {"0": "JPY", "2": "EUR", "3": "KWD", "4": "CLF"}
NANOS: Final = Decimal(10**9)
FIELDS: Final = frozenset(
    ["kind", "currencies", "amount", "currency", "decimals", "mode", "lines", "weights", "parts"]
)  # fmt: skip


async def answer(case: Case, saldo: System) -> Answer:
    given = case.given
    check_fields(given, FIELDS)
    match given["kind"]:
        case "minor_units":
            return await _minor_units(given["currencies"], saldo)
        case "round":
            _check_mode(case)
            return {"amount": await _rounded(given["amount"], _currency(given), saldo)}
        case "round_minor":
            _check_mode(case)
            return {"amount": await _rounded(given["amount"], "JPY", saldo)}
        case "to_minor":
            places = (await currencies(saldo))[given["currency"]]
            return {"minor": (await _rounded(given["amount"], given["currency"], saldo)).scaleb(places)}
        case "sum_of_lines":
            rounded = [await _rounded(line, given["currency"], saldo) for line in given["lines"]]
            together = str(sum(map(Decimal, given["lines"]), Decimal(0)))
            return {"sum_of_rounded": sum(rounded), "rounded_sum": await _rounded(together, given["currency"], saldo)}
        case "allocate":
            return await _allocated(money(given["amount"], given["currency"]), given["weights"], saldo)
        case "allocate_minor":
            return await _allocated(money(given["amount"], "JPY"), given["weights"], saldo)
        case "split_minor":
            return await _allocated(money(given["amount"], "JPY"), ["1"] * int(given["parts"]), saldo)
    raise Unsupported(given["kind"])


def _check_mode(case: Case) -> None:
    """There is one way of rounding. What comes of another is compared if the case says which convention it is."""
    mode = case.given.get("mode", "half_up")
    if mode != "half_up" and f"round:{mode}" not in case.conventions:
        raise Unsupported(f"rounding {mode}")


def money(amount: str, currency: str) -> Money:
    whole, rest = divmod(abs(Decimal(amount)), 1)
    if rest * NANOS % 1:
        raise Unsupported(f"{amount} is finer than money can be told")
    sign = -1 if amount.startswith("-") else 1
    return Money(currency_code=currency, units=sign * int(whole), nanos=sign * int(rest * NANOS))


def decimal_of(amount: Money) -> Decimal:
    return Decimal(amount.units) + Decimal(amount.nanos).scaleb(-9)


async def currencies(saldo: System) -> dict[str, int]:
    told = await saldo.money.ListCurrencies(pb.ListCurrenciesRequest())
    return {each.code: each.minor_units for each in told.currencies}


async def _minor_units(codes: Sequence[str], saldo: System) -> Answer:
    known = await currencies(saldo)
    if all(code in known for code in codes):
        return {"decimals": {code: known[code] for code in codes}}
    [unknown, *_] = [code for code in codes if code not in known]
    request = pb.RoundAmountRequest(amount=DecimalPb(value="1"), currency=unknown)
    found = await attempt(saldo.money.RoundAmount(request))
    return {"error": found.reason.lower()} if isinstance(found, Refused) else {}


async def _rounded(amount: str, currency: str, saldo: System) -> Decimal:
    request = pb.RoundAmountRequest(amount=DecimalPb(value=amount), currency=currency)
    return decimal_of((await saldo.money.RoundAmount(request)).amount)


async def _allocated(whole: Money, weights: Sequence[str], saldo: System) -> Answer:
    request = pb.AllocateAmountRequest(amount=whole, weights=[DecimalPb(value=weight) for weight in weights])
    found = await attempt(saldo.money.AllocateAmount(request))
    if isinstance(found, Refused):
        # Whoever sends a fraction of a cent is told which field is finer than the currency.
        return {"error": "amount_not_in_minor_units" if found.field == "amount.nanos" else found.reason.lower()}
    return {"parts": [decimal_of(each) for each in found.amounts]}


def _currency(given: Json) -> str:
    if "currency" in given:
        return str(given["currency"])
    if given["decimals"] not in CURRENCY_OF_PLACES:
        raise Unsupported(f"no currency has {given['decimals']} decimals")
    return CURRENCY_OF_PLACES[given["decimals"]]
