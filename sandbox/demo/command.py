"""The command `demo`: tell the story with real output, and fail if one of its claims does not hold."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from sandbox.demo import ledger_story, story, swap_story
from sandbox.demo.narrator import ClaimError, Narrator
from sandbox.demo.stage import Stage
from sandbox.demo.watch import Watch
from sandbox.demo.words import Figures, summary_rows
from sandbox.servers.java import FetchError
from sandbox.servers.kafka import fetch_kafka
from sandbox.servers.process import ServerStartError
from sandbox.servers.registry import fetch_registry
from trekkpaalegg.errors import TrekkpaaleggError

FAILED = 1
STOPPED = 4


def register(program: typer.Typer) -> None:
    """Add the command to the program."""
    program.command(epilog="Example: trekkpaalegg-sandbox demo")(demo)


def demo(
    *,
    seed: Annotated[int, typer.Option(help="The same seed makes the same world.")] = 0,
    backfill_orders: Annotated[
        int, typer.Option(min=500, help="Orders of the employers in whose back-fill the producer is killed.")
    ] = 3000,
) -> None:
    """Tell a short story from API to ledger with real output, prove every claim of it, leave nothing running."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show æøå must not end the story
    _keep_proxies_out()
    try:
        # Once only, and no part of the story's time.
        fetch_kafka()
        fetch_registry()
        _run_story(Narrator(), story.Sizes(seed, backfill_orders))
    except KeyboardInterrupt:
        print("trekkpaalegg-sandbox: stopped before the story ended; nothing is left running", file=sys.stderr)
        raise typer.Exit(STOPPED) from None
    except (ClaimError, TrekkpaaleggError, FetchError, ServerStartError, OSError) as error:
        print(f"trekkpaalegg-sandbox: the story does not hold: {' '.join(str(error).split())}", file=sys.stderr)
        raise typer.Exit(FAILED) from error


def _run_story(narrator: Narrator, sizes: story.Sizes) -> None:
    narrator.title(
        "The trekkpålegg stream",
        "From Skatteetaten's API to payroll, by the real programs on this machine. Orders and people are synthetic. "
        "Each ✓ was checked in the topic, read_committed, against what Skatteetaten holds.",
    )
    figures = Figures()
    narrator.step("Kafka, a registry, PostgreSQL, Skatteetaten and Maskinporten")
    with Stage(sizes.seed) as stage:
        with narrator.waiting("starting"):
            stage.raise_curtain()
        story.prepare_topics(stage, narrator)
        with Watch(stage.kafka.bootstrap_servers, stage.registry.url, stage.topics.versjoner) as watch:
            play = story.Play(stage, watch, narrator, figures)
            narrator.step("Orders arrive")
            producer = story.first_orders(play, sizes)
            narrator.step("An order changes twice between two polls")
            story.changed_twice(play, producer)
            narrator.step("A record that cannot be understood")
            story.malformed(play, producer)
            narrator.step("The producer is killed in the middle")
            producer = story.killed_in_the_middle(play, producer, sizes)
            narrator.step("Told of changes instead of asking for them")
            producer = swap_story.swapped(play, producer)
        narrator.step("The proof")
        story.proof(play, producer)
        narrator.step("Into a payroll ledger")
        ledger_story.into_a_ledger(play)
        narrator.step("A payout")
        ledger_story.payout(play)
        narrator.step("The ledger is rebuilt beside itself")
        ledger_story.replayed(play)
        narrator.step("Topics, ledger and source are compared")
        ledger_story.verified(play)
    figures.seconds = narrator.elapsed_seconds
    narrator.step("Measured")
    narrator.rows(summary_rows(figures))
    narrator.end("Every claim held. Nothing is left running.")


def _keep_proxies_out() -> None:
    """A proxy for the world outside must not be asked for this machine's own servers, nor by the programs started."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))


def _end(*_: object) -> NoReturn:
    # Only the first signal ends it: a second one must not break the stopping of the servers.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt
