"""What docs/guide.md shows is what happens when somebody types it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import sysconfig
from pathlib import Path

from google.type.postal_address_pb2 import PostalAddress

from common import wire
from common.caller import Role
from common.ids import SellerId
from common.testing import SANDBOX_START, SERVICES, Suite
from saldo.catalog.v1.catalog_service_pb2 import CreateSellerRequest
from saldo.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from saldo.catalog.v1.seller_pb2 import Seller
from tests.architecture.sources import ROOT

GUIDE = (ROOT / "docs/guide.md").read_text()
TIMEOUT_SECONDS = 120


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)


async def _run(*command: str | Path, environment: dict[str, str], folder: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | environment,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(TIMEOUT_SECONDS):
        told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()
    return told.decode()


def _addresses(suite: Suite) -> dict[str, str]:
    return {name.upper(): suite.running[name].address for name in SERVICES}


async def test_the_calls_by_hand(suite: Suite, tmp_path: Path) -> None:
    """Reflection, token and JSON: nothing of ours is needed to call Saldo."""
    await suite.start("catalog", "subscriptions", "metering", "invoicing")
    scripts = sysconfig.get_path("scripts")
    environment = {
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "CATALOG": suite.running["catalog"].address,
        "INVOICING": suite.running["invoicing"].address,
        "PLATFORM": suite.keys.token(role=Role.PLATFORM, seller_id=None),
    }
    blocks = _blocks("sh")
    assert len(blocks) == 4
    answers = []
    for block in blocks:
        answers.append(json.loads(await _run("/bin/sh", "-ec", block, environment=environment, folder=tmp_path)))
        environment.setdefault("TOKEN", suite.keys.token(role=Role.OWNER, seller_id=SellerId(answers[0]["id"])))
    assert answers[0]["invoiceNumberPrefix"] == "ACME"
    assert answers[2]["products"] == [answers[1]]
    # 1,000 at 0.06 and 234.5 at 0.049 are 71.4905.
    assert answers[3]["rating"]["amount"] == {"currencyCode": "EUR", "units": "80"}
    assert any("8.5095" in sentence for sentence in answers[3]["sentences"])


async def test_the_story_from_python(suite: Suite, tmp_path: Path) -> None:
    """A first program ends with a paid invoice, and running it again changes nothing."""
    await suite.start(*SERVICES)
    (story,) = _blocks("python")
    (tmp_path / "story.py").write_text(story)
    seller = await suite.stub(CatalogServiceStub, "catalog", role=Role.PLATFORM).CreateSeller(
        CreateSellerRequest(
            mode=Seller.SANDBOX,
            display_name="Acme Ltd",
            email="billing@acme.example",
            address=PostalAddress(region_code="GB", locality="London", address_lines=["1 High Street"]),
            sandbox_start_time=wire.timestamp(SANDBOX_START),
        )
    )
    environment = _addresses(suite) | {"TOKEN": suite.keys.token(seller_id=SellerId(seller.id))}

    told = await _run(sys.executable, "story.py", environment=environment, folder=tmp_path)

    assert "accepted 31, duplicates 0" in told
    assert "accepted 0, duplicates 31" in told
    # 3 seats at 12.00 for January, then for February; 3100 calls, of which 1000 are free, at 0.002.
    assert re.search(r"Seat.*: 3 = 36\.00 EUR", told)
    assert re.search(r"API calls.*: 3100 = 4\.20 EUR", told)
    assert told.count("payment SUCCEEDED") == len(os.listdir(tmp_path)) - 1 >= 2  # story.py, and a document each
    assert "OPEN" not in told

    again = await _run(sys.executable, "story.py", environment=environment, folder=tmp_path)
    assert again.split("\n", 2)[2] == told.split("\n", 2)[2]


def test_addresses_in_the_guide_are_those_of_the_services() -> None:
    """The lines to copy name all six."""
    exported = re.findall(r"\b([A-Z]+)=127\.0\.0\.1:…", GUIDE)
    assert exported == [name.upper() for name in SERVICES]
