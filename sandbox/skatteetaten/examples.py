"""Skatteetaten's nineteen official example versions, and the bodies of other kinds that its page shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

EXAMPLES_TREKKPLIKTIG = "123456789"

FOREIGN_CLAIMS = json.dumps(
    [
        {
            "partIdentifikator": "310000003",
            "kravidentifikator": "KRAV-1",
            "aapentKravMedGjenstaaendeBeloep": {"gjenstaaendeBeloep": 1200.50, "forfallsdato": "2026-02-16"},
        },
        {"partIdentifikator": "310000003", "aapentKravMedGjenstaaendeBeloep": None},
    ]
)
"""A page of another API's objects: the official page shows such by mistake."""

HTML_PAGE = "<!DOCTYPE html><html><head><title>Vedlikehold</title></head><body>Vi er snart tilbake.</body></html>"
"""What a gateway may answer with status 200."""


def official_examples() -> list[dict[str, Any]]:
    """The nineteen versions in wire names, in rising sekvensnummer."""
    text = (Path(__file__).parents[1] / "data" / "skatteetaten_eksempler.json").read_text(encoding="utf-8")
    examples: list[dict[str, Any]] = json.loads(text)
    return examples
