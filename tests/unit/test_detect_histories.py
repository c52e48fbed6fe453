"""Detection: however the source is read, each version is published once, in order, and late if it was missing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from producer.detect.detect import needed_versions
from producer.domain.trekkpaalegg import Failed, Gone, Origin
from tests.unit.detections import Lane, order


@st.composite
def histories(draw):
    """Versions of several orders in the order they were made, and the moments when the source was read."""
    orders = draw(st.lists(st.sampled_from("ABCD"), min_size=1, max_size=25))
    made, counts = [], {}
    for sekvensnummer, trekkid in enumerate(orders, start=1):
        counts[trekkid] = counts.get(trekkid, 0) + 1
        made.append(order(trekkid, counts[trekkid], sekvensnummer))
    reads = draw(st.lists(st.tuples(st.integers(0, len(made)), st.booleans(), st.randoms()), max_size=12))
    return made, sorted(reads, key=lambda read: read[0])


@given(histories(), st.data())
def test_each_version_comes_once_and_in_order_however_the_source_is_read(history, data):
    """Any order of answers, repeats, holes, passing failures and versions gone for a while."""
    made, reads = history
    by_number = {(version.trekkid, version.trekkversjon): version for version in made}
    lane = Lane()
    for visible, fails, random in [*reads, (len(made), False, None), (len(made), False, None)]:
        newest = {version.trekkid: version for version in made[:visible]}
        elements = sorted(newest.values(), key=lambda version: version.sekvensnummer)
        if random is not None and elements:
            elements = sorted(random.choices(elements, k=2 * len(elements)), key=lambda version: version.sekvensnummer)
        answers = {
            need: data.draw(st.sampled_from([by_number[need], Failed("503")])) if fails else by_number[need]
            for need in needed_versions(lane.state, elements)
        }
        lane.take(*elements, versions=answers)
    assert sorted(p[:2] for p in lane.published) == sorted(by_number)
    for trekkid in "ABCD":
        versions = [p[1] for p in lane.published if p[0] == trekkid]
        assert versions == list(range(1, len(versions) + 1))
    assert lane.quarantined == []


@given(histories(), st.data())
def test_gone_versions_are_published_late_once_they_can_be_had(history, data):
    """Nothing is lost when the source hides old versions for a while: reconcile brings them, marked late."""
    made, reads = history
    by_number = {(version.trekkid, version.trekkversjon): version for version in made}
    lane = Lane()
    for visible, hides, _ in [*reads, (len(made), True, None)]:
        newest = {version.trekkid: version for version in made[:visible]}
        elements = sorted(newest.values(), key=lambda version: version.sekvensnummer)
        answers = {
            need: data.draw(st.sampled_from([by_number[need], Gone()])) if hides else by_number[need]
            for need in needed_versions(lane.state, elements)
        }
        lane.take(*elements, versions=answers)
    missing = [(key.decode(), v) for key, first, last in list(lane.state.missing()) for v in range(first, last + 1)]
    lane.take(*[by_number[version] for version in missing], origin=Origin.RECONCILE, moves_position=False)
    assert sorted(p[:2] for p in lane.published) == sorted(by_number)
    assert list(lane.state.missing()) == []
    assert all(p[3] == (p[:2] in missing) for p in lane.published)
