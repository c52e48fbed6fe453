"""From a key to its partition, as Kafka's own clients choose it: murmur2 of the bytes. Pure."""

from __future__ import annotations

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF
_WORD_BYTES = 4


def murmur2(data: bytes) -> int:
    """32 bits of MurmurHash2 with Kafka's seed (org.apache.kafka.common.utils.Utils.murmur2), unsigned."""
    length = len(data)
    h = _SEED ^ length
    whole = length - length % _WORD_BYTES
    for start in range(0, whole, _WORD_BYTES):
        k = int.from_bytes(data[start : start + _WORD_BYTES], "little") * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


def lane_of(trekkpliktig: str, lanes: int) -> int:
    """The lane that serves this trekkpliktig: the partition to which its key goes."""
    return (murmur2(trekkpliktig.encode()) & _POSITIVE) % lanes
