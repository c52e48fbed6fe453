"""`backfill` and `reconcile`: wishes to read again from 0 in, what was published and quarantined by it out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.table import Table

from producer import bootstrap
from producer.commands.asking import ask, new_wish
from producer.commands.rounds import tell_round
from producer.domain.wish import BACKFILL, RECONCILE
from producer.errors import SettingsError
from producer.kafka_properties import kafka_properties
from producer.own import Own
from producer.publish.quarantine_log import decode_quarantined
from producer.publish.tail import Tail
from producer.publish.topics import Topics
from producer.trekkpliktige_list import TrekkpliktigeList

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from confluent_kafka import Message

    from producer.commands.output import Output
    from producer.domain.wish import Answer
    from producer.settings import Settings

DIFFERENCES_SHOWN_MAX = 100_000
ENDS_SECONDS_MAX = 30.0
"""An open transaction of another lane hides what follows it for 15 s at most."""

_ORIGIN = "origin"
_ORIGINS = frozenset({b"reconcile", b"gapfill"})
_COLUMNS = ("trekkpliktig", "trekkid", "trekkversjon", "difference")


def run_backfill(settings: Settings, output: Output, trekkpliktige: list[str]) -> None:
    """Read all, or those named, from 0 and publish what is missing. Raises `FatalError` unless read to their end."""
    own = Own(TrekkpliktigeList(settings, output.note))
    unknown = sum(name not in own for name in trekkpliktige)
    if unknown:
        raise SettingsError([f"--trekkpliktig: {unknown} given is not among the trekkpliktige of the settings"])
    wanted = frozenset(trekkpliktige) or frozenset(own)
    _tell(output, ask(settings, output, new_wish(BACKFILL), wanted))


def run_reconcile(settings: Settings, output: Output) -> None:
    """Compare all that the source has with what was published; publish and print what is missing.

    Raises as `run_backfill`.
    """
    wanted = frozenset(Own(TrekkpliktigeList(settings, output.note)))
    topics = Topics.of(settings.topic_prefix)
    found = bootstrap.find_cluster(settings)
    watched = (topics.versjoner, topics.quarantine)
    with Tail(kafka_properties(settings), watched, found.lanes) as tail:
        differences: list[dict[str, object]] = []

        def watch(wait_seconds: float = 0.0) -> None:
            if len(differences) < DIFFERENCES_SHOWN_MAX:
                differences.extend(_differences(tail.poll(wait_seconds), topics.quarantine))

        answers = ask(settings, output, new_wish(RECONCILE), wanted, watch)
        ends, deadline = tail.ends(watched), time.monotonic() + ENDS_SECONDS_MAX
        while not tail.has_reached(ends) and time.monotonic() < deadline:
            watch(0.1)
    _tell(output, answers, _compared(differences))


def _differences(messages: Iterable[Message], quarantine: str) -> Iterator[dict[str, object]]:
    """What events and quarantined records that comparisons, or holes they found, have led to are about."""
    for message in messages:
        headers: dict[str, bytes] = dict(message.headers() or [])  # type: ignore[arg-type]  # a consumer gives pairs with bytes
        if headers.get("ce_origin") not in _ORIGINS:
            continue
        if message.topic() == quarantine:
            record = decode_quarantined(message)
            yield _difference(record.trekkpliktig, record.trekkid, record.trekkversjon, f"quarantined: {record.reason}")
            continue
        trekkid = headers["ce_subject"].decode()
        trekkversjon = int(headers["ce_id"].decode().removeprefix(f"{trekkid}/").split("/")[0])
        kind = "published late" if headers.get("ce_late") == b"true" else "published"
        if "ce_correction" in headers:
            kind = "corrected"
        yield _difference(headers["ce_trekkpliktig"].decode(), trekkid, trekkversjon, kind) | {
            _ORIGIN: headers["ce_origin"]
        }


def _difference(trekkpliktig: str, trekkid: str | None, trekkversjon: int | None, what: str) -> dict[str, object]:
    return {"trekkpliktig": trekkpliktig, "trekkid": trekkid, "trekkversjon": trekkversjon, "difference": what}


def _compared(differences: list[dict[str, object]]) -> list[dict[str, object]]:
    """Without what polling found meanwhile: a hole that it filled in an order of which no comparison says anything."""
    compared = {each["trekkid"] for each in differences if each.get(_ORIGIN) == b"reconcile"}
    kept = [each for each in differences if each.get(_ORIGIN) != b"gapfill" or each["trekkid"] in compared]
    return [{name: value for name, value in each.items() if name != _ORIGIN} for each in kept]


def _tell(output: Output, answers: dict[str, Answer], differences: list[dict[str, object]] | None = None) -> None:
    failed = {name: each.detail for name, each in sorted(answers.items()) if each.outcome != "done"}
    counts = {
        "trekkpliktige": len(answers),
        "read_to_end": len(answers) - len(failed),
        "published": sum(each.wish.published for each in answers.values()),
        "quarantined": sum(each.wish.quarantined for each in answers.values()),
        "known_but_not_listed": sum(each.vanished for each in answers.values()),
        "positions_lowered": sum(each.position_lowered for each in answers.values()),
    }
    if differences and not output.as_json:
        table = Table(*_COLUMNS)
        for each in differences:
            table.add_row(*(str(each[column] or "?") for column in _COLUMNS))
        output.table(table)
    tell_round(output, counts, failed, differences)
