"""Any history of the source and any run of failures: in the end each version is published once, in order.

A state machine drives one lane, and its successors after it was lost, on a source and topics in memory. Versions are
made, hidden, revealed and withdrawn; pages and versions fail; transactions are aborted, fenced, or lose their answer;
observations are not stored, or nobody learns that they are.
"""

from __future__ import annotations

import os

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule

from producer.domain.trekkpaalegg import Rejected, RejectionReason, Trekkstatus
from producer.errors import LaneFencedError, OutcomeUnknownError, SuspendedError
from tests.kit.fakes.observations import WriteFault
from tests.kit.fakes.publisher import Fault
from tests.kit.stages.lane_stage import DAY, SECOND, LaneStage
from trekkpaalegg.errors import RetryableError

EMPLOYERS = ("311111111", "322222222")
MINUTE = 60 * SECOND


class Histories(RuleBasedStateMachine):
    orders = Bundle("orders")
    hidden = Bundle("hidden")

    @initialize(maks_antall=st.integers(1, 4), overlap=st.sampled_from([0, 1, 3, 1000]))
    def begin(self, maks_antall, overlap):
        self.stage = LaneStage(EMPLOYERS, maks_antall=maks_antall, overlap_sekvensnummer=overlap)
        self.planted = 0
        self.stage.start()

    # The source

    @rule(target=orders, trekkpliktig=st.sampled_from(EMPLOYERS))
    def create(self, trekkpliktig):
        return self.stage.source.create(trekkpliktig).trekkid

    @rule(order=orders, versions=st.integers(1, 3))
    def change(self, order, versions):
        for _ in range(versions):
            self.stage.source.change(order)

    @rule(target=hidden, order=orders)
    def change_out_of_sight(self, order):
        """A version that becomes visible late, after versions with higher numbers."""
        newest = self.newest(order)
        made = self.stage.source.change(order)
        self.stage.source.add(made, visible=False)
        assert made.trekkversjon == newest.trekkversjon + 1
        return (order, made.trekkversjon)

    @rule(target=hidden, trekkpliktig=st.sampled_from(EMPLOYERS))
    def create_out_of_sight(self, trekkpliktig):
        made = self.stage.source.create(trekkpliktig)
        self.stage.source.add(made, visible=False)
        return (made.trekkid, 1)

    @rule(version=hidden)
    def reveal(self, version):
        self.stage.source.reveal(*version)

    @rule(order=orders, back=st.integers(0, 3))
    def withdraw(self, order, back):
        self.stage.source.forget(order, max(self.newest(order).trekkversjon - back, 1))

    @rule(order=orders, back=st.integers(0, 3))
    def give_back(self, order, back):
        self.stage.source.restore(order, max(self.newest(order).trekkversjon - back, 1))

    @rule(order=orders)
    def end_at_midnight(self, order):
        """The status of a version that may be published already changes, and nothing else."""
        newest = self.newest(order)
        if newest.trekkstatus is Trekkstatus.AKTIV:
            self.stage.source.add(msgspec.structs.replace(newest, trekkstatus=Trekkstatus.AVSLUTTET))

    @rule(trekkpliktig=st.sampled_from(EMPLOYERS))
    def plant(self, trekkpliktig):
        self.planted += 1
        raw = f"broken {self.planted}".encode()
        number = self.stage.source.create("999999999").sekvensnummer
        self.stage.source.plant(
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
        self.stage.source.fail(error, operation=operation, times=times)

    @rule(fault=st.sampled_from(Fault))
    def fail_transaction(self, fault):
        self.stage.kafka.fail(fault)

    @rule(fault=st.sampled_from([WriteFault.REFUSED, WriteFault.ANSWER_LOST]), times=st.integers(1, 3))
    def fail_write(self, fault, times):
        self.stage.observations.fail(fault, times=times)

    @rule()
    def heal(self):
        self.stage.source.heal()
        self.stage.kafka.heal()

    # The lane

    @rule(trekkpliktig=st.sampled_from(EMPLOYERS))
    def read(self, trekkpliktig):
        self.revive()
        self.stage.read(trekkpliktig)

    @rule()
    def restart(self):
        self.stage.start()

    @rule(microseconds=st.sampled_from([MINUTE, DAY // 2, DAY + 1]))
    def wait(self, microseconds):
        self.stage.now += microseconds

    # What holds in the end

    def teardown(self):
        if not hasattr(self, "stage"):
            return
        try:
            self.end_well()
            self.check()
        finally:
            self.stage.__exit__(None, None, None)

    def end_well(self):
        """Everything visible, nothing failing: one full comparison."""
        source = self.stage.source
        self.heal()
        for version in source.versions():
            source.reveal(version.trekkid, version.trekkversjon)
            source.restore(version.trekkid, version.trekkversjon)
        self.stage.now += 2 * DAY
        self.revive()
        self.stage.read()
        self.stage.wait_until(lambda: not self.open_orders())
        assert self.stage.error is None
        assert set(self.stage.journal.errors.values()) == {None}

    def check(self):
        versions = [each for each in self.stage.source.versions() if each.trekkpliktig in EMPLOYERS]
        published = [each for each in self.stage.versjoner() if each.correction is None]
        made = sorted((each.trekkid, each.trekkversjon) for each in versions)
        assert sorted((each.trekkid, each.trekkversjon) for each in published) == made
        newest = {}
        for each in published:
            if not each.late:
                assert each.trekkversjon > newest.get(each.trekkid, 0)
                newest[each.trekkid] = each.trekkversjon
        current = {}
        for each in self.stage.gjeldende():
            assert not each.late
            assert each.trekkversjon >= current.get(each.trekkid, 0)
            current[each.trekkid] = each.trekkversjon
        assert current == {each.trekkid: each.trekkversjon for each in versions}
        assert self.stage.quarantined() == ["not_an_object"] * self.planted
        assert self.open_orders() == []

    def open_orders(self):
        return list(self.stage.kafka.state(0).orders.open_orders())

    def newest(self, order):
        return max(
            (each for each in self.stage.source.versions() if each.trekkid == order), key=lambda each: each.trekkversjon
        )

    def revive(self):
        """The lane and its readings ended by requested faults only, not by unexpected ones."""
        while self.stage.has_ended:
            assert isinstance(self.stage.error, OutcomeUnknownError | LaneFencedError | RetryableError), (
                self.stage.error
            )
            self.stage.start()
        for error in self.stage.journal.errors.values():
            assert error is None or isinstance(error, RetryableError | SuspendedError), error


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=int(os.environ.get("HISTORIES_MAX", "40")),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
