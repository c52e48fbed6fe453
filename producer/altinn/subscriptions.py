"""A trekkpliktig in, its subscriptions at Altinn out: listed, made, looked at and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from producer.altinn.client import Question
from producer.altinn.refusal import NOT_FOUND
from producer.altinn.subscription_plan import Subscription
from producer.errors import RetryableError

if TYPE_CHECKING:
    from producer.altinn.client import AltinnClient
    from producer.altinn.subscription_plan import Wish
    from producer.source.answer import Answer

_PATH: Final = "/events/api/v1/subscriptions"
_OK: Final = 200
_CREATED: Final = 201
_NO_CONTENT: Final = 204


class _Listing(msgspec.Struct):
    subscriptions: list[Subscription] | None = None


_decode_listing = msgspec.json.Decoder(_Listing).decode
_decode_one = msgspec.json.Decoder(Subscription).decode
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Subscriptions:
    """Each operation raises `RetryableError`, `SuspendedError` (this trekkpliktig) or `FatalError`."""

    def __init__(self, client: AltinnClient) -> None:
        self._client = client

    def all_of(self, trekkpliktig: str) -> list[Subscription]:
        """All that this trekkpliktig's token can see, others than ours too."""
        answer = self._client.ask(trekkpliktig, Question("list subscriptions", "GET", _PATH))
        try:
            found = _decode_listing(answer.body).subscriptions
        except _UNREADABLE:
            raise RetryableError("Altinn's list of subscriptions cannot be read") from None
        return found or []

    def make(self, trekkpliktig: str, wish: Wish) -> Subscription:
        """Make it, or have the same one that stands validated anew. Empty filters are left out, as Altinn asks."""
        document = {"endPoint": wish.address, "resourceFilter": wish.resource, "subjectFilter": wish.subject}
        question = Question("subscribe", "POST", _PATH, (_OK, _CREATED), document)
        return _read_one(self._client.ask(trekkpliktig, question))

    def look_at(self, trekkpliktig: str, subscription: Subscription) -> Subscription | None:
        """The same one as it stands now; None if it has gone."""
        question = Question("show a subscription", "GET", f"{_PATH}/{_segment(subscription)}", (_OK, NOT_FOUND))
        answer = self._client.ask(trekkpliktig, question)
        return None if answer.status == NOT_FOUND else _read_one(answer)

    def remove(self, trekkpliktig: str, subscription: Subscription) -> None:
        """Remove it; one that has gone already is no failure."""
        accepted = (_OK, _NO_CONTENT, NOT_FOUND)
        question = Question("remove a subscription", "DELETE", f"{_PATH}/{_segment(subscription)}", accepted)
        self._client.ask(trekkpliktig, question)


def _segment(subscription: Subscription) -> str:
    """The id as part of an address. Ids are numbers; anything that would lead elsewhere is not followed."""
    text = str(subscription.id)
    if not (text.isascii() and text.replace("-", "").isalnum()):
        raise RetryableError("Altinn tells an id of a subscription that is none")
    return text


def _read_one(answer: Answer) -> Subscription:
    try:
        return _decode_one(answer.body)
    except _UNREADABLE:
        raise RetryableError("Altinn's answer holds no subscription that can be read") from None
