"""Orders move between employers, and employers come onto our list and leave it: every version is published once.

The scenarios are those of `orders.py`, the executable model of the protocol. All are played side by side on the same
servers and two workers, once while these poll and once while they ask Altinn; then each is judged by itself.
"""

from __future__ import annotations

import signal
import uuid
from contextlib import closing
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import pytest

from producer.publish.state import read_lane_state
from sandbox.altinn.state import Behaviour
from sandbox.control.world import OutsideWorld
from sandbox.demo.proof import faults_of, versions_of_source
from sandbox.skatteetaten.generate import trekkpliktige
from tests.kit.processes import LedgerFollower, document
from tests.kit.stages.producer_stage import ProducerStage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sandbox.demo.proof import Published
    from sandbox.servers.kafka import EmbeddedKafka
    from tests.kit.processes import ProducerProcess

pytestmark = pytest.mark.kafka

SECONDS_MAX = 90.0
SERVED = "trekkpaalegg_trekkpliktige{"
PARENT = "A"
NAMES = "ABCX"

SCENARIOS: dict[str, tuple[str, str]] = {
    "A to B": ("AB", "A1 = B ="),
    "A to B to A": ("AB", "A1 B A"),
    "A to B to C": ("ABC", "A1 B C"),
    "A off the list, then A to B": ("AB", "A1 = | -A | B"),
    "A to B, then A off the list": ("AB", "A1 = B | -A | ="),
    "sub-unit added to the list": ("A", "<X X1 = | +X | ="),
    "sub-unit off the list": ("AX", "<X X1 = | -X | ="),
    "in two lists of ours at once": ("AX", "<X X1 = ="),
    "a new employer, whose orders were another's": ("A", "A1 = B | +B | ="),
    "A off and on again": ("AB", "A1 | -A | = B | +A | ="),
    "sub-unit's order to another parent": ("AB", "<X X1 = B >X ="),
}
"""Who is ours at first, and what happens. `A1` is a new order of A, `=` its next version, `B` its next version, which
names B, `<X` lets A see the orders of X, `>X` no longer, and `| -A |` takes A off our list."""


class Scenario:
    """One of `SCENARIOS` with employers and orders of its own: all orders do the same.

    The `seen` one does each thing after what came before is published, the `unseen` one many at once.
    """

    def __init__(self, stage: ProducerStage, employers: list[str], ours: str, script: str) -> None:
        self.skatteetaten = stage.outside.skatteetaten
        self.employers = dict(zip(NAMES, employers, strict=True))
        self.ours = set(ours)
        self.phases = [phase.split() for phase in script.split("|")]
        self.orders: dict[str, str] = {}

    def act(self, step: str | None, which: str) -> None:
        """Do one thing to the order of this name, or what concerns both when it is the turn of the one that is seen."""
        employers, skatteetaten = self.employers, self.skatteetaten
        if step is None or (which == "unseen" and step[0] in "+-<>"):
            return
        kind, name = step[0], step[-1]
        if kind == "+":
            self.ours.add(name)
        elif kind == "-":
            self.ours.remove(name)
        elif kind == "<":
            skatteetaten.add_unit(employers[PARENT], employers[name])
        elif kind == ">":
            skatteetaten.remove_unit(employers[PARENT], employers[name])
        elif name == "1":
            self.orders[which] = skatteetaten.create(employers[kind]).trekkid
        elif kind == "=":
            skatteetaten.change(self.orders[which])
        else:
            skatteetaten.move(self.orders[which], employers[name])

    def awaited(self) -> set[tuple[str, int]]:
        """The newest versions that an employer of ours has in its own list now."""
        newest = [self.skatteetaten.book.newest(trekkid) for trekkid in self.orders.values()]
        ours = {self.employers[name] for name in self.ours}
        return {(each.trekkid, each.trekkversjon) for each in newest if each is not None and each.owner in ours}


class Play:
    """All scenarios on one stage, played to their end, and what came of them."""

    def __init__(self, stage: ProducerStage) -> None:
        self.stage = stage
        names = iter(trekkpliktige(0, len(NAMES) * len(SCENARIOS)))
        self.scenarios = {
            name: Scenario(stage, [next(names) for _ in NAMES], *told) for name, told in SCENARIOS.items()
        }
        for scenario in self.scenarios.values():
            for each in scenario.employers.values():
                stage.outside.register(each)
        self.list = stage.folder / "employers"
        self.set_list()
        stage.settings |= {"TREKKPAALEGG_TREKKPLIKTIGE": "", "TREKKPAALEGG_TREKKPLIKTIGE_FILE": str(self.list)}
        self.versjoner: list[Published] = []
        self.gjeldende: list[Published] = []

    def set_list(self, workers: Sequence[ProducerProcess] = ()) -> None:
        """Write down who is ours, and wait until the workers know."""
        stage, before = self.stage, self.stage.employers
        stage.employers = [each.employers[name] for each in self.scenarios.values() for name in sorted(each.ours)]
        if stage.employers == before:
            return
        self.list.write_text("\n".join(stage.employers))
        if workers:
            stage.wait_until(
                lambda: sum(stage.metric(each, SERVED) for each in workers) == len(stage.employers),
                SECONDS_MAX,
                "the workers have the new list",
            )

    def play(self) -> None:
        """Each phase of all scenarios side by side, then a full comparison."""
        stage = self.stage
        workers = [stage.run(), stage.run()]
        stage.wait_until_owned(*workers, deadline_seconds=SECONDS_MAX)
        for phases in zip_longest(*(each.phases for each in self.scenarios.values()), fillvalue=[]):
            for steps in zip_longest(*phases):
                for scenario, step in zip(self.scenarios.values(), steps, strict=True):
                    scenario.act(step, "seen")
                self.set_list(workers)
                self.wait_until_published()
            for scenario, phase in zip(self.scenarios.values(), phases, strict=True):
                for step in phase:
                    scenario.act(step, "unseen")
        self.wait_until_published()
        self.end_well(stage.begin("reconcile"))
        stage.wait_until_published(SECONDS_MAX)
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        for worker in workers:
            self.end_well(worker)
        self.versjoner, self.gjeldende = stage.versjoner(), stage.gjeldende()

    def wait_until_published(self) -> None:
        """Until what lists of ours show is published."""
        awaited = {identity for each in self.scenarios.values() for identity in each.awaited()}
        try:
            self.stage.wait_until(
                lambda: awaited <= self.stage.arrived().keys(), SECONDS_MAX, "what our lists show is published"
            )
        except TimeoutError:
            lacking = {trekkid for trekkid, _ in awaited - self.stage.arrived().keys()}
            of = [name for name, each in self.scenarios.items() if lacking & set(each.orders.values())]
            raise TimeoutError(f"not published: what our lists show in {of}") from None

    @staticmethod
    def end_well(process: Any) -> str:
        """Its output, once it has ended with 0."""
        code = process.wait(SECONDS_MAX)
        output = str(process.log_file.read_text())
        assert code == 0, output
        return output


@pytest.fixture(scope="module", params=["polling", "pull"])
def play(
    request: pytest.FixtureRequest, kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Play]:
    """All scenarios, played. Polling compares everything now and then, where Altinn is asked only the command does."""
    folder = tmp_path_factory.mktemp("moved")
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    with OutsideWorld() as outside, closing(ProducerStage(kafka, outside, prefix, folder)) as stage:
        outside.altinn.behaviour = Behaviour(time_factor=0.0)
        stage.apply_topics()
        stage.settings |= stage.woken_by(request.param)
        if request.param == "polling":
            stage.settings |= {"TREKKPAALEGG_RECONCILE_INTERVAL_SECONDS": "2"}
        played = Play(stage)
        played.play()
        yield played


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_version_is_published_once_whatever_moves(play: Play, name: str) -> None:
    orders = set(play.scenarios[name].orders.values())
    source = versions_of_source(play.stage.outside.skatteetaten)
    versjoner = [each for each in play.versjoner if each.event.trekkid in orders]
    faults = faults_of(
        versjoner,
        [each for each in play.gjeldende if each.event.trekkid in orders],
        {identity: each for identity, each in source.items() if identity[0] in orders},
    )
    assert (len(orders), faults, [each.identity for each in versjoner if each.late]) == (2, [], [])


def test_nothing_is_missing_or_open_at_the_end(play: Play) -> None:
    properties = {"bootstrap.servers": play.stage.kafka.bootstrap_servers}
    states = [read_lane_state(properties, play.stage.topics.positions, lane) for lane in range(play.stage.lanes)]
    assert [list(state.orders.open_orders()) for state in states] == [[]] * play.stage.lanes
    assert sum(len(state.orders) for state in states) == 2 * len(SCENARIOS)
    assert play.stage.quarantined() == []


def test_comparing_once_more_finds_nothing_and_ledger_topics_and_source_are_equal(play: Play, tmp_path: Path) -> None:
    told = document(play.end_well(play.stage.begin("reconcile", "--json")))
    assert (told["published"], told["quarantined"], told["differences"]) == (0, 0, [])
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    with closing(LedgerFollower(play.stage.environment(None), ledger, tmp_path)) as follower:
        play.end_well(follower.begin("run", "--until-end"))
        code, words = follower.verify()
    assert code == 0, words
