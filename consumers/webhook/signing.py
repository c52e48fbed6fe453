"""Secrets, a body and a moment in, the headers of Standard Webhooks out. Pure, save for the making of a new secret.

The signature is HMAC-SHA256 over `webhook-id.webhook-timestamp.body`; with several secrets there are several
signatures, of which a receiver needs one that fits: that is how a secret is changed without a gap.
Source: https://www.standardwebhooks.com, "Signature scheme".
"""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import TYPE_CHECKING

from standardwebhooks import Webhook

from consumers.errors import SettingsError

if TYPE_CHECKING:
    from datetime import datetime

    from consumers.webhook.cloudevent import Parcel

SETTING = "TREKKPAALEGG_FORWARD_SECRET"
PREFIX = "whsec_"
_KEY_BYTES = 32
_KEY_BYTES_MIN, _KEY_BYTES_MAX = 24, 64
_ADVICE = "make one with `trekkpaalegg-consumer webhook secret` and give the receiver the same"


def new_secret() -> str:
    """A fresh secret of 32 random bytes, as it is written into settings."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


class Signer:
    """Signs with every secret of `text`, which holds one or several separated by spaces.

    Raises `SettingsError` for text that holds none, or one of another form; its message holds no secret.
    """

    def __init__(self, text: str) -> None:
        given = text.split()
        if not given:
            raise SettingsError([f"{SETTING}: missing; {_ADVICE}"])
        faults = [
            f"{SETTING}: secret number {number} is not {PREFIX} and {_KEY_BYTES_MIN} to {_KEY_BYTES_MAX} bytes "
            f"in base64; {_ADVICE}"
            for number, secret in enumerate(given, start=1)
            if not _is_secret(secret)
        ]
        if faults:
            raise SettingsError(faults)
        self._webhooks = [Webhook(secret) for secret in given]

    def headers(self, parcel: Parcel, moment: datetime) -> dict[str, str]:
        """The three headers, for an attempt made at `moment` (UTC)."""
        body = parcel.body.decode()
        signatures = [webhook.sign(parcel.webhook_id, moment, body) for webhook in self._webhooks]
        return {
            "webhook-id": parcel.webhook_id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": " ".join(signatures),
        }


def _is_secret(text: str) -> bool:
    if not text.startswith(PREFIX):
        return False
    try:
        digits = text.removeprefix(PREFIX).rstrip("=")
        key = base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return _KEY_BYTES_MIN <= len(key) <= _KEY_BYTES_MAX
