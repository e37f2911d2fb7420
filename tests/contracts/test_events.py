"""The catalogue of events in docs/events.md says what the contracts and the services say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.sources import SERVICES
from tests.contracts.descriptors import events
from tools import event_catalogue


def test_the_committed_catalogue_is_current() -> None:
    """It is generated; whoever changes an event runs `python -m tools.event_catalogue`."""
    assert event_catalogue.PAGE.read_text() == event_catalogue.page()


@pytest.mark.parametrize("service", SERVICES)
def test_every_event_and_field_is_described(service: str) -> None:
    """A reader who never opens a .proto learns all of it."""
    page = event_catalogue.page()
    for event in events(service):
        entry = page.partition(f"\n### {event.name}\n")[2].partition("\n### ")[0]
        assert f"Subject `{event.full_name}`" in entry
        for field in event.fields:
            assert f"| `{field.name}` | `" in entry
    assert "|  |\n" not in page


def test_an_outdated_catalogue_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the command that anyone can run, as well as here."""
    monkeypatch.setattr(event_catalogue, "PAGE", tmp_path / "events.md")
    monkeypatch.setattr("sys.argv", ["event_catalogue"])
    assert event_catalogue.main() == 0
    monkeypatch.setattr("sys.argv", ["event_catalogue", "check"])
    assert event_catalogue.main() == 0
    (tmp_path / "events.md").write_text("old")
    assert event_catalogue.main() == 1
    assert "out of date" in capsys.readouterr().err
