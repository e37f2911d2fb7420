"""What the two services must be told."""

from __future__ import annotations

from common.settings import ServiceSettings


class Settings(ServiceSettings):
    notebook_address: str = "notebook:50051"
