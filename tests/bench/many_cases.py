"""The cases with many employers, and of what wakes their readings."""

from __future__ import annotations

import gc
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec
from figures import cpu_seconds, resident_bytes
from notified_cases import notified
from producer_cases import bench_settings, make_topics
from producer_stage import lanes_of, start_producer, until
from round_case import idle_round

from producer.admin.kafka import KafkaAdmin
from producer.domain.state import LaneState
from producer.lane.schedule import Schedule
from producer.publish.topics import PARTITIONS_DEFAULT, lane_of
from producer.settings.model import load_settings
from producer.settings.trekkpliktige import ServedTrekkpliktige, TrekkpliktigeList
from producer.source.auth.tokens import HeldToken, TokenCache
from sandbox.skatteetaten.generate import trekkpliktige
from tests.kit.processes import OutsideProcess
from trekkpaalegg.kafka.properties import kafka_properties
from trekkpaalegg.logs import configure_logs

TOKEN_CHARACTERS = 1500


class Measures(msgspec.Struct, frozen=True):
    """What one case showed; names end in their units."""

    case: str
    size: int
    measures: dict[str, float]


class ManyCase(msgspec.Struct, frozen=True):
    """One case. `size` is of changes, or of employers; `orders` are back-filled meanwhile."""

    name: str
    what: str
    size: int
    orders: int = 0

    def scaled(self, share: float) -> ManyCase:
        return msgspec.structs.replace(
            self, size=max(int(self.size * share), 20), orders=max(int(self.orders * share), min(self.orders, 20))
        )


MANY_CASES = (
    ManyCase("notified", "from the call that tells of a change to its event read committed, 50 a second", 1000),
    ManyCase("notified-busy", "the same while orders of other employers are back-filled", 1000, orders=400_000),
    ManyCase("idle-round", "a round of employers with nothing new, a token each", 100_000),
    ManyCase("employers-held", "memory of all that is held for employers", 100_000),
    ManyCase("hand-over", "how long lanes are nobody's; size is of employers", 20),
)


def run_many_case(case: ManyCase, kafka_brokers: str) -> Measures:
    """Run one case in this process."""
    configure_logs(level="ERROR")
    gc.freeze()
    run = {
        "idle-round": lambda case, brokers: idle_round(case.size, brokers),
        "employers-held": _employers_held,
        "hand-over": _hand_over,
    }
    if case.name in run:
        return Measures(case.name, case.size, run[case.name](case, kafka_brokers))
    return Measures(case.name, case.size, notified(case.size, case.orders, kafka_brokers))


class _Tokens(TokenCache):
    def fetch(self, trekkpliktig: str) -> HeldToken:
        return HeldToken(trekkpliktig + "x" * TOKEN_CHARACTERS, 1e12)


def _employers_held(case: ManyCase, brokers: str) -> dict[str, float]:  # noqa: ARG001 - as the other cases
    """The list, the schedules, the state and a token of each, as a service of one process holds them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trekkpliktige"
        file.write_text("\n".join(trekkpliktige(0, case.size)))
        gc.collect()
        before = resident_bytes()
        settings = load_settings(None, {"TREKKPAALEGG_TREKKPLIKTIGE_FILE": str(file)}, needs=frozenset())
        used = cpu_seconds()
        served = ServedTrekkpliktige(TrekkpliktigeList(settings, lambda _: None))
        lanes = [served.in_lane(lane, PARTITIONS_DEFAULT) for lane in range(PARTITIONS_DEFAULT)]
        list_seconds, used = cpu_seconds() - used, cpu_seconds()
        schedules = [Schedule(300.0, lambda: 1.0) for _ in lanes]
        for schedule, names in zip(schedules, lanes, strict=True):
            schedule.set_trekkpliktige(names, 1.0)
        states = [LaneState() for _ in lanes]
        step_at = cpu_seconds()
        for name in served:
            lane = lane_of(name, PARTITIONS_DEFAULT)
            schedules[lane].notify(name)
            schedules[lane].start_next(2.0)
            schedules[lane].succeeded(name, 2.0)
            states[lane].ensure(name)
        steps = cpu_seconds() - step_at
        gc.collect()
        without_tokens = resident_bytes()
        tokens = _Tokens()
        for name in served:
            tokens.token_for(name)
        gc.collect()
        held = resident_bytes()
    return {
        "megabytes": (held - before) / 1e6,
        "megabytes_without_tokens": (without_tokens - before) / 1e6,
        "bytes_an_employer_without_tokens": (without_tokens - before) / case.size,
        "list_cpu_seconds": list_seconds,
        "schedule_microseconds_a_reading": steps / case.size * 1e6,
    }


def _hand_over(case: ManyCase, brokers: str) -> dict[str, float]:
    """From the signal that ends one of two workers to the other having taken every lane of its."""
    measures = {}
    with ExitStack() as opened:
        outside = opened.enter_context(
            OutsideProcess("--trekkpliktige", str(case.size), "--orders", "0", "--no-examples")
        )
        settings, environment = bench_settings(outside, brokers)
        make_topics(KafkaAdmin(kafka_properties(settings)), settings.topic_prefix)
        stays = start_producer(opened, environment)
        until(lambda: lanes_of(stays) == PARTITIONS_DEFAULT, "all lanes are taken")
        for way in ("asked", "killed"):
            begun = time.monotonic()
            goes = start_producer(opened, environment)
            until(lambda goes=goes: lanes_of(goes) == lanes_of(stays) == PARTITIONS_DEFAULT // 2, "lanes are shared")
            measures[f"joined_before_{way}_seconds"] = time.monotonic() - begun
            begun = time.monotonic()
            goes.stop() if way == "asked" else goes.kill()
            until(lambda: lanes_of(stays) == PARTITIONS_DEFAULT, "all lanes are taken over")
            measures[f"{way}_seconds"] = time.monotonic() - begun
    return measures
