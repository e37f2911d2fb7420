"""Drafts that wait for somebody's word, and how long drafts wait for usage."""

from __future__ import annotations

import pytest

from common.testing import Suite, refused
from saldo.invoicing.v1 import invoice_pb2
from saldo.invoicing.v1 import invoicing_service_pb2 as pb

from .conftest import Business, per_unit, told, utc
from .test_invoices import DAY, FEBRUARY, drafted

DRAFT, OPEN = invoice_pb2.Invoice.DRAFT, invoice_pb2.Invoice.OPEN


async def declare(business: Business, **policy: object) -> pb.IssuingPolicy:
    request = pb.SetIssuingPolicyRequest(policy=pb.IssuingPolicy(**policy))  # type: ignore[arg-type] # fields of it
    declared: pb.IssuingPolicy = await business.invoicing.SetIssuingPolicy(request)
    return declared


async def states(business: Business) -> list[invoice_pb2.Invoice.State.ValueType]:
    return [invoice.state for invoice in await business.invoices()]


async def test_a_draft_is_held_until_it_is_released(suite: Suite, business: Business) -> None:
    """Whoever would finalize it meanwhile is told; usage that comes in late still counts. Then it is final at once."""
    [draft] = await drafted(business)
    held = await business.invoicing.HoldInvoice(pb.HoldInvoiceRequest(id=draft.id, reason="Looks odd"))
    assert (held.state, held.hold_reason) == (DRAFT, "Looks odd")
    await suite.travel(FEBRUARY + 2 * DAY)
    assert await states(business) == [DRAFT]
    with refused("INVOICE_HELD"):
        await business.invoicing.FinalizeInvoice(pb.FinalizeInvoiceRequest(id=draft.id))
    released = await business.invoicing.ReleaseInvoice(pb.ReleaseInvoiceRequest(id=draft.id))
    assert (released.state, released.hold_reason) == (DRAFT, "")
    await suite.quiet()
    [final] = await business.invoices()
    assert (final.state, final.number) == (OPEN, "NL-000001")
    for verb, request in (
        (business.invoicing.HoldInvoice, pb.HoldInvoiceRequest(id=draft.id, reason="Too late")),
        (business.invoicing.ReleaseInvoice, pb.ReleaseInvoiceRequest(id=draft.id)),
    ):
        with refused("INVOICE_NOT_DRAFT"):
            await verb(request)


async def test_only_what_is_held_is_released(business: Business) -> None:
    """A release that means nothing is a mistake worth telling."""
    [draft] = await drafted(business)
    with refused("INVOICE_NOT_HELD"):
        await business.invoicing.ReleaseInvoice(pb.ReleaseInvoiceRequest(id=draft.id))


async def test_invoices_are_approved_where_the_seller_wants_it(suite: Suite, business: Business) -> None:
    """Also those that have no usage to wait for; nothing is announced before."""
    assert (await business.invoicing.GetIssuingPolicy(pb.GetIssuingPolicyRequest())) == pb.IssuingPolicy()
    declared = await declare(business, requires_approval=True)
    assert (declared.requires_approval, declared.revision) == (True, 1)
    plan = await business.plan(await business.price("Seats", **per_unit("10")))
    await business.subscribe(await business.customer(), plan)
    [draft] = await business.invoices()
    assert (draft.state, draft.hold_reason, told(draft)) == (DRAFT, "to be approved", [("Seats", 10_00)])
    await business.invoicing.ReleaseInvoice(pb.ReleaseInvoiceRequest(id=draft.id))
    await suite.quiet()
    assert await states(business) == [OPEN]


async def test_a_draft_waits_as_long_as_the_slowest_of_its_meters(suite: Suite, business: Business) -> None:
    """A meter that is read by hand is waited for; others have what the seller says."""
    for code in ("kwh", "water"):
        await business.meter(code)
    await declare(business, grace_seconds=0, meter_grace_seconds={"water": 2 * 86_400})
    power = await business.plan(await business.price("Power", meter="kwh", **per_unit("1")))
    water = await business.plan(await business.price("Water", meter="water", **per_unit("1")))
    quick, slow = await business.customer(), await business.customer()
    await business.subscribe(quick, power)
    await business.subscribe(slow, water)
    for customer, meter in ((quick, "kwh"), (slow, "water")):
        await business.use(customer, meter, "5", utc(2026, 1, 5))
    await suite.travel(FEBRUARY + DAY)
    assert [invoice.state for invoice in await business.invoices(quick)] == [OPEN]
    assert [invoice.state for invoice in await business.invoices(slow)] == [DRAFT]
    await business.use(slow, "water", "2", utc(2026, 1, 31))
    await suite.travel(FEBRUARY + 3 * DAY)
    [late] = await business.invoices(slow)
    assert (late.state, told(late)) == (OPEN, [("Water", 7_00)])


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({"grace_seconds": -1}, "policy.grace_seconds"),
        ({"grace_seconds": 30 * 86_400 + 1}, "policy.grace_seconds"),
        ({"meter_grace_seconds": {"kwh": -1}}, "policy.meter_grace_seconds"),
        ({"meter_grace_seconds": {"no meter": 1}}, "policy.meter_grace_seconds"),
        ({"meter_grace_seconds": {f"m{n}": 1 for n in range(101)}}, "policy.meter_grace_seconds"),
    ],
    ids=["negative", "too long", "negative of a meter", "no code", "too many"],
)
async def test_a_policy_that_makes_no_sense_is_refused(
    business: Business, policy: dict[str, object], field: str
) -> None:
    """By its field, and what was declared before stays."""
    await declare(business, grace_seconds=60)
    with refused("INVALID_ARGUMENT") as refusal:
        await declare(business, **policy)
    assert refusal.field == field
    kept = await business.invoicing.GetIssuingPolicy(pb.GetIssuingPolicyRequest())
    assert (kept.grace_seconds, kept.revision) == (60, 1)


async def test_a_hold_has_a_reason(business: Business) -> None:
    """Somebody will wonder."""
    [draft] = await drafted(business)
    for reason in ("", "x" * 501):
        with refused("INVALID_ARGUMENT") as refusal:
            await business.invoicing.HoldInvoice(pb.HoldInvoiceRequest(id=draft.id, reason=reason))
        assert refusal.field == "reason"
