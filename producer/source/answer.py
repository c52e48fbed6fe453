"""A server's answer as a value: status, headers, whole body, how long to wait, and what its clock says. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

RETRY_AFTER_SECONDS_MAX: Final = 3600.0
_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


class Answer(msgspec.Struct, frozen=True):
    """What came back: any status, the body whole and decompressed. Header names are found in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        """As the other side named it; empty if it did not."""
        return str(self.headers.get("content-type", ""))


def retry_after_seconds(headers: Mapping[str, str], now_seconds: float) -> float | None:
    """The pause that `Retry-After` asks for, in seconds or as a date, at most an hour; None if it asks for none."""
    text = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), RETRY_AFTER_SECONDS_MAX)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    pause_seconds = (moment - datetime.fromtimestamp(now_seconds, UTC)).total_seconds()
    return min(max(pause_seconds, 0.0), RETRY_AFTER_SECONDS_MAX)


def seconds_ahead(headers: Mapping[str, str], now_seconds: float) -> float | None:
    """How far our clock is ahead of theirs, by the `Date` of the answer; negative when behind, None unknown."""
    try:
        moment = parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return now_seconds - moment.timestamp()
