"""VIES, the European Commission's service about VAT numbers, through its REST interface.

It asks the member state in its turn, which is often away: only an answer that says of this very number whether it is
valid is one. Everything else, an error told with HTTP 200 included, is silence.
"""

from __future__ import annotations

import json
from typing import Final

import httpx

from subscriptions.tax_authorities import AuthorityUnavailable, Inquiry

PATH: Final = "/check-vat-number"
ANSWER_BYTES_MAX: Final = 64 * 1024
CONNECTIONS_MAX: Final = 4


class Vies:
    name: Final = "vies"

    def __init__(self, address: str, *, timeout_seconds: float) -> None:
        """`address` is where the interface begins: https://…/rest-api."""
        self._http = httpx.AsyncClient(
            timeout=timeout_seconds, limits=httpx.Limits(max_connections=CONNECTIONS_MAX), follow_redirects=False
        )
        self._url = address.rstrip("/") + PATH

    async def close(self) -> None:
        await self._http.aclose()

    async def is_valid(self, inquiry: Inquiry) -> bool:
        country, number = inquiry.number.value[:2], inquiry.number.value[2:]
        answer = await self._ask({"countryCode": country, "vatNumber": number})
        about = (answer.get("countryCode"), answer.get("vatNumber"))
        is_valid = answer.get("valid")
        if about != (country, number) or not isinstance(is_valid, bool):
            raise AuthorityUnavailable(f"no answer but {_errors(answer)}")
        return is_valid

    async def _ask(self, question: dict[str, str]) -> dict[str, object]:
        try:
            async with self._http.stream("POST", self._url, json=question) as response:
                read = b""
                async for part in response.aiter_bytes():
                    read += part
                    if len(read) > ANSWER_BYTES_MAX:
                        raise AuthorityUnavailable("an answer without end")
        except httpx.HTTPError as error:
            # Its text may repeat the address, but never what was asked.
            raise AuthorityUnavailable(type(error).__name__) from error
        if response.status_code != httpx.codes.OK:
            raise AuthorityUnavailable(f"HTTP {response.status_code}")
        try:
            answer = json.loads(read)
        except ValueError as error:
            raise AuthorityUnavailable("no JSON") from error
        if not isinstance(answer, dict):
            raise AuthorityUnavailable("no JSON object")
        return answer


def _errors(answer: dict[str, object]) -> str:
    """`MS_UNAVAILABLE` and the like, for the log; what else the answer holds is nobody's business."""
    wrapped = answer.get("errorWrappers")
    if not isinstance(wrapped, list):
        return "an answer to another question"
    named = [str(each.get("error"))[:60] for each in wrapped[:5] if isinstance(each, dict)]
    return ", ".join(named) or "an error without a name"
