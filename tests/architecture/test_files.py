"""What is committed can be read by anybody, anywhere: no address of a registry, no path of one machine, no secret."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.architecture.sources import IGNORED, ROOT, SERVICES

HEADINGS: Final = ("Owns", "Does not own", "Calls", "Publishes", "Consumes", "Invariants")
BYTES_MAX: Final = 5_000_000

# Written so that this file does not find itself.
FORBIDDEN: Final = {
    "a registry's host name": r"\b(?:pypi|pythonhosted|npmjs|deb\.debian|security\.debian)\.(?:org|com)\b",
    "a path of one machine": r"(?:^|[^A-Za-z0-9._/-])/(?:work|farm|root|home/[a-z]+)/",
    "a private key": r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----",
    "a live secret of Stripe": r"\b[sr]k_live_[0-9A-Za-z]{20,}",
}


def _committed() -> Iterator[Path]:
    """What git keeps or would keep; without git, what is there and not generated."""
    if shutil.which("git") and (ROOT / ".git").exists():
        told = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        names = [name for name in told.stdout.split("\0") if name]
        yield from (ROOT / name for name in names if (ROOT / name).is_file())
    else:
        yield from (
            path for path in ROOT.rglob("*") if path.is_file() and not IGNORED & set(path.relative_to(ROOT).parts)
        )


def _found(text: str) -> list[str]:
    return [what for what, pattern in FORBIDDEN.items() if re.search(pattern, text, re.MULTILINE)]


def test_nothing_committed_belongs_to_one_place() -> None:
    """Whoever clones this has another machine, another mirror and other secrets."""
    found = {}
    for path in _committed():
        if wrong := _found(path.read_bytes().decode(errors="ignore")):
            found[str(path.relative_to(ROOT))] = wrong
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "see https://py" + "pi.org/project/typst",
        "cd /wo" + "rk/main && make",
        "-----BEGIN PRI" + "VATE KEY-----",
        "key = 'sk_li" + "ve_" + "0123456789" * 3 + "'",
    ],
)
def test_the_search_finds_what_it_is_for(text: str) -> None:
    """Otherwise the test above would prove nothing."""
    assert _found(text)


def test_nothing_committed_is_heavy() -> None:
    """A clone is quick; what is large is generated or asked for."""
    assert [str(path) for path in _committed() if path.stat().st_size > BYTES_MAX] == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_says_what_it_is(service: str) -> None:
    """Six headings in one order: what it owns and does not, whom it calls, what it says and hears, what holds."""
    text = (ROOT / "services" / service / "README.md").read_text()
    parts = re.split(rf"^(?:## |\*\*)({'|'.join(HEADINGS)})\b(?:\*\*)?", text, flags=re.MULTILINE)
    assert parts[1::2] == list(HEADINGS)
    assert all(len(part.strip(" *·—:\n")) > 5 for part in parts[2::2])


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_the_same_parts_as_the_others(service: str) -> None:
    """Same names where present: absence is information, another name is noise."""
    source = ROOT / "services" / service / "src" / service
    for name in ("__init__.py", "main.py", "settings.py", "api.py", "migrations/env.py", "py.typed"):
        assert (source / name).is_file()
    assert (source / "domain").is_dir()
    assert len((source / "main.py").read_text().splitlines()) <= 80


def test_links_in_the_documents_lead_somewhere() -> None:
    """A reader who follows one wants to arrive."""
    broken = []
    for path in _committed():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
            if "://" not in target and not target.startswith("mailto:") and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert broken == []
