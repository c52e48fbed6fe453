"""The steps of the story up to the topics, and what was measured in each."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from sandbox.demo.proof import faults_of, read_published, versions_of_source
from sandbox.demo.words import Figures, counted, grouped, named, seconds_text, unframed
from sandbox.servers.kafka import KAFKA_VERSION
from sandbox.servers.registry import REGISTRY_VERSION
from sandbox.skatteetaten.wire import parse
from trekkpaalegg.decode import Decoder
from trekkpaalegg.registry import SchemaRegistry

if TYPE_CHECKING:
    from sandbox.demo.narrator import Narrator
    from sandbox.demo.program import Program
    from sandbox.demo.stage import Stage
    from sandbox.demo.watch import Watch
    from sandbox.skatteetaten.order_book import Version

EXAMPLE_VERSIONS = 19
EMPLOYERS = 4
FIRST_ORDERS = 400
CHANGED_TREKKID = "10001"
KILLED_AT = (0.25, 0.6)
"""What part of the back-fill must have come before the producer is killed, for each kill."""

_QUIET_SECONDS = 0.4
LINES_SHOWN = 5
_GAPFILL, _POLL = "gapfill", "poll"


class Sizes(NamedTuple):
    """How much there is to do. `seed` makes the same world again."""

    seed: int
    backfill_orders: int


class Play(NamedTuple):
    """What every step works with."""

    stage: Stage
    watch: Watch
    narrator: Narrator
    figures: Figures


def prepare_topics(stage: Stage, narrator: Narrator) -> None:
    """The servers are there; make the topics."""
    narrator.rows(
        [
            (f"Apache Kafka {KAFKA_VERSION}", stage.kafka.bootstrap_servers),
            (f"Apicurio Registry {REGISTRY_VERSION}", stage.registry.url),
            ("Skatteetaten, simulated", stage.outside.api_url),
            ("Maskinporten, simulated", stage.outside.well_known_url.partition("/.well-known")[0]),
        ]
    )
    stage.serve([stage.outside.load_examples()])
    narrator.command("trekkpaalegg-producer topics apply")
    narrator.output(unframed(stage.run("producer", "topics", "apply").stdout))


def first_orders(play: Play, sizes: Sizes) -> Program:
    """Examples and generated orders arrive; the producer, running."""
    stage, watch, narrator = play.stage, play.watch, play.narrator
    examples = stage.trekkpliktige[0]
    stage.serve(stage.outside.generate(EMPLOYERS, FIRST_ORDERS, seed=sizes.seed))
    wanted = stage.outside.skatteetaten.identities()
    narrator.say(
        f"Skatteetaten holds its {EXAMPLE_VERSIONS} official example versions and {FIRST_ORDERS} generated orders "
        f"of {EMPLOYERS} employers. Of each order its list shows the newest version only."
    )
    narrator.command("trekkpaalegg-producer run &")
    producer = stage.start("producer", "run")
    with narrator.waiting("the first orders are on their way"):
        watch.wait_for(wanted, producer.check_running)
    narrator.claim(
        f"{grouped(len(wanted))} versions of {len(stage.trekkpliktige)} employers are in Kafka, older ones too",
        holds=watch.counts.keys() == wanted,
        otherwise=named(watch.counts.keys() - wanted),
    )
    lines = _tail(play, "--trekkpliktig", examples, "--from-beginning", "--until-end")
    narrator.claim(
        f"all {EXAMPLE_VERSIONS} official versions, decoded by the registry's schema",
        holds=len(lines) == EXAMPLE_VERSIONS,
        otherwise=f"{len(lines)} came",
    )
    lines = _tail(play, "--trekkpliktig", stage.trekkpliktige[1], "--from-beginning", "--max", str(LINES_SHOWN))
    narrator.claim(
        "some of another employer; *** stands for the national id",
        holds=len(lines) == LINES_SHOWN,
        otherwise=f"{len(lines)} came",
    )
    return producer


def changed_twice(play: Play, producer: Program) -> None:
    """One order gets two versions between two polls."""
    stage, watch, narrator = play.stage, play.watch, play.narrator
    skatteetaten = stage.outside.skatteetaten
    arguments = ("tail", "--trekkid", CHANGED_TREKKID, "--max", "2")
    narrator.command(f"trekkpaalegg-consumer {' '.join(arguments)} &")
    viewer = stage.start("consumers", *arguments)
    viewer.wait_for_words("from now")
    # The lock lets no poll in between.
    with skatteetaten.lock:
        made = [
            skatteetaten.change(CHANGED_TREKKID, _size({"trekkbeloep": 4000})),
            skatteetaten.change(CHANGED_TREKKID, _size({"trekkprosent": 12})),
        ]
    narrator.event(f"order {CHANGED_TREKKID} changes twice within a millisecond; polls are a second apart")
    first, second = [(each.trekkid, each.trekkversjon) for each in made]
    watch.wait_for({first, second}, producer.check_running)
    narrator.output(viewer.wait().stdout)
    origins = [watch.origins[each] for each in (first, second)]
    narrator.claim(
        f"both came, in order: version {first[1]} was in no list and was fetched by its number",
        holds=origins == [_GAPFILL, _POLL],
        otherwise=f"they came by {' and '.join(origins)}",
    )


def malformed(play: Play, producer: Program) -> None:
    """A page holds a record that cannot be understood between two good ones."""
    stage, watch, narrator = play.stage, play.watch, play.narrator
    skatteetaten, employer = stage.outside.skatteetaten, stage.trekkpliktige[2]
    with skatteetaten.lock:
        before = skatteetaten.create(employer)
        skatteetaten.plant(employer, _with_amount_and_percent(before, skatteetaten.next_sekvensnummer()))
        after = skatteetaten.create(employer)
    narrator.event("a record with both an amount and a percentage is between two good ones")
    around = {(each.trekkid, each.trekkversjon) for each in (before, after)}
    watch.wait_for(around, producer.check_running)
    narrator.claim("the page went on: the orders before and after it came", holds=around <= watch.counts.keys())
    narrator.command("trekkpaalegg-producer quarantine list --json")
    said = stage.run("producer", "quarantine", "list", "--json").stdout
    narrator.output(said)
    records = _records(json.loads(said))
    play.figures.quarantined = len(records)
    narrator.claim(
        "it lies in quarantine, once, with the reason and the place of the fault",
        holds=[each.get("reason") for each in records] == ["amount_or_percent"],
        otherwise=f"{len(records)} records",
    )


def killed_in_the_middle(play: Play, producer: Program, sizes: Sizes) -> Program:
    """More employers join; the producer is killed while it reads their history, and started again."""
    stage, watch, narrator, figures = play
    known = stage.outside.skatteetaten.identities()
    joining = stage.outside.generate(EMPLOYERS, sizes.backfill_orders, seed=sizes.seed + 1)
    backfill = stage.outside.skatteetaten.identities() - known
    narrator.say(
        f"{EMPLOYERS} more employers join with {grouped(sizes.backfill_orders)} orders in "
        f"{grouped(len(backfill))} versions: the producer sees its list change and begins to read."
    )
    with narrator.progress("versions", len(backfill)) as report_progress:
        stage.serve(joining)
        watch.wait_for(backfill, producer.check_running, report_progress, enough=1)
        begun = time.monotonic()
        for part in KILLED_AT:
            watch.wait_for(backfill, producer.check_running, report_progress, enough=int(len(backfill) * part))
            producer.kill()
            killed = time.monotonic()
            narrator.event(f"kill -KILL {producer.pid}")
            watch.count_until_quiet(_QUIET_SECONDS)
            before = len(backfill & watch.counts.keys())
            narrator.claim(
                f"in the middle: {grouped(before)} of {grouped(len(backfill))} versions are committed",
                holds=0 < before < len(backfill),
                otherwise="there was nothing left to do",
            )
            figures.memory_bytes = max(figures.memory_bytes, producer.memory_bytes)
            restarted = time.monotonic()
            producer = stage.start("producer", "run")
            watch.wait_for(backfill, producer.check_running, report_progress, enough=before + 1)
            figures.restart_seconds.append(time.monotonic() - restarted)
            figures.down_seconds += time.monotonic() - killed
            narrator.say(f"started again; {seconds_text(figures.restart_seconds[-1])} later it publishes on")
        watch.wait_for(backfill, producer.check_running, report_progress)
    figures.backfill_versions, figures.backfill_seconds = len(backfill), time.monotonic() - begun
    narrator.claim(
        f"all {grouped(len(backfill))} have come, after {counted(figures.kills, 'kill')}",
        holds=backfill <= watch.counts.keys(),
    )
    return producer


def proof(play: Play, producer: Program) -> None:
    """Stop, then read both topics from the start and compare them with the source."""
    stage, narrator, figures = play.stage, play.narrator, play.figures
    ended, figures.stop_seconds = producer.stop()
    figures.memory_bytes = max(figures.memory_bytes, producer.memory_bytes)
    narrator.claim(
        f"SIGTERM ends the producer cleanly, in {seconds_text(figures.stop_seconds)}",
        holds=ended.code == 0,
        otherwise=f"exit code {ended.code}",
    )
    source = versions_of_source(stage.outside.skatteetaten)
    skyldnere = {each.skyldner.reveal() for each in source.values()}
    said = stage.everything_said()
    lines = counted(len(said.splitlines()), "line")
    narrator.claim(
        f"none of {grouped(len(skyldnere))} national ids is in {lines} of output and logs",
        holds=not any(each in said for each in skyldnere),
    )
    registry = SchemaRegistry(stage.registry.url)
    decoder, brokers = Decoder(registry), stage.kafka.bootstrap_servers
    with narrator.waiting("reading both topics from their beginning, read_committed"):
        versjoner = read_published(brokers, stage.topics.versjoner, decoder)
        gjeldende = read_published(brokers, stage.topics.gjeldende, decoder)
        faults = faults_of(versjoner, gjeldende, source)
    registry.close()
    held, published = stage.outside.skatteetaten.identities(), [each.identity for each in versjoner]
    missing = held - set(published)
    figures.employers, figures.orders = len(stage.trekkpliktige), len({trekkid for trekkid, _ in held})
    figures.versions, figures.lost = len(published), len(missing)
    doubled = Counter(published) - Counter(set(published))
    figures.doubled = doubled.total()
    figures.gaps_filled = sum(each.origin == _GAPFILL for each in versjoner)
    narrator.claim(
        f"all {grouped(len(held))} versions that Skatteetaten holds are in the topic: lost {figures.lost}",
        holds=not missing,
        otherwise=f"lost {named(missing)}",
    )
    narrator.claim(
        f"none is there twice, none that Skatteetaten does not hold: doubled {figures.doubled}",
        holds=figures.doubled == 0 and set(published) == held,
        otherwise=f"twice: {named(doubled) or 'none'}; not held: {named(set(published) - held) or 'none'}",
    )
    narrator.claim(
        "each order's versions rise, every field of every event is the source's",
        holds=not faults,
        otherwise="; ".join(faults[:3]),
    )


def _tail(play: Play, *options: str) -> list[str]:
    """Run the consumer to its end and show what it prints; the lines."""
    play.narrator.command(f"trekkpaalegg-consumer tail {' '.join(options)}")
    said = play.stage.run("consumers", "tail", *options).stdout
    play.narrator.output(said)
    return said.splitlines()


def _size(size: dict[str, int]) -> dict[str, object]:
    ((name, value),) = size.items()
    return {"trekkstoerrelseForPeriode": [{"startdato": "2026-12-01", name: {name: value}}]}


def _with_amount_and_percent(good: Version, sekvensnummer: int) -> str:
    both = {"startdato": "2026-12-01", "trekkbeloep": {"trekkbeloep": 900}, "trekkprosent": {"trekkprosent": 9}}
    wire = parse(good.body)
    return json.dumps({**wire, "trekkid": "20001", "sekvensnummer": sekvensnummer, "trekkstoerrelseForPeriode": [both]})


def _records(listed: object) -> list[dict[str, object]]:
    """The records in what `quarantine list --json` printed, which is a list or an object that holds one."""
    if isinstance(listed, dict):
        listed = next((each for each in listed.values() if isinstance(each, list)), [])
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
