"""Numbers as people type them, against the rules of their kinds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidArgument
from saldo.subscriptions.v1 import tax_id_pb2
from subscriptions.convert.tax_id import VALUE_LENGTH_MAX, tax_number
from subscriptions.domain.errors import TaxIdMalformed
from subscriptions.domain.tax_id import VERIFIABLE, TaxNumber

Kind = tax_id_pb2.TaxId.Kind
KINDS = [name for name, number in Kind.items() if number]


@pytest.mark.parametrize(
    ("kind", "typed", "country", "value"),
    [
        ("EU_VAT", "dk 13 58 56 28", "DK", "DK13585628"),
        ("EU_VAT", "NL4495445B01", "NL", "NL004495445B01"),
        ("EU_VAT", "EL 094259216", "GR", "EL094259216"),
        ("EU_VAT", "XI 110305878", "XI", "XI110305878"),
        ("GB_VAT", "GB 980 7806 84", "GB", "980780684"),
        ("CH_VAT", "CHE-107.787.577 IVA", "CH", "CHE107787577IVA"),
        ("NO_MVA", "NO 995 525 828 MVA", "NO", "995525828MVA"),
        ("AU_ABN", "83 914 571 673", "AU", "83914571673"),
        ("US_EIN", "91-1144442", "US", "911144442"),
        ("IN_GSTIN", "27AAPFU0939F1ZV", "IN", "27AAPFU0939F1ZV"),
        ("BR_CNPJ", "16.727.230/0001-97", "BR", "16727230000197"),
    ],
)
def test_a_number_is_kept_as_its_authority_writes_it(kind: str, typed: str, country: str, value: str) -> None:
    """However it was typed: two ways to write one number are one number."""
    assert tax_number(Kind.Value(kind), typed) == TaxNumber(kind=kind, country=country, value=value)


@pytest.mark.parametrize(
    ("kind", "typed", "rule"),
    [
        ("EU_VAT", "DK13585627", "CHECKSUM"),
        ("EU_VAT", "DK1358562", "LENGTH"),
        ("EU_VAT", "DK1358562X", "FORMAT"),
        ("EU_VAT", "US911144442", "COMPONENT"),
        ("EU_VAT", "EU372022452", "COMPONENT"),
        ("EU_VAT", "GB980780684", "COMPONENT"),
        ("US_EIN", "07-1144442", "COMPONENT"),
        ("AU_ABN", "99999999999", "CHECKSUM"),
    ],
)
def test_a_malformed_number_is_refused_with_the_rule_it_breaks(kind: str, typed: str, rule: str) -> None:
    """So that the form says what to look at; and without the number, which belongs in no log."""
    with pytest.raises(TaxIdMalformed) as refused:
        tax_number(Kind.Value(kind), typed)
    assert (refused.value.field, refused.value.metadata) == ("value", {"kind": kind, "rule": rule})
    assert typed not in refused.value.message


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_rules(kind: str) -> None:
    """A kind in the contract that nothing checks would take anything; and what is verified must exist."""
    with pytest.raises(TaxIdMalformed):
        tax_number(Kind.Value(kind), "?")
    assert set(KINDS) >= VERIFIABLE


@given(st.sampled_from(KINDS), st.text(min_size=1, max_size=VALUE_LENGTH_MAX))
def test_no_text_is_more_than_refused(kind: str, typed: str) -> None:
    """Whatever somebody sends: a number, or a refusal that names the field."""
    refusal, found = _told(kind, typed)
    if found is None:
        assert refusal is not None
        assert refusal.field == "value"
    else:
        assert tax_number(Kind.Value(kind), found.value) == found


def _told(kind: str, typed: str) -> tuple[InvalidArgument | None, TaxNumber | None]:
    try:
        return None, tax_number(Kind.Value(kind), typed)
    except InvalidArgument as refusal:
        return refusal, None


@given(st.sampled_from(KINDS), st.from_regex(r"[A-Z]{0,4}[0-9]{5,18}[A-Z0-9]{0,4}", fullmatch=True))
def test_what_was_accepted_is_accepted_as_it_is_kept(kind: str, typed: str) -> None:
    """Or the same number could be added twice."""
    refusal, found = _told(kind, typed)
    if found is None:
        assert refusal is not None
        assert refusal.metadata["rule"] in {"LENGTH", "FORMAT", "COMPONENT", "CHECKSUM"}
    else:
        assert tax_number(Kind.Value(kind), found.value) == found


def test_a_kind_has_to_be_said() -> None:
    """The same digits mean another thing elsewhere."""
    with pytest.raises(InvalidArgument) as refused:
        tax_number(tax_id_pb2.TaxId.KIND_UNSPECIFIED, "DK13585628")
    assert refused.value.field == "kind"
