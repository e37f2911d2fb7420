"""The table in docs/subscription-states.md says what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from subscriptions.domain.states import State, Verb
from tools import subscription_states


def test_the_committed_table_is_current() -> None:
    """It is generated; whoever changes what is legal runs `python -m tools.subscription_states`."""
    assert subscription_states.PAGE.read_text() == subscription_states.page()


def test_every_verb_and_every_state_is_in_it() -> None:
    """One row for each verb, one cell for each state, and what is said otherwise."""
    rows = [line for line in subscription_states.page().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [verb.name for verb in Verb]
    assert {row.count("|") for row in rows} == {len(State) + 3}


def test_an_outdated_table_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the command that anyone can run, as well as here."""
    monkeypatch.setattr(subscription_states, "PAGE", tmp_path / "states.md")
    monkeypatch.setattr("sys.argv", ["subscription_states"])
    assert subscription_states.main() == 0
    monkeypatch.setattr("sys.argv", ["subscription_states", "check"])
    assert subscription_states.main() == 0
    (tmp_path / "states.md").write_text("old")
    assert subscription_states.main() == 1
    assert "out of date" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["subscription_states", "list"])
    assert subscription_states.main() == 2
