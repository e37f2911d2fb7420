"""Credit that is set aside: exact whoever asks at once, used once, free again when nobody says anything."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc
import pytest

from common.testing import SANDBOX_START, Suite, refused
from invoicing.usecases import reservations
from saldo.invoicing.v1 import credit_pb2, events_pb2
from saldo.invoicing.v1 import credit_service_pb2 as pb

from .conftest import Business
from .wallet import gbp, new_wallet, pence_of

pytestmark = pytest.mark.patched_when_used

MINUTE = timedelta(minutes=1)
STATE = credit_pb2.CreditReservation
NOTHING = "cres_01h455vb4pex5vsknk084sn02q"


async def test_what_is_reserved_is_used_in_part(business: Business) -> None:
    """The rest is free again at once; said twice it is used once."""
    wallet = await new_wallet(business)
    gift = await wallet.give(3_00, kind=credit_pb2.CreditGrant.PROMOTIONAL)
    own = await wallet.give(10_00)
    reservation = await wallet.reserve(8_00, reference="job 7")
    assert (reservation.state, reservation.reference) == (STATE.OPEN, "job 7")
    balance = await wallet.balance()
    assert (pence_of(balance.available), pence_of(balance.reserved)) == (5_00, 8_00)
    committed = await wallet.commit(reservation, 4_00)
    assert (committed.state, pence_of(committed.committed_amount)) == (STATE.COMMITTED, 4_00)
    assert await wallet.commit(reservation, 4_00) == committed
    assert await wallet.available() == 9_00
    assert await wallet.movements(gift) == [
        ("GRANTED", 3_00, 3_00, 0),
        ("RESERVED", 3_00, 3_00, 3_00),
        ("COMMITTED", 3_00, 0, 0),
    ]
    assert await wallet.movements(own) == [
        ("GRANTED", 10_00, 10_00, 0),
        ("RESERVED", 5_00, 10_00, 5_00),
        ("COMMITTED", 1_00, 9_00, 4_00),
        ("RELEASED", 4_00, 9_00, 0),
    ]
    found = await business.credit.GetCreditReservation(pb.GetCreditReservationRequest(id=reservation.id))
    assert found == committed
    with refused("CREDIT_RESERVATION_ENDED", grpc.StatusCode.FAILED_PRECONDITION):
        await wallet.commit(reservation, 5_00)
    with refused("CREDIT_RESERVATION_ENDED"):
        await wallet.release(reservation)


async def test_all_who_reserve_at_once_get_no_more_than_there_is(business: Business) -> None:
    """Twenty ask for a tenth each, and an invoice comes by: somebody goes without, and nothing is given twice."""
    wallet = await new_wallet(business)
    for pence in (4_00, 6_00):
        await wallet.give(pence)
    answers = await asyncio.gather(*(wallet.reserve(1_00) for _ in range(20)), return_exceptions=True)
    made = [each for each in answers if isinstance(each, credit_pb2.CreditReservation)]
    assert len(made) == 10
    for answer in answers:
        if not isinstance(answer, credit_pb2.CreditReservation):
            assert isinstance(answer, grpc.aio.AioRpcError)
            assert answer.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert await wallet.available() == 0
    invoice = await wallet.bill("5")
    assert pence_of(invoice.credit_applied) == 0
    await asyncio.gather(
        *(wallet.commit(each) for each in made[:5]), *(wallet.release(each) for each in made[5:]), wallet.bill("2")
    )
    balance = await wallet.balance()
    assert pence_of(balance.reserved) == 0
    movements = await wallet.movements()
    assert sum(pence for kind, pence, *_ in movements if kind == "COMMITTED") == 5_00
    assert pence_of(balance.available) == 5_00 - sum(pence for kind, pence, *_ in movements if kind == "APPLIED")


async def test_two_who_settle_one_reservation_do_it_once(business: Business) -> None:
    """One commits, one releases: whoever is first decides."""
    wallet = await new_wallet(business)
    await wallet.give(10_00)
    for _ in range(5):
        reservation = await wallet.reserve(1_00)
        answers = await asyncio.gather(
            wallet.commit(reservation), wallet.release(reservation), wallet.commit(reservation), return_exceptions=True
        )
        assert any(isinstance(each, credit_pb2.CreditReservation) for each in answers)
    balance = await wallet.balance()
    committed = sum(pence for kind, pence, *_ in await wallet.movements() if kind == "COMMITTED")
    assert (pence_of(balance.reserved), pence_of(balance.available)) == (0, 10_00 - committed)


async def test_what_nobody_speaks_of_is_free_again(suite: Suite, business: Business) -> None:
    """By the seller's clock; announced once; and too late is too late."""
    wallet = await new_wallet(business)
    await wallet.give(10_00)
    reservation = await wallet.reserve(8_00)
    released = await wallet.release(await wallet.reserve(2_00))
    assert released.state == STATE.RELEASED
    await suite.travel(SANDBOX_START + MINUTE)
    assert await wallet.available() == 10_00
    [event] = suite.announced(events_pb2.CreditReservationExpired)
    assert (event.reservation.id, event.reservation.state) == (reservation.id, STATE.EXPIRED)
    with refused("CREDIT_RESERVATION_EXPIRED", grpc.StatusCode.FAILED_PRECONDITION):
        await wallet.commit(reservation)
    assert (await wallet.release(reservation)).state == STATE.EXPIRED


async def test_what_is_reserved_in_time_is_used_when_the_grant_is_over(suite: Suite, business: Business) -> None:
    """The customer could rely on it; what is let go of expires at once."""
    wallet = await new_wallet(business)
    grant = await wallet.give(10_00, expire_time=SANDBOX_START + MINUTE)
    reservation = await wallet.reserve(6_00, time_to_live_seconds=3_600)
    await suite.travel(SANDBOX_START + 2 * MINUTE)
    assert pence_of((await wallet.balance()).reserved) == 6_00
    await wallet.commit(reservation, 1_00)
    await suite.quiet()
    assert await wallet.movements(grant) == [
        ("GRANTED", 10_00, 10_00, 0),
        ("RESERVED", 6_00, 10_00, 6_00),
        ("EXPIRED", 4_00, 6_00, 6_00),
        ("COMMITTED", 1_00, 5_00, 5_00),
        ("RELEASED", 5_00, 5_00, 0),
        ("EXPIRED", 5_00, 0, 0),
    ]
    assert len(suite.announced(events_pb2.CreditGrantExpired)) == 2


async def test_a_scope_keeps_its_credit_for_what_it_covers(business: Business) -> None:
    """Whoever does not say what it is for gets what is for everything."""
    wallet = await new_wallet(business)
    await wallet.give(10_00, scope=credit_pb2.CreditScope(meters=["kwh"]))
    await wallet.give(1_00)
    with refused("INSUFFICIENT_CREDIT", grpc.StatusCode.FAILED_PRECONDITION) as refusal:
        await wallet.reserve(2_00)
    assert refusal.metadata["available"] == "1.00"
    assert pence_of((await wallet.reserve(11_00, use=pb.CreditUse(meter="kwh"))).amount) == 11_00


async def test_what_makes_no_sense_is_refused(business: Business, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is set aside."""
    wallet = await new_wallet(business)
    with refused("CREDIT_BALANCE_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
        await wallet.reserve(1)
    await wallet.give(10_00)
    with refused("INSUFFICIENT_CREDIT"):
        await wallet.reserve(10_01)
    for reason, told in (
        ("CREDIT_AMOUNT_NOT_POSITIVE", {"amount": gbp(0)}),
        ("INVALID_ARGUMENT", {"time_to_live_seconds": 0}),
        ("INVALID_ARGUMENT", {"time_to_live_seconds": 31 * 86_400 + 1}),
        ("INVALID_ARGUMENT", {"use": pb.CreditUse(price_id="kwh")}),
        ("INVALID_ARGUMENT", {"reference": "x" * 201}),
        ("INVALID_ARGUMENT", {"customer_id": "x"}),
    ):
        with refused(reason):
            await wallet.reserve(1_00, **told)
    reservation = await wallet.reserve(2_00)
    with refused("CREDIT_RESERVATION_EXCEEDED"):
        await wallet.commit(reservation, 2_01)
    with refused("CREDIT_AMOUNT_NOT_POSITIVE"):
        await wallet.commit(reservation, 0)
    euros = pb.CommitCreditReservationRequest(id=reservation.id, amount=gbp(1_00))
    euros.amount.currency_code = "EUR"
    with refused("CURRENCY_MISMATCH"):
        await business.credit.CommitCreditReservation(euros)
    for method, request in (
        (business.credit.GetCreditReservation, pb.GetCreditReservationRequest(id=NOTHING)),
        (business.credit.CommitCreditReservation, pb.CommitCreditReservationRequest(id=NOTHING)),
        (business.credit.ReleaseCreditReservation, pb.ReleaseCreditReservationRequest(id=NOTHING)),
    ):
        with refused("CREDIT_RESERVATION_NOT_FOUND", grpc.StatusCode.NOT_FOUND):
            await method(request)
    monkeypatch.setattr(reservations, "OPEN_MAX", 1)
    with refused("TOO_MANY_CREDIT_RESERVATIONS", grpc.StatusCode.RESOURCE_EXHAUSTED):
        await wallet.reserve(1_00)
    assert pence_of((await wallet.balance()).reserved) == 2_00
