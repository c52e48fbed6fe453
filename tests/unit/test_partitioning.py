"""The lane of a trekkpliktig is the partition that Kafka's own clients choose."""

from __future__ import annotations

import pytest

from producer.publish.topics import lane_of, murmur2


@pytest.mark.parametrize(
    ("data", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_agrees_with_the_vectors_of_kafkas_own_tests(data, signed):
    assert murmur2(data) == signed & 0xFFFFFFFF


def test_every_lane_gets_its_share():
    lanes = [lane_of(str(number), 6) for number in range(100_000_000, 100_006_000)]
    assert all(800 < lanes.count(lane) < 1200 for lane in range(6))
