"""Knows how tax ids look on the wire, and by which rules a number is one of its kind."""

from __future__ import annotations

from importlib import import_module
from typing import Final, Protocol, cast

from stdnum import exceptions

from common import wire
from saldo.subscriptions.v1 import tax_id_pb2
from subscriptions.domain.errors import TaxIdMalformed
from subscriptions.domain.tax_id import TaxId, TaxNumber

VALUE_LENGTH_MAX: Final = 40
NORTHERN_IRELAND: Final = "XI"
_ONE_STOP_SHOP: Final = ("EU", "IM")
"""Numbers of sellers from outside of the Union: of no state, and nothing that VIES knows."""
_WRITTEN_OTHERWISE: Final = {"EL": "GR"}


def tax_id_to_proto(tax_id: TaxId) -> tax_id_pb2.TaxId:
    proto = tax_id_for_events(tax_id)
    proto.value = tax_id.number.value
    return proto


def tax_id_for_events(tax_id: TaxId) -> tax_id_pb2.TaxId:
    """Without the number, which may be a person's."""
    return tax_id_pb2.TaxId(
        id=tax_id.id,
        customer_id=tax_id.customer_id,
        kind=tax_id_pb2.TaxId.Kind.Value(tax_id.number.kind),
        country=tax_id.number.country,
        state=tax_id_pb2.TaxId.State.Value(tax_id.state.name),
        check_time=wire.timestamp(tax_id.check_time) if tax_id.check_time else None,
        create_time=wire.timestamp(tax_id.create_time),
        revision=tax_id.revision,
    )


def tax_number(kind_number: tax_id_pb2.TaxId.Kind.ValueType, value: str) -> TaxNumber:
    """The number as its authority writes it; TAX_ID_MALFORMED if it breaks a rule of its kind."""
    kind = wire.enum_name(tax_id_pb2.TaxId.Kind, kind_number, field="kind")
    text = wire.text(value, field="value", max_length=VALUE_LENGTH_MAX)
    rules = cast(_Rules, import_module(f"stdnum.{_MODULES[kind]}"))
    try:
        normalized = rules.validate(text)
    except exceptions.ValidationError as error:
        raise _malformed(kind, _rule(error)) from error
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        # Some rules stumble over what is not even a number.
        raise _malformed(kind, "FORMAT") from error
    country = kind.partition("_")[0]
    if kind == "EU_VAT":
        if normalized.startswith(_ONE_STOP_SHOP):
            raise _malformed(kind, "COMPONENT")
        country = _WRITTEN_OTHERWISE.get(normalized[:2], normalized[:2])
    return TaxNumber(kind=kind, country=country, value=normalized)


class _Rules(Protocol):
    def validate(self, number: str, /) -> str: ...


def _rule(error: exceptions.ValidationError) -> str:
    found = [name for name, kind in _RULES_BROKEN.items() if isinstance(error, kind)]
    return found[0] if found else "FORMAT"


def _malformed(kind: str, rule: str) -> TaxIdMalformed:
    return TaxIdMalformed(f"is no {kind}: {_SAYINGS[rule]}", field="value", kind=kind, rule=rule)


_RULES_BROKEN: Final[dict[str, type[Exception]]] = {
    "LENGTH": exceptions.InvalidLength,
    "CHECKSUM": exceptions.InvalidChecksum,
    "COMPONENT": exceptions.InvalidComponent,
    "FORMAT": exceptions.InvalidFormat,
}
_SAYINGS: Final = {
    "LENGTH": "it is too long or too short",
    "CHECKSUM": "its check digits are wrong",
    "COMPONENT": "a part of it, such as the country or a date, does not exist",
    "FORMAT": "it has characters that do not belong there",
}
_MODULES: Final = {
    "EU_VAT": "eu.vat",
    "AD_NRT": "ad.nrt",
    "AL_NIPT": "al.nipt",
    "AR_CUIT": "ar.cuit",
    "AU_ABN": "au.abn",
    "AZ_VOEN": "az.voen",
    "BR_CNPJ": "br.cnpj",
    "BR_CPF": "br.cpf",
    "BY_UNP": "by.unp",
    "CA_BN": "ca.bn",
    "CH_UID": "ch.uid",
    "CH_VAT": "ch.vat",
    "CL_RUT": "cl.rut",
    "CN_USCC": "cn.uscc",
    "CO_NIT": "co.nit",
    "CR_CPJ": "cr.cpj",
    "DE_STNR": "de.stnr",
    "DO_RNC": "do.rnc",
    "DZ_NIF": "dz.nif",
    "EC_RUC": "ec.ruc",
    "EG_TN": "eg.tn",
    "ES_NIF": "es.nif",
    "FO_VN": "fo.vn",
    "GB_UTR": "gb.utr",
    "GB_VAT": "gb.vat",
    "GH_TIN": "gh.tin",
    "GN_NIFP": "gn.nifp",
    "GT_NIT": "gt.nit",
    "ID_NPWP": "id.npwp",
    "IL_HP": "il.hp",
    "IN_GSTIN": "in_.gstin",
    "IN_PAN": "in_.pan",
    "IS_VSK": "is_.vsk",
    "IT_CODICE_FISCALE": "it.codicefiscale",
    "JP_CN": "jp.cn",
    "JP_IN": "jp.in_",
    "KE_PIN": "ke.pin",
    "KR_BRN": "kr.brn",
    "LI_PEID": "li.peid",
    "MA_ICE": "ma.ice",
    "MC_TVA": "mc.tva",
    "MD_IDNO": "md.idno",
    "ME_PIB": "me.pib",
    "MK_EDB": "mk.edb",
    "MX_RFC": "mx.rfc",
    "MZ_NUIT": "mz.nuit",
    "NO_MVA": "no.mva",
    "NO_ORGNR": "no.orgnr",
    "NZ_IRD": "nz.ird",
    "PE_RUC": "pe.ruc",
    "PY_RUC": "py.ruc",
    "RS_PIB": "rs.pib",
    "RU_INN": "ru.inn",
    "SE_ORGNR": "se.orgnr",
    "SG_UEN": "sg.uen",
    "SM_COE": "sm.coe",
    "SN_NINEA": "sn.ninea",
    "SV_NIT": "sv.nit",
    "TH_MOA": "th.moa",
    "TH_TIN": "th.tin",
    "TN_MF": "tn.mf",
    "TR_VKN": "tr.vkn",
    "TW_UBN": "tw.ubn",
    "UA_EDRPOU": "ua.edrpou",
    "UA_RNTRC": "ua.rntrc",
    "US_EIN": "us.ein",
    "US_TIN": "us.tin",
    "UY_RUT": "uy.rut",
    "VE_RIF": "ve.rif",
    "VN_MST": "vn.mst",
    "ZA_TIN": "za.tin",
}
