"""The bench runs: every case, tiny, with the figures that it promises. Never how fast."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / "bench" / "run.py"
BENCH_SECONDS_MAX = 900

HISTORY = {"ledger-raw", "ledger", "ledger-two"}
NEWEST = {"ledger-newest-raw", "ledger-newest"}
WITHOUT_RAW_LOOP = {"verify", "verify-ledger", "payout"}
CONSUMERS = HISTORY | NEWEST | WITHOUT_RAW_LOOP | {"ledger-sqlite", "replay"}

pytestmark = pytest.mark.kafka


def test_every_case_runs_and_tells_what_it_cost() -> None:
    finished = subprocess.run(
        [sys.executable, str(RUN), "--scale", "0.0005", "--json"],
        capture_output=True,
        text=True,
        timeout=BENCH_SECONDS_MAX,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    told = json.loads(finished.stdout)
    assert told["machine"]["cores"] >= 1
    cases = {each["case"]: each for each in told["cases"]}
    assert set(cases) == {"raw", "raw-compiled", "backfill", "backfill-large", "employers", "gapfill"} | CONSUMERS
    assert cases["raw"]["versions"] == cases["raw-compiled"]["versions"] == cases["backfill"]["versions"] == 50
    assert cases["backfill-large"]["versions"] == 500
    assert cases["gapfill"]["versions"] > 2 * cases["gapfill"]["orders"]
    many = {each["case"]: each for each in told["many"]}
    assert set(many) == {"notified", "notified-busy", "idle-round", "employers-held", "hand-over"}
    for name in ("notified", "notified-busy"):
        assert 0 < many[name]["p50_milliseconds"] <= many[name]["p99_milliseconds"]
    assert many["idle-round"]["tokens"] == many["idle-round"]["size"]
    assert many["notified"]["p99_of_bare"] > 0
    assert many["hand-over"]["killed_seconds"] > many["hand-over"]["asked_seconds"] > 0
    for each in cases.values():
        assert each["cpu_seconds"] > 0
        assert each["wall_seconds"] > 0
        assert each["versions_a_cpu_second"] > 0
    assert all(each["of_raw"] > 0 for name, each in cases.items() if name not in WITHOUT_RAW_LOOP)
    assert {cases[name]["versions"] for name in HISTORY} == {50}
    assert len({cases[name]["rows_digest"] for name in HISTORY}) == 1, "the raw loop does other work than the ledger"
    assert len({cases[name]["rows_digest"] for name in NEWEST}) == 1, "the raw loop does other work than the ledger"
    assert cases["verify"]["versions"] == cases["verify-ledger"]["versions"] == 100
    assert cases["ledger-sqlite"]["versions"] == cases["replay"]["versions"] == cases["payout"]["versions"] == 50
