"""Knows how series of numbers, and what is wrong with them, look on the wire."""

from __future__ import annotations

from common import wire
from common.errors import InvalidArgument
from invoicing.domain.credit_note import CreditNote
from invoicing.domain.invoice import Invoice
from invoicing.domain.issued import Fault, Number, Series, Verification
from saldo.invoicing.v1 import invoicing_service_pb2 as pb

NAME_LENGTH_MAX = 64


def parse_series(text: str) -> str:
    return wire.text(text, field="series", max_length=NAME_LENGTH_MAX)


def series_to_proto(series: Series) -> pb.NumberSeries:
    last = series.last
    return pb.NumberSeries(
        name=last.series,
        count=last.ordinal,
        first_number=str(Number(series=last.series, ordinal=1)),
        last_number=str(last),
        link=_hex(series.link),
    )


def verification_to_proto(found: Verification) -> pb.VerifySeriesResponse:
    return pb.VerifySeriesResponse(
        first_number=str(found.first),
        last_number=str(found.last),
        count=found.last.ordinal - found.first.ordinal + 1,
        link=_hex(found.link),
        faults=[_fault_to_proto(fault) for fault in found.faults],
        next_page_token="" if found.is_end else wire.encode_page_token(str(found.last.ordinal)),
    )


def ordinal_after(page: wire.Page) -> int:
    """After which number a page begins."""
    if not page.after:
        return 0
    [text] = page.after
    if not (text.isascii() and text.isdecimal()):
        raise InvalidArgument("must be a next_page_token of the same list, unchanged", field="page_token")
    return int(text)


def _fault_to_proto(fault: Fault) -> pb.SeriesFault:
    document = fault.document
    return pb.SeriesFault(
        number=str(fault.number),
        kind=pb.SeriesFault.Kind.Value(fault.kind.name),
        invoice_id=document.id if isinstance(document, Invoice) else "",
        credit_note_id=document.id if isinstance(document, CreditNote) else "",
    )


def _hex(link: bytes | None) -> str:
    return "" if link is None else link.hex()
