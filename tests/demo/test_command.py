"""What a person sees who types `saldo demo` with a folder in which something is wrong."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from tests.demo.test_folder import ROW, USAGE, write
from tools.cli import app


def test_a_malformed_folder_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    """A mistake in a file costs a second, not the start of a suite."""
    home = tmp_path / "home"
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder, {"usage/power.csv": USAGE + ROW.replace("c1", "c2") + "\n", "seller.yaml": "display_name: A\n"})
    result = CliRunner().invoke(app, ["--folder", str(home), "demo", str(folder)])
    assert result.exit_code == 1
    assert "seller.yaml:1:1: address is missing" in result.output
    assert "nothing was sent" in result.output
    assert not home.exists()


def test_a_malformed_row_is_refused_with_its_place(tmp_path: Path) -> None:
    """One bad row among thousands is found without searching."""
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder, {"usage/power.csv": USAGE + ROW.replace("c1", "c2") + "\n"})
    result = CliRunner().invoke(app, ["--folder", str(tmp_path / "home"), "demo", str(folder)])
    assert result.exit_code == 1
    assert "usage/power.csv:3:1: there is no customer 'c2'" in result.output
    assert not (tmp_path / "home").exists()


def test_a_folder_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    """A mistyped path is the most likely mistake of all."""
    result = CliRunner().invoke(app, ["--folder", str(tmp_path), "demo", str(tmp_path / "nowhere")])
    assert result.exit_code == 1
    assert "there is no such folder" in result.output
