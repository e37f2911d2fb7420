"""docs/operations.md names every setting and every metric that there is, and none that there is not."""

from __future__ import annotations

import importlib
import re

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from common.settings import ServiceSettings
from saldo.operations.v1.operations_service_pb2 import ServiceState
from tests.architecture.sources import ROOT, SERVICES, product_modules

PAGE = (ROOT / "docs/operations.md").read_text()


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    return "" if default in ("", None) else f"`{default}`"


def test_common_settings_are_documented() -> None:
    """An operator reads the table, not the class."""
    told = re.findall(r"^\| `(SALDO_\w+)` \| (.*?) ?\| \S", PAGE, flags=re.MULTILINE)
    assert dict(told) == {
        f"SALDO_{name.upper()}": _default(field) for name, field in ServiceSettings.model_fields.items()
    }


@pytest.mark.parametrize("service", SERVICES)
def test_settings_of_a_service_are_documented(service: str) -> None:
    """With the default that holds when nobody says anything."""
    told = re.findall(rf"^\| {service} \| `(SALDO_\w+)` \| (.*?) ?\|", PAGE, flags=re.MULTILINE)
    settings: type[ServiceSettings] = importlib.import_module(f"{service}.settings").Settings
    own = {name: field for name, field in settings.model_fields.items() if name not in ServiceSettings.model_fields}
    assert dict(told) == {f"SALDO_{name.upper()}": _default(field) for name, field in own.items()}


@pytest.mark.parametrize("service", ["common", *SERVICES])
def test_every_setting_says_what_it_is_for(service: str) -> None:
    """Beside the knob, for whoever reads the code."""
    settings = ServiceSettings if service == "common" else importlib.import_module(f"{service}.settings").Settings
    own = {name: field for name, field in settings.model_fields.items() if name not in SELF_EXPLANATORY}
    assert [name for name, field in own.items() if not field.description] == []


SELF_EXPLANATORY = {"log_level", "database_pool_size", "jobs_concurrency"}


def test_metrics_are_documented() -> None:
    """Whoever makes a dashboard finds each by its name, and finds nothing that is not there."""
    sources = "\n".join(path.read_text() for path in product_modules())
    made = set(re.findall(r"create_(?:counter|histogram|gauge)\(\s*\"([\w.]+)\"", sources))
    gauges = re.search(r"for field in \(((?:\"\w+\",? ?)+)\)", sources)
    assert gauges is not None
    fields = re.findall(r"\"(\w+)\"", gauges[1])
    assert set(fields) <= set(ServiceState.DESCRIPTOR.fields_by_name)
    table = PAGE.partition("**Metrics**")[2].partition("**Traces.**")[0]
    told = set(re.findall(r"`((?:saldo|rpc)\.[\w.]+)`", table))
    watched = re.findall(r"\.watch\(\s*\"([\w.]+)\"", sources)
    assert len(watched) == sources.count("service.watch(")
    assert told == made | {f"saldo.{name}" for name in (*fields, *watched)}
