"""The part of the story that replaces polling by Altinn's notifications, and compares how soon a change is published.

The change is made to one order of each employer, once in either way. Latency is from the change at Skatteetaten to the
event as a plain consumer has read it, `read_committed`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs

import msgspec

from producer.publish.state import read_lane_state
from sandbox.altinn.delivery import Weather
from sandbox.demo.narrator import ClaimError
from sandbox.demo.words import Latencies, counted, latencies_table, seconds_text, unframed
from sandbox.skatteetaten.wire import parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.demo.program import Program
    from sandbox.demo.stage import Stage
    from sandbox.demo.story import Play
    from sandbox.demo.watch import Watch
    from sandbox.skatteetaten.order_book import Version
    from sandbox.skatteetaten.state import Call, Skatteetaten
    from trekkpaalegg.event import TrekkpaaleggVersjon

POLL, NOTIFICATION = "poll", "notification"
CALLS_FOR_EACH = 2
_DOUBLED = Weather(double_rate=1.0, disorder_seconds=0.3)
_CHANGE: dict[str, object] = {
    "trekkstoerrelseForPeriode": [{"startdato": "2026-12-01", "trekkbeloep": {"trekkbeloep": 2500}}]
}
_APART_SECONDS = 0.1
"""Between two changes, so that they fall at different moments between two polls."""

_POLL_SECONDS = 0.004
"""So fine is the measure of latency."""

_QUIET_SECONDS = 0.3
_WAIT_SECONDS_MAX = 60.0


class Changed(NamedTuple):
    """One change of each order: how soon the events came, and what they are."""

    versions: list[Version]
    latencies: Latencies
    events: list[TrekkpaaleggVersjon]
    origins: set[str]

    @property
    def number(self) -> int:
        """How many changes it were."""
        return len(self.versions)


def swapped(play: Play, producer: Program) -> Program:
    """The source is swapped by one setting, between two equal changes; afterwards Altinn notifies the producer."""
    stage, narrator, figures = play.stage, play.narrator, play.figures
    orders = _one_of_each(stage)
    arguments = ("tail", "--trekkid", orders[0], "--max", "2")
    narrator.command(f"trekkpaalegg-consumer {' '.join(arguments)} &")
    viewer = stage.start("consumers", *arguments)
    viewer.wait_for_words("from now")
    narrator.event(f"an order of each of the {len(orders)} employers changes; polls are a second apart")
    polled = _change(play, producer, orders)
    positions_hold = [_have_positions(play, polled)]
    producer = _switch_to_notifications(play, producer)
    narrator.event("the same orders change again in the same way; Altinn calls twice for each")
    stage.outside.altinn.deliveries.weather = _DOUBLED
    notified = _change(play, producer, orders)
    narrator.output(viewer.wait().stdout)
    narrator.say("From change to event in Kafka; by default polls are 300 s apart, not one.")
    narrator.output(latencies_table([("polled, a second apart", polled.latencies), ("notified", notified.latencies)]))
    figures.polled_seconds, figures.notified_seconds = polled.latencies.median, notified.latencies.median
    _compare(play, polled, notified)
    positions_hold.append(_have_positions(play, notified))
    narrator.claim(
        "either way each position was the last number that Skatteetaten had given",
        holds=all(positions_hold),
        otherwise=f"polled, notified: {positions_hold}",
    )
    return producer


def _switch_to_notifications(play: Play, producer: Program) -> Program:
    """Change one setting, and subscribe at Altinn."""
    stage, narrator = play.stage, play.narrator
    ended, seconds = producer.stop()
    narrator.claim(f"SIGTERM ends it in {seconds_text(seconds)}", holds=ended.code == 0, otherwise=f"{ended.code}")
    stage.outside.skatteetaten.forget_calls()
    narrator.command("TREKKPAALEGG_SOURCE=notification trekkpaalegg-producer run &")
    producer = stage.start("producer", "run", notified=True)
    producer.wait_for_words("receiving notifications")
    narrator.command("trekkpaalegg-producer subscriptions apply")
    with narrator.waiting("subscribing"):
        said = stage.run("producer", "subscriptions", "apply", notified=True).stdout
        _wait(producer, lambda: _all_are_read(stage), "every employer was read after the start")
    narrator.output(unframed(said).splitlines()[-1])
    validated = stage.outside.altinn.summary()["validated"]
    narrator.claim(
        f"the receiver answered Altinn for {counted(validated, 'employer')}; polls are six hours apart now",
        holds=validated == len(stage.trekkpliktige),
    )
    return producer


def _compare(play: Play, polled: Changed, notified: Changed) -> None:
    narrator, watch = play.narrator, play.watch
    altinn = play.stage.outside.altinn
    wanted = CALLS_FOR_EACH * notified.number
    with narrator.waiting("Altinn calls once more"):
        _wait(None, lambda: altinn.summary()["push"].get("delivered", 0) >= wanted, f"Altinn called {wanted} times")
        watch.count_until_quiet(_QUIET_SECONDS)
    origins = (polled.origins, notified.origins)
    narrator.claim(
        "the first by polling, the second by notification: no poll came in between",
        holds=origins == ({POLL}, {NOTIFICATION}),
        otherwise=f"they came by {origins}",
    )
    twice = [each for each in (*_identities(polled), *_identities(notified)) if watch.counts[each] != 1]
    narrator.claim(
        f"{wanted} calls of Altinn, {notified.number} changes: each is in the topic once",
        holds=not twice,
        otherwise=f"not once: {twice}",
    )
    narrator.claim(
        "it is the same event field by field, except version, sekvensnummer and time",
        holds=list(map(_apart_from_numbers, polled.events)) == list(map(_apart_from_numbers, notified.events)),
    )


def _change(play: Play, producer: Program, orders: list[str]) -> Changed:
    """Change each order once, one after the other, and watch until all have come."""
    skatteetaten, watch = play.stage.outside.skatteetaten, play.watch
    made: list[tuple[Version, float]] = []
    for trekkid in orders:
        changed_at = time.monotonic()
        made.append((skatteetaten.change(trekkid, _CHANGE), changed_at))
        while time.monotonic() < changed_at + _APART_SECONDS:
            watch.count_new(_POLL_SECONDS)
    versions = [version for version, _ in made]
    identities = [(each.trekkid, each.trekkversjon) for each in versions]
    with play.narrator.waiting("the changes are on their way"):
        _wait(producer, lambda: _have_come(watch, identities), "all changes came")
    seconds = [watch.seen_at[identity] - at for identity, (_, at) in zip(identities, made, strict=True)]
    events = [watch.events[each] for each in identities]
    return Changed(versions, Latencies.of(seconds), events, {watch.origins[each] for each in identities})


def _have_come(watch: Watch, identities: list[tuple[str, int]]) -> bool:
    watch.count_new(_POLL_SECONDS)
    return all(each in watch.counts for each in identities)


def _have_positions(play: Play, changed: Changed) -> bool:
    """Whether each employer's position is the number of its change, as soon as the readings have ended."""
    wanted = {each.owner: each.sekvensnummer for each in changed.versions}
    deadline = time.monotonic() + _WAIT_SECONDS_MAX
    while not (holds := _positions(play.stage) == wanted) and time.monotonic() < deadline:
        time.sleep(_QUIET_SECONDS)
    return holds


def _positions(stage: Stage) -> dict[str, int]:
    properties, topic = {"bootstrap.servers": stage.kafka.bootstrap_servers}, stage.topics.positions
    lanes = [read_lane_state(properties, topic, lane) for lane in range(stage.lanes)]
    return {trekkpliktig: state.position.position for lane in lanes for trekkpliktig, state in lane}


def _one_of_each(stage: Stage) -> list[str]:
    """An order of each employer that runs, and has not changed in this story yet."""
    skatteetaten, found = stage.outside.skatteetaten, dict[str, str]()
    with skatteetaten.lock:
        for version in sorted(skatteetaten.book.newest_of_all(), key=lambda each: (len(each.trekkid), each.trekkid)):
            is_new = version.trekkversjon == 1 and version.owner not in found
            if is_new and version.trekkid and parse(version.body)["trekkstatus"] == "aktiv":
                found[version.owner] = version.trekkid
    return [found[each] for each in stage.trekkpliktige]


def _all_are_read(stage: Stage) -> bool:
    """Whether every list was read to its last page since the start, so that no poll is left to find the next change."""
    skatteetaten = stage.outside.skatteetaten
    with skatteetaten.lock:
        read = {call.party for call in skatteetaten.calls if call.party and _is_last_page(skatteetaten, call)}
        return read >= set(stage.trekkpliktige)


def _is_last_page(skatteetaten: Skatteetaten, call: Call) -> bool:
    """Whether nothing was left to list: a reading ends only with a page that is empty."""
    (after,) = parse_qs(call.query).get("fraSekvensnummer", [None])
    return after is not None and not skatteetaten.book.page(str(call.party), int(after), 1)


def _identities(changed: Changed) -> list[tuple[str, int]]:
    return [(each.trekkid, each.trekkversjon) for each in changed.events]


def _apart_from_numbers(event: TrekkpaaleggVersjon) -> TrekkpaaleggVersjon:
    return msgspec.structs.replace(event, trekkversjon=0, sekvensnummer=0, opprettet=None)


def _wait(producer: Program | None, condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS_MAX
    while not condition():
        if producer is not None:
            producer.check_running()
        if time.monotonic() > deadline:
            raise ClaimError(f"not within {_WAIT_SECONDS_MAX:g} s: {what}")
        time.sleep(_POLL_SECONDS)
