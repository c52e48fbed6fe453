"""Cases to run in, a table of what each cost out: the back-fill measured against a raw loop, in one run.

Nothing here fails for being slow: figures are for people to compare, by the ratios within one run. CPU seconds are
those of the producer's process alone; Kafka and the simulated API have processes of their own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor

from cases import CASES, run_case
from report import as_json, print_table

from sandbox.kafka import EmbeddedKafka

QUICK_SHARE = 0.05


def main() -> None:
    """Run the chosen cases, each in a fresh process, and tell."""
    options = _options()
    share = QUICK_SHARE if options.quick else options.scale
    chosen = [case.scaled(share) for case in CASES if not options.case or case.name in options.case]
    load_before = os.getloadavg()[0]
    told = []
    with EmbeddedKafka() as kafka:
        for case in chosen:
            sys.stderr.write(f"{case.name}: {case.orders} orders …\n")
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                told.append(pool.submit(run_case, case, kafka.bootstrap_servers).result())
    if options.json:
        sys.stdout.write(as_json(told, load_before) + "\n")
    else:
        print_table(told, load_before)


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
