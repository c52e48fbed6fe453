"""Measure back-fill and ledgers against raw loops, in one run.

Nothing here fails for being slow: figures are for people to compare, by the ratios within one run. CPU seconds are
those of the producer's or consumer's process alone; Kafka, PostgreSQL and the simulated API have their own processes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from consumer_cases import CONSUMER_CASES, run_consumer_case
from consumer_stage import set_stage
from many_cases import MANY_CASES, run_many_case
from producer_cases import PRODUCER_CASES, run_producer_case
from report import as_json, print_tables

from sandbox.servers.kafka import EmbeddedKafka
from sandbox.servers.postgresql import EmbeddedPostgresql

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

QUICK_SHARE = 0.05
_FRESH = multiprocessing.get_context("forkserver")
_MODULES_OF_CASES = ("consumer_cases", "consumer_stage", "many_cases", "producer_cases")
CASES = (*PRODUCER_CASES, *MANY_CASES, *CONSUMER_CASES)


def main() -> None:
    """Run the chosen cases, each in a fresh process, and tell."""
    options = _options()
    # A fresh process is forked from one that has imported everything; Python 3.11 does not tell that one `sys.path`.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    _FRESH.set_forkserver_preload([*_MODULES_OF_CASES])
    share = QUICK_SHARE if options.quick else options.scale
    of_producer, of_many, of_consumers = (
        [case.scaled(share) for case in cases if not options.case or case.name in options.case]
        for cases in (PRODUCER_CASES, MANY_CASES, CONSUMER_CASES)
    )
    load_before = os.getloadavg()[0]
    produced, many, consumed = [], [], []
    with ExitStack() as opened:
        kafka = opened.enter_context(EmbeddedKafka())
        for case in of_producer:
            _say(f"{case.name}: {case.orders} orders …")
            produced.append(_in_fresh_process(run_producer_case, case, kafka.bootstrap_servers))
        for case in of_many:
            _say(f"{case.name}: {case.size} …")
            many.append(_in_fresh_process(run_many_case, case, kafka.bootstrap_servers))
        if of_consumers:
            postgresql = opened.enter_context(EmbeddedPostgresql())
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            events = of_consumers[0].events
            _say(f"{events} events for the consumers …")
            stage = _in_fresh_process(set_stage, kafka.bootstrap_servers, postgresql.url, folder, events)
        for case in of_consumers:
            _say(f"{case.name}: {case.events} events …")
            consumed.append(_in_fresh_process(run_consumer_case, case.name, stage))
    if options.json:
        sys.stdout.write(as_json(produced, many, consumed, load_before) + "\n")
    else:
        print_tables(produced, many, consumed, load_before)


def _in_fresh_process(work: Callable[..., Any], *parameters: object) -> Any:
    with ProcessPoolExecutor(1, _FRESH) as pool:
        return pool.submit(work, *parameters).result()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.epilog = "cases: " + "; ".join(f"{case.name} ({case.what})" for case in CASES)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="may be given again")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SHARE:.0%} of the sizes")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the sizes")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


if __name__ == "__main__":
    main()
