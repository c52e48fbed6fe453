"""Any history of the source and any run of failures: in the end each version is published once, in order.

A state machine drives two lanes, and their successors after they were lost, on a source and topics in memory. Versions
are made, hidden, revealed and withdrawn; pages and versions fail; transactions are aborted, fenced, or lose their
answer; observations are not stored, or late, or nobody learns that they are.
"""

from __future__ import annotations

import os
from collections import Counter

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule

from producer.domain.trekkpaalegg import Rejected, RejectionReason, Trekkstatus
from producer.errors import SuspendedError
from producer.publish.topics import lane_of
from tests.kit.fakes.observations import WriteFault
from tests.kit.fakes.publisher import Fault
from tests.kit.fakes.source import FakeSource
from tests.kit.history_world import LANES
from tests.kit.stages.lane_hall import LaneHall
from trekkpaalegg.errors import RetryableError

EMPLOYERS = ("311111111", "322222222", "333333333")
DAY_SECONDS = 86_400.0


class Histories(RuleBasedStateMachine):
    orders = Bundle("orders")
    hidden = Bundle("hidden")

    @initialize(maks_antall=st.integers(1, 4), overlap=st.sampled_from([0, 1, 3, 1000]))
    def begin(self, maks_antall, overlap):
        self.source = FakeSource(maks_antall=maks_antall)
        self.hall = LaneHall(self.source, [set(EMPLOYERS)], overlap_sekvensnummer=overlap)
        self.planted = 0

    # The source

    @rule(target=orders, trekkpliktig=st.sampled_from(EMPLOYERS))
    def create(self, trekkpliktig):
        return self.source.create(trekkpliktig).trekkid

    @rule(order=orders, versions=st.integers(1, 3))
    def change(self, order, versions):
        for _ in range(versions):
            self.source.change(order)

    @rule(target=hidden, order=orders)
    def change_out_of_sight(self, order):
        """A version that becomes visible late, after versions with higher numbers."""
        newest = self.newest(order)
        made = self.source.change(order)
        self.source.add(made, visible=False)
        assert made.trekkversjon == newest.trekkversjon + 1
        return (order, made.trekkversjon)

    @rule(target=hidden, trekkpliktig=st.sampled_from(EMPLOYERS))
    def create_out_of_sight(self, trekkpliktig):
        made = self.source.create(trekkpliktig)
        self.source.add(made, visible=False)
        return (made.trekkid, 1)

    @rule(version=hidden)
    def reveal(self, version):
        self.source.reveal(*version)

    @rule(order=orders, back=st.integers(0, 3))
    def withdraw(self, order, back):
        self.source.forget(order, max(self.newest(order).trekkversjon - back, 1))

    @rule(order=orders, back=st.integers(0, 3))
    def give_back(self, order, back):
        self.source.restore(order, max(self.newest(order).trekkversjon - back, 1))

    @rule(order=orders)
    def end_at_midnight(self, order):
        """The status of a version that may be published already changes, and nothing else."""
        newest = self.newest(order)
        if newest.trekkstatus is Trekkstatus.AKTIV:
            self.source.add(msgspec.structs.replace(newest, trekkstatus=Trekkstatus.AVSLUTTET))

    @rule(trekkpliktig=st.sampled_from(EMPLOYERS))
    def plant(self, trekkpliktig):
        self.planted += 1
        raw = f"broken {self.planted}".encode()
        number = self.source.create("999999999").sekvensnummer
        self.source.plant(
            trekkpliktig,
            Rejected(trekkpliktig, raw, raw.ljust(16), RejectionReason.NOT_AN_OBJECT, "$", "", None, None, number),
        )

    # Faults

    @rule(
        operation=st.sampled_from(["list", "version"]),
        times=st.integers(1, 3),
        error=st.sampled_from([RetryableError("503"), SuspendedError("403")]),
    )
    def fail_call(self, operation, times, error):
        self.source.fail(error, operation=operation, times=times)

    @rule(fault=st.sampled_from(Fault))
    def fail_transaction(self, fault):
        self.hall.kafka.fail(fault)

    @rule(fault=st.sampled_from(WriteFault), times=st.integers(1, 3))
    def fail_write(self, fault, times):
        self.hall.kafka.observations.fail(fault, times=times)

    @rule()
    def heal(self):
        self.source.heal()
        self.hall.kafka.heal()

    # The lanes

    @rule(trekkpliktig=st.sampled_from(EMPLOYERS))
    def wake_up(self, trekkpliktig):
        self.hall.signal(trekkpliktig, None, lane_of(trekkpliktig, LANES))

    @rule(steps=st.integers(1, 100))
    def work(self, steps):
        for _ in range(steps):
            for owner in list(self.hall.owners):
                self.hall.step(owner)

    @rule()
    def restart(self):
        self.hall.kill(0, 0)

    @rule(seconds=st.sampled_from([60.0, DAY_SECONDS / 2, DAY_SECONDS + 1]))
    def wait(self, seconds):
        self.hall.seconds += seconds

    # What holds in the end

    def teardown(self):
        if hasattr(self, "hall"):
            self.end_well()
            self.check()

    def end_well(self):
        """Everything visible, nothing failing: full comparisons, and time to try what failed."""
        self.heal()
        for version in self.source.versions():
            self.source.reveal(version.trekkid, version.trekkversjon)
            self.source.restore(version.trekkid, version.trekkversjon)
        for _ in range(2):
            self.hall.seconds += 2 * DAY_SECONDS
            assert self.hall.run_until(self.hall.readings.ended + Counter(EMPLOYERS))

    def check(self):
        versions = [each for each in self.source.versions() if each.trekkpliktig in EMPLOYERS]
        published = [each for each in self.hall.events() if each.correction is None]
        made = sorted((each.trekkid, each.trekkversjon) for each in versions)
        assert sorted((each.trekkid, each.trekkversjon) for each in published) == made
        newest = {}
        for each in published:
            if not each.late:
                assert each.trekkversjon > newest.get(each.trekkid, 0)
                newest[each.trekkid] = each.trekkversjon
        current = {}
        for each in self.hall.current():
            assert not each.late
            assert each.trekkversjon >= current.get(each.trekkid, 0)
            current[each.trekkid] = each.trekkversjon
        assert current == {each.trekkid: each.trekkversjon for each in versions}
        quarantined = self.hall.kafka.committed(self.hall.kafka.topics.quarantine)
        assert [each.headers["ce_reason"] for each in quarantined] == [b"not_an_object"] * self.planted
        assert [list(state.orders.open_orders()) for state in self.hall.states()] == [[]] * LANES

    def newest(self, order):
        return max(
            (each for each in self.source.versions() if each.trekkid == order), key=lambda each: each.trekkversjon
        )


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=int(os.environ.get("HISTORIES_MAX", "60")),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
