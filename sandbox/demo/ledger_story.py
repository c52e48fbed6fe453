"""Payroll's part of the story: the topics are applied to a ledger, paid out from, replayed and verified."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import psycopg

from sandbox.demo.words import counted, grouped, seconds_text, unframed

if TYPE_CHECKING:
    from sandbox.demo.program import Ended, Program
    from sandbox.demo.story import Play

PAYOUT_DATE = "2026-12-15"
GROSS_PAY = (38_500, 52_000, 61_250)
"""Kroner; every third person has the same."""

BATCH_RECORDS = 250
"""So small that the consumer can be killed between two batches of a stream that is read in a second."""

KILLED_AT = 0.3
ROWS_SHOWN = 5
_POLL_SECONDS = 0.01
_LOOKS_MAX = 6000


def into_a_ledger(play: Play) -> None:
    """A consumer applies the whole topic to PostgreSQL, and is killed while it does."""
    stage, narrator, figures = play.stage, play.narrator, play.figures
    arguments = ("run", "--until-end", "--batch-max", str(BATCH_RECORDS))
    narrator.command(f"trekkpaalegg-consumer {' '.join(arguments)} &")
    consumer = stage.start("consumers", *arguments)
    begun = time.monotonic()
    _wait_for_versions(play, int(figures.versions * KILLED_AT), consumer)
    consumer.kill()
    narrator.event(f"kill -KILL {consumer.pid}")
    applied = _versions(play)
    narrator.claim(
        f"in the middle: {grouped(applied)} of {grouped(figures.versions)} versions are in the ledger",
        holds=0 < applied < figures.versions,
        otherwise="it was not in the middle",
    )
    _run(play, *arguments[:2])
    figures.ledger_seconds = time.monotonic() - begun
    versions = _versions(play)
    narrator.claim(
        f"started again it went on there: all {grouped(versions)} versions are in the ledger, each once",
        holds=versions == figures.versions,
        otherwise=f"{versions} of {figures.versions}",
    )
    statement = (
        "SELECT trekkid, trekkversjon, trekkstatus, kidnummer FROM trekkpaalegg ORDER BY length(trekkid), trekkid"
    )
    narrator.command(f'psql -c "{statement} LIMIT {ROWS_SHOWN}"')
    narrator.output("\n".join("  ".join(map(str, row)) for row in _rows(play, f"{statement} LIMIT {ROWS_SHOWN}")))


def payout(play: Play) -> None:
    """What to withhold at one payout of one employer, and what to pay on; asked twice."""
    stage, narrator = play.stage, play.narrator
    employer = stage.trekkpliktige[1]
    people = [
        row[0] for row in _rows(play, "SELECT DISTINCT skyldner FROM trekkpaalegg WHERE trekkpliktig = %s", employer)
    ]
    lines = [f"{skyldner},{GROSS_PAY[number % len(GROSS_PAY)]}" for number, skyldner in enumerate(sorted(people))]
    gross = stage.write("gross.csv", "\n".join(["skyldner,brutto", *lines]) + "\n")
    narrator.say(f"Employer {employer} pays {counted(len(people), 'person', 'people')} who have orders.")
    files = [f"{option} {stage.path(name)}" for option, name in (("--payments-csv", "payments.csv"),)]
    arguments = ["payout", "--date", PAYOUT_DATE, "--trekkpliktig", employer, "--gross", str(gross)]
    narrator.command(f"trekkpaalegg-consumer payout --date {PAYOUT_DATE} --trekkpliktig {employer} --gross gross.csv")
    said = _run(play, *arguments, *" ".join(files).split()).stdout
    lines = unframed(said).splitlines()
    narrator.output("\n".join(line for line in lines if line[:1].isdigit()), lines_max=ROWS_SHOWN)
    recorded = _posteringer(play)
    narrator.claim(
        f"{counted(recorded[0], 'posting')} are in the ledger, {recorded[1]} kr in all", holds=recorded[0] > 0
    )
    again = _run(play, *arguments).stdout
    narrator.claim(
        "asked again it says the same and withholds nothing twice",
        holds=again == said and _posteringer(play) == recorded,
        otherwise=f"{_posteringer(play)}",
    )


def replayed(play: Play) -> None:
    """The ledger is rebuilt from the topic beside itself, and swapped in."""
    narrator = play.narrator
    recorded = _posteringer(play)
    narrator.command("trekkpaalegg-consumer replay")
    narrator.output(_run(play, "replay").stdout)
    narrator.claim("what payouts withheld is as it was", holds=_posteringer(play) == recorded)


def verified(play: Play) -> None:
    """Topics, ledger and source are compared by a program that shares no code with the producer."""
    narrator = play.narrator
    narrator.command("trekkpaalegg-consumer verify --ledger $TREKKPAALEGG_LEDGER --api")
    ended = _run(play, "verify", "--ledger", play.stage.ledger_url, "--api", "--json")
    proof: dict[str, Any] = json.loads(ended.stdout)
    for check in proof["checks"]:
        narrator.claim(
            f"{check['name']}: {grouped(check['examined'])} {check['unit']}",
            holds=check["ok"],
            otherwise=str(check["differences"][:2]),
        )
    play.figures.verify_seconds = proof["seconds"]
    people = [row[0] for row in _rows(play, "SELECT DISTINCT skyldner FROM trekkpaalegg_versjon")]
    said = play.stage.everything_said()
    narrator.claim(
        f"still none of {grouped(len(people))} national ids is in {counted(len(said.splitlines()), 'line')} of output",
        holds=not any(each in said for each in people),
    )
    narrator.claim(f"all of it in {seconds_text(proof['seconds'])}", holds=proof["ok"])


def _run(play: Play, *arguments: str) -> Ended:
    with play.narrator.waiting(arguments[0]):
        return play.stage.run("consumers", *arguments)


def _wait_for_versions(play: Play, wanted: int, consumer: Program) -> None:
    for _ in range(_LOOKS_MAX):
        consumer.check_running()
        if _versions(play) >= wanted:
            return
        time.sleep(_POLL_SECONDS)


def _versions(play: Play) -> int:
    """How many versions are in the ledger; none before the consumer has made its tables."""
    try:
        return int(_rows(play, "SELECT count(*) FROM trekkpaalegg_versjon")[0][0])
    except psycopg.errors.UndefinedTable:
        return 0


def _posteringer(play: Play) -> tuple[int, Any]:
    """How many there are, and the sum of what they withheld."""
    count, total = _rows(play, "SELECT count(*), coalesce(sum(beloep), 0) FROM postering")[0]
    return count, total


def _rows(play: Play, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(play.stage.ledger_url) as connection:
        return connection.execute(statement.encode(), parameters or None).fetchall()
